"""`lords-bench bench ptq` and `bench step`: what quantizing a model and a step of fine-tuning cost on this device."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lords_bench.cli.bench.common import FRESH, METHODS, BenchSettings, opened, records_of, say_pages
from lords_bench.cli.models import choose_device
from lords_bench.cli.output import say
from lords_bench.errors import UsageError
from lords_bench.options import BIT_COUNT, COUNT, MINUTES, WINDOW, names, option
from lords_bench.records.cost import CostRecord, CostRun
from lords_bench.records.status import Status
from lords_bench.records.store import NounStore
from lords_bench.terminal import Console
from lords_bench.timing.probe import probe_environment

if TYPE_CHECKING:
    from lords_bench.records.bench import Setting

FILE = "cost"
SEED = 0
_BLOCK = 64

Append = Callable[[CostRecord], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class CostSettings(BenchSettings):
    """What both suites take."""

    bits: int = option("bits per code", BIT_COUNT, default=4)
    scale: int = option("divide every width of the model by N", COUNT, default=1)
    layers: int | None = option("so many decoder blocks (default: the model's)", COUNT, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class PtqSettings(CostSettings):
    """Quantizes synthetic weights of Llama-3-8B's shapes, layer by layer, and writes a report."""

    methods: tuple[str, ...] = option(METHODS, names, default=("lords",))
    minutes: float | None = option("begin nothing more after so long", MINUTES, default=None)
    fresh: bool = option(FRESH, default=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings(CostSettings):
    """Times a step of fine-tuning of Llama-3.2-1B's shapes, LoRDS against QLoRA, and writes a report."""

    tokens: int = option("of a step's sequence", WINDOW, default=4096)


def bench_ptq(settings: PtqSettings) -> int:
    """Quantize, and print the page's path; 1 if a case failed.

    Raises:
        UsageError: methods that need calibration.
    """
    from lords_bench.suites.cost.cases import GENERATOR, LLAMA_3_8B

    shape = LLAMA_3_8B.smaller(settings.scale, settings.layers)
    cases = [name for name, _, _ in shape.linears()]
    if settings.only_list:
        say("\n".join(cases))
        return 0
    facts: dict[str, Setting] = {
        "methods": ",".join(settings.methods), "weights": GENERATOR, "weight_dtype": "bfloat16",
    }  # fmt: skip
    run = _run(settings, facts, model=LLAMA_3_8B.name, planned=len(settings.methods) * len(cases))

    def work(store: NounStore[CostRecord], append: Append) -> int:
        import torch

        from lords_bench.quant import QuantSpec
        from lords_bench.records.cost import completed_cases, cost_key
        from lords_bench.suites.cost.ptq import PtqJob, run_ptq

        specs = {name: QuantSpec(method=name, bits=settings.bits, block=_BLOCK) for name in settings.methods}
        if any(spec.needs_hessian for spec in specs.values()):
            raise UsageError(
                "--methods: methods with error feedback need calibration, which synthetic weights have not"
            )
        device, dtype = torch.device(run.environment.device), torch.bfloat16
        job = PtqJob(shape=shape, specs=specs, device=device, dtype=dtype, seed=SEED)
        done = frozenset() if settings.fresh else completed_cases(store.records, cost_key("ptq", run))
        seconds = None if settings.minutes is None else 60 * settings.minutes
        return run_ptq(job, run, done=done, append=append, seconds=seconds)

    return _kept(settings, run, work)


def bench_step(settings: StepSettings) -> int:
    """Time the step of every method, and print the page's path; 1 if a case failed."""
    from lords_bench.suites.cost.cases import LLAMA_1B
    from lords_bench.suites.cost.step import METHODS as STEPS

    if settings.only_list:
        say("\n".join(STEPS))
        return 0
    facts: dict[str, Setting] = {
        "tokens": settings.tokens, "compute": "bfloat16 autocast", "checkpointing": False,
    }  # fmt: skip
    run = _run(settings, facts, model=LLAMA_1B.name, planned=len(STEPS))

    def work(_store: NounStore[CostRecord], append: Append) -> int:
        import torch

        from lords_bench.suites.cost.step import StepJob, run_step
        from lords_bench.suites.latency.prepare import device_of

        job = StepJob(
            shape=LLAMA_1B.smaller(settings.scale, settings.layers),
            tokens=settings.tokens,
            block=_BLOCK,
            device=torch.device(run.environment.device),
            bits=settings.bits,
            seed=SEED,
        )
        for record in run_step(job, run, timer=device_of(run.environment.device)):
            append(record)
        return 0

    return _kept(settings, run, work)


def _run(settings: CostSettings, facts: "dict[str, Setting]", *, model: str, planned: int) -> CostRun:
    # This imports torch, without which the probe does not tell a GPU's name.
    device = choose_device(settings.device)
    facts = {"bits": settings.bits, "block": _BLOCK, "blocks": settings.layers, **facts}
    return CostRun(
        run_id=uuid.uuid4().hex[:12],
        model=model,
        scale=settings.scale,
        settings=tuple(sorted(facts.items())),
        planned=planned,
        environment=probe_environment(device),
        command=settings.command,
        seed=SEED,
    )


def _kept(settings: CostSettings, run: CostRun, work: Callable[[NounStore[CostRecord], Append], int]) -> int:
    """Do the work, which returns how many cases it did not reach, and keep its records; 1 if a case failed."""
    console = Console(stderr=True)
    path = records_of(settings, run.environment, FILE)
    made: list[CostRecord] = []
    with opened(NounStore(path, CostRecord), console) as store:

        def append(record: CostRecord) -> None:
            store.append(record)
            made.append(record)
            took = f"{record.seconds:.3f} s" if record.seconds is not None else f"{record.status}: {record.reason}"
            console.print(f"{record.case}: {took}", highlight=False)

        left_out = work(store, append)
    if left_out:
        console.print(f"{left_out} of {run.planned} cases were not reached; the same command goes on", style="yellow")
    say_pages(settings, path)
    # A baseline that is not installed is a record, and no failure of this run.
    return 1 if any(record.status not in (Status.OK, Status.UNSUPPORTED) for record in made) else 0
