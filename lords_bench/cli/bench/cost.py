"""`lords-bench bench ptq` and `bench step`: what quantizing a model and a step of fine-tuning cost on this device."""

import argparse
import shlex
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.spec.numbers import COUNT, WINDOW

if TYPE_CHECKING:
    from lords_bench.records.bench import Setting
    from lords_bench.records.cost import CostRecord, CostRun, CostSuite
    from lords_bench.records.store import NounStore

COSTS = ("ptq", "step")
FILE = "cost"
SEED = 0
_BLOCK = 64
_OPTIONS = {"scale": 1, "layers": None, "tokens": 4096}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only these suites take."""
    group = parser.add_argument_group("ptq and step suites (--minutes too)")
    group.add_argument("--scale", type=COUNT, default=1, metavar="N", help="divide every width of the model by N")
    group.add_argument("--layers", type=COUNT, metavar="N", help="so many decoder blocks (default: the model's)")
    group.add_argument("--tokens", type=WINDOW, default=4096, metavar="N", help="of a step's sequence (default: 4096)")


def refuse_cost_options(arguments: argparse.Namespace) -> None:
    """Refuse what another suite does not take.

    Raises:
        UsageError: one of these suites' options was given.
    """
    given = [name for name, default in _OPTIONS.items() if getattr(arguments, name) != default]
    if given:
        raise UsageError(f"--{given[0]} belongs to the suites {' and '.join(COSTS)}; leave it out")


def bench_cost(arguments: argparse.Namespace) -> int:
    """Run one of the suites and print its verdict and the page's path; 1 if a case failed.

    Raises:
        UsageError: options that do not fit.
    """
    from lords_bench.cli.output import say
    from lords_bench.cli.report import device_folder, rebuild, record_path
    from lords_bench.records.cost import CostRecord
    from lords_bench.records.status import Status
    from lords_bench.records.store import NounStore
    from lords_bench.terminal import Console

    console = Console(stderr=True)
    suite: CostSuite = arguments.suite
    if arguments.list:
        say("\n".join(_cases(arguments)))
        return 0
    run = _run(arguments, suite)
    out, name = Path(arguments.out), arguments.name or device_folder(run.environment)
    path = record_path(out, name, FILE)
    made: list[CostRecord] = []
    with NounStore(path, CostRecord) as store:
        for line in store.rejected:
            console.print(f"{path}, line {line.line}, is not used: {line.reason}", style="yellow")

        def append(record: CostRecord) -> None:
            store.append(record)
            made.append(record)
            took = f"{record.seconds:.3f} s" if record.seconds is not None else f"{record.status}: {record.reason}"
            console.print(f"{record.case}: {took}", highlight=False)

        left_out = (_ptq if suite == "ptq" else _step)(arguments, run, store, append)
    if left_out:
        console.print(f"{left_out} of {run.planned} cases were not reached; the same command goes on", style="yellow")
    for page in () if arguments.no_page else rebuild(out, name, FILE):
        say(f"Report: {page}")
    # A baseline that is not installed is a record, and no failure of this run.
    return 1 if any(record.status not in (Status.OK, Status.UNSUPPORTED) for record in made) else 0


def _cases(arguments: argparse.Namespace) -> "list[str]":
    from lords_bench.suites.model_shapes import LLAMA_3_8B

    if arguments.suite == "step":
        from lords_bench.suites.step_cost import METHODS

        return list(METHODS)
    return [name for name, _, _ in LLAMA_3_8B.smaller(arguments.scale, arguments.layers).linears()]


def _run(arguments: argparse.Namespace, suite: "CostSuite") -> "CostRun":
    from lords_bench.cli.models import choose_device
    from lords_bench.records.cost import CostRun
    from lords_bench.suites.model_shapes import GENERATOR, LLAMA_1B, LLAMA_3_8B
    from lords_bench.timing.probe import probe_environment

    # This imports torch, without which the probe does not tell a GPU's name.
    device = choose_device(arguments.device)
    bits, methods = _bits(arguments), _methods(arguments)
    settings: dict[str, Setting] = {"bits": bits, "block": _BLOCK, "blocks": arguments.layers}
    if suite == "ptq":
        settings |= {"methods": ",".join(methods), "weights": GENERATOR, "weight_dtype": "bfloat16"}
        planned = len(methods) * len(LLAMA_3_8B.smaller(arguments.scale, arguments.layers).linears())
    else:
        settings |= {"tokens": arguments.tokens, "compute": "bfloat16 autocast", "checkpointing": False}
        planned = len(_cases(arguments))
    return CostRun(
        run_id=uuid.uuid4().hex[:12],
        model=(LLAMA_3_8B if suite == "ptq" else LLAMA_1B).name,
        scale=arguments.scale,
        settings=tuple(sorted(settings.items())),
        planned=planned,
        environment=probe_environment(device),
        command=shlex.join(["lords-bench", *arguments.command_line]),
        seed=SEED,
    )


def _bits(arguments: argparse.Namespace) -> int:
    bits = arguments.bits or (4,)
    if len(bits) != 1:
        raise UsageError(f"--bits {','.join(map(str, bits))}: a cost is that of one number of bits; give one")
    return int(bits[0])


def _methods(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.suite == "step" and arguments.methods is not None:
        raise UsageError("--methods: a step is always that of LoRDS and of QLoRA; leave it out")
    return tuple(arguments.methods or ("lords",))


def _ptq(arguments: argparse.Namespace, run: "CostRun", store: "NounStore[CostRecord]", append: "_Append") -> int:
    import torch

    from lords_bench.records.cost import completed_cases, cost_key
    from lords_bench.spec.quant import QuantSpec
    from lords_bench.suites.model_shapes import LLAMA_3_8B
    from lords_bench.suites.ptq_cost import PtqJob, run_ptq

    specs = {name: QuantSpec(method=name, bits=_bits(arguments), block=_BLOCK) for name in _methods(arguments)}
    if any(spec.needs_hessian for spec in specs.values()):
        raise UsageError("--methods: methods with error feedback need calibration, which synthetic weights have not")
    job = PtqJob(
        shape=LLAMA_3_8B.smaller(arguments.scale, arguments.layers),
        specs=specs,
        device=torch.device(run.environment.device),
        dtype=torch.bfloat16,
        seed=SEED,
    )
    done = frozenset() if arguments.fresh else completed_cases(store.records, cost_key("ptq", run))
    return run_ptq(job, run, done=done, append=append, seconds=_seconds(arguments))


def _step(arguments: argparse.Namespace, run: "CostRun", _store: "NounStore[CostRecord]", append: "_Append") -> int:
    import torch

    from lords_bench.cli.bench.latency import device_of
    from lords_bench.suites.model_shapes import LLAMA_1B
    from lords_bench.suites.step_cost import StepJob, run_step

    job = StepJob(
        shape=LLAMA_1B.smaller(arguments.scale, arguments.layers),
        tokens=arguments.tokens,
        block=_BLOCK,
        device=torch.device(run.environment.device),
        bits=_bits(arguments),
        seed=SEED,
    )
    for record in run_step(job, run, timer=device_of(run.environment.device)):
        append(record)
    return 0


def _seconds(arguments: argparse.Namespace) -> float | None:
    return None if arguments.minutes is None else 60 * float(arguments.minutes)


if TYPE_CHECKING:
    from collections.abc import Callable

    _Append = Callable[[CostRecord], None]
