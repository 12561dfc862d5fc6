"""Cases × targets to reports: the one place that compiles a case and holds it against its budget."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from lords_bench.kernels.common.static_case import StaticCase
from lords_bench.static.compile import CompileResult, compile_all
from lords_bench.static.launches import compile_request, weights_per_turn
from lords_bench.static.report import StaticReport, analyse
from lords_bench.static.target import named_target


def static_reports(
    cases: Sequence[StaticCase],
    *,
    workers: int | None = None,
    cache_dir: Path | None = None,
    on_result: Callable[[CompileResult], None] | None = None,
) -> tuple[StaticReport, ...]:
    """A report per case, in the order given. Other arguments as for `compile_all`.

    Each case is held to its budget as it stands for the installed Triton (`Budget.with_triton`).

    Raises:
        UsageError: an unknown target.
    """
    requests = [compile_request(case.launched, named_target(case.target)) for case in cases]
    installed = version("triton")
    compiled = compile_all(requests, cache_dir=cache_dir, workers=workers, on_result=on_result)
    return tuple(
        analyse(
            result,
            case.budget.with_triton(installed),
            label=case.label,
            bits_per_weight=case.bits_per_weight,
            weights_per_turn=weights_per_turn,
        )
        for case, result in zip(cases, compiled, strict=True)
    )
