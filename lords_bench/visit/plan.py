"""What a visit to a GPU runs, in which order, and how long each step may take.

Thirty minutes that come in commands of ten are three visits of nine minutes, one per part, each going on from the
archive of the one before; longer ones run all parts. docs/measuring/visit.md says what each step answers.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from lords_bench.visit.steps import REPORT, REPORT_SECONDS, Step

VisitDevice = Literal["cuda", "cpu", "fake"]
StepName = Literal[
    "env", "check", "sanitize", "goals", "ptq",
    "tune-one", "tune-few", "step", "cold", "eager",
    "testbed", "accuracy", "lifecycle", "tune-many", "large", "narrow", "hot",
    "report",
]  # fmt: skip
STEPS: tuple[StepName, ...] = get_args(StepName)
# The report closes every part.
PARTS: Mapping[int, tuple[StepName, ...]] = MappingProxyType(
    {
        1: ("env", "check", "sanitize", "goals", "ptq"),
        2: ("tune-one", "tune-few", "step", "cold", "eager"),
        3: ("testbed", "accuracy", "lifecycle", "tune-many", "large", "narrow", "hot"),
    }
)
# What there is no GPU for: kernels to check or watch, and hours of a processor.
_GPU_ONLY = frozenset({"check", "sanitize", "goals", "tune-few", "tune-many", "large", "narrow", "hot", "testbed",
                       "accuracy", "lifecycle"})  # fmt: skip
# The model that a visit trains: its folder in the visit's.
MODEL_FOLDER = "model"
# Seconds that a problem of a kernel gets before the next is begun: compiling its space, ten tries, two run-offs. The
# tuning steps have time for three, the formula's kernel of every format (LoRDS, NormalFloat and integer blocks), so
# that none is tuned alone; the same step of a later visit goes on with the other kernels.
TUNE_LEAST = "25s"


def plan(
    device: VisitDevice, out: Path, *, chosen: tuple[str, ...] | None = None, part: int | None = None
) -> tuple[Step, ...]:
    """The steps of a visit in order.

    Args:
        device: what is visited; a processor and a fake device have fewer steps.
        out: folder that everything is written to.
        chosen: only these.
        part: only those of one part, and the report.
    """
    names = STEPS if part is None else (*PARTS[part], REPORT)
    return tuple(
        step
        for step in _all(device, out)
        if step.name in names
        and (chosen is None or step.name in chosen)
        and (device == "cuda" or step.name not in _GPU_ONLY)
    )


def _all(device: VisitDevice, out: Path) -> tuple[Step, ...]:
    reports = ("--out", str(out / "reports"))
    on = {"cuda": ("--device", "cuda"), "cpu": ("--device", "cpu"), "fake": ("--fake",)}[device]
    timed = ("bench", "latency", *on, *reports, "--no-page", "--minutes", "{minutes}")
    layers = ("--models", "llama-3-8b") if device != "cpu" else ()
    few = {"cuda": (), "cpu": ("--m", "1"), "fake": ("--m", "1,256")}[device]
    tune = ("tune", "--device", device, "--out", str(out / "tuned"), "--budget", "{seconds}s", "--least", TUNE_LEAST)
    parity = ("--ranks", "parity", "--blocks", "64", "--shapes", "4096x4096,14336x4096,4096x14336,1024x4096")
    costs = ("--device", "cpu", "--scale", "32", "--layers", "1") if device != "cuda" else ("--device", "cuda")
    model = ("--model", str(out / MODEL_FOLDER), "--device", "cuda", *reports, "--no-page")
    # No kernel is named: all that take a product are tuned, of the baselines as of LoRDS, or no route could change.
    tuned: dict[str, tuple[str, ...]] = {
        "tune-one": (*tune, "--m", "1", *parity),
        "tune-few": (*tune, "--m", "16", *parity),
        "tune-many": (*tune, "--m", "256", *parity),
    }
    if device != "cuda":
        tuned["tune-one"] = tune
    # Where the fused product of many tokens gives way to a scratch matrix and cuBLAS.
    crossing = ("--kernels", "scale_tile_gemm,dequantize_matmul") if device == "cuda" else ()
    any_block = ("--full", "--policy", "quick")
    return (
        Step(name="env", arguments=("env",), nominal_s=20, most_s=60),
        Step(name="check", arguments=("kernels", "--check", *reports), nominal_s=180, most_s=330, once=True),
        Step(name="sanitize", arguments=("kernels", "--sanitize", *reports), nominal_s=70, most_s=150, once=True),
        Step(name="goals", arguments=(*timed, *any_block, *layers, "--blocks", "128", "--bits", "4", "--m", "1,8,16,64",
             "--kernels", "scale_tile,scale_tile_gemm", "--regimes", "cold"), nominal_s=100, most_s=180, again=1),
        Step(name="ptq", arguments=("bench", "ptq", *costs, *reports, "--no-page", "--minutes", "{minutes}"),
             nominal_s=140, most_s=300, once=True, again=1),
        Step(name="tune-one", arguments=tuned["tune-one"], nominal_s=80, again=1),
        Step(name="tune-few", arguments=tuned["tune-few"], nominal_s=80, again=1),
        Step(name="step", arguments=("bench", "step", *costs, *_tokens(device), *reports, "--no-page"), nominal_s=110,
             most_s=150, once=True),
        Step(name="cold", arguments=(*timed, *few, *crossing, *_regimes(device, "cold")), nominal_s=180, again=3),
        Step(name="eager", arguments=(*timed, *few, *_regimes(device, "eager")), nominal_s=60, again=3),
        Step(name="testbed", arguments=("testbed", "train", "--out", str(out / MODEL_FOLDER), "--seconds", "{seconds}",
             "--size", "large"), nominal_s=200, most_s=480, once=True),
        Step(name="accuracy", arguments=("bench", "accuracy", *model), nominal_s=75, again=1),
        Step(name="lifecycle", arguments=("bench", "lifecycle", *model), nominal_s=60, again=1),
        Step(name="tune-many", arguments=tuned["tune-many"], nominal_s=60, again=1),
        Step(name="large", arguments=(*timed, *any_block, "--models", "llama-3-70b", "--blocks", "128", "--bits", "4",
             "--m", "1,16,1024", "--regimes", "cold"), nominal_s=45, again=1),
        Step(name="narrow", arguments=(*timed, *any_block, *layers, "--blocks", "128", "--bits", "3,2", "--m", "1,8",
             "--kernels", "rank_expanded,scale_tile", "--regimes", "cold"), nominal_s=40, again=1),
        Step(name="hot", arguments=(*timed, *_regimes(device, "hot")), nominal_s=30, again=1),
        Step(name=REPORT, arguments=("report", *reports), nominal_s=REPORT_SECONDS),
    )  # fmt: skip


def _regimes(device: VisitDevice, regime: str) -> tuple[str, ...]:
    return () if device == "cpu" else ("--regimes", regime)


def _tokens(device: VisitDevice) -> tuple[str, ...]:
    return () if device == "cuda" else ("--tokens", "16")
