"""Cases × targets to reports: the one place that compiles a case and holds it against its budget."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from lords_bench.static.budget import named_budget
from lords_bench.static.cases import StaticCase
from lords_bench.static.compile import CompiledKernel, compile_all
from lords_bench.static.report import StaticReport, analyse
from lords_bench.static.request import request_from_signature
from lords_bench.static.target import named_target


def static_reports(
    cases: Sequence[StaticCase],
    *,
    workers: int | None = None,
    cache_dir: Path | None = None,
    on_result: Callable[[CompiledKernel], None] | None = None,
) -> tuple[StaticReport, ...]:
    """A report per case, in the order given. Other arguments as for `compile_all`.

    Each case is held to its budget as it stands for the installed Triton (`budget.named_budget`).

    Raises:
        UsageError: an unknown target or budget.
    """
    requests = [request_from_signature(case.signature, named_target(case.target)) for case in cases]
    installed = version("triton")
    compiled = compile_all(requests, cache_dir=cache_dir, workers=workers, on_result=on_result)
    return tuple(
        analyse(
            result, named_budget(case.budget, triton=installed), label=case.label, bits_per_weight=case.bits_per_weight
        )
        for case, result in zip(cases, compiled, strict=True)
    )
