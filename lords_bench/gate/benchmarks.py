"""The benchmarks of the latency layer: their names, which of them are gated, and what is said of those not timed."""

from collections.abc import Collection, Sequence

from lords_bench.gate.finding import Finding, LayerResult, Level
from lords_bench.records.latency import DENSE, DENSE_AGAIN, METHODS

LAYER = "latency"
# Other people's code: timed beside ours, and no regression of ours.
FOREIGN = frozenset({DENSE, DENSE_AGAIN, "tinygemm", *(method.name for method in METHODS if method.needs is not None)})

Key = tuple[str, str, str]  # case, regime, method


def name(key: Key) -> str:
    """A benchmark in words: `llama-3-8b/o_proj-m16-b4-g64 lords (cold)`."""
    case, regime, method = key
    return f"{case} {method} ({regime})"


def gated_methods() -> frozenset[str]:
    """Methods that are this project's own code."""
    return frozenset(method.name for method in METHODS) - FOREIGN


def not_timed(planned: Sequence[Key], *, commit: str) -> LayerResult:
    """The result where the code of every gated method is proven to be the same on both sides, so nothing was timed.

    Args:
        planned: every benchmark that would have been timed.
        commit: the baseline's.
    """
    names = tuple(sorted(name(key) for key in planned if key[2] not in FOREIGN))
    methods = {method for _, _, method in planned} - FOREIGN
    proof = same_by_source(methods, len(names), f"nothing was timed against {commit[:12]}, --measure-anyway does it")
    return LayerResult(layer=LAYER, facts=(), benchmarks=names, same=len(names), findings=(proof,))


def same_by_source(methods: Collection[str], count: int, consequence: str) -> Finding:
    """A note of why benchmarks of these methods are the same, and what that means for the run."""
    what = (
        f"same by source, {count} benchmarks of {', '.join(sorted(methods))}: their kernels, the code that launches "
        f"and times them and the shipped tuned tables are equal on both sides, as are compiler, libraries and machine; "
        f"{consequence}"
    )
    return Finding(benchmark=LAYER, level=Level.NOTE, what=what)
