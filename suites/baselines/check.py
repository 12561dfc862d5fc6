"""A built way as a candidate for timing: rotated buffer sets, and a check on fresh inputs with poisoned outputs."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch

from lords_bench.records.measurement import Regime
from lords_bench.suites.baselines.problem import LayerProblem, Way, worst_error
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.check import run_watched
from lords_bench.timing.device import rotation_slots


@dataclass(kw_only=True)
class Checked:
    """A candidate with what its checks have found so far.

    Attributes:
        worst_error: largest error of any check in units of its bound; None before the first, or if it is not finite.
    """

    candidate: Candidate
    worst_error: float | None = None


def as_candidate(name: str, way: Way, problem: LayerProblem, *, regime: Regime, cache_bytes: int | None) -> Checked:
    """The way with as many copies of its operands as a cold launch needs; one set in other regimes.

    Every other layout is as many copies again. The results of two launches are counted to a layout's memory.

    `bytes_moved` is the format's tensors and x once (y may stay in the cache); `flops` the product alone, so that
    formats compare.
    """
    case, itemsize = problem.case, problem.dtype.itemsize
    moved = way.stored_bytes + case.m * case.k * itemsize
    slots = rotation_slots(moved, cache_bytes) if regime == "cold" else 1
    apply = way.apply

    def copies(count: int) -> list[tuple[Any, torch.Tensor]]:
        return [(copy.deepcopy(way.operands), problem.draw_x()) for _ in range(count)]

    def launch_over(sets: list[tuple[Any, torch.Tensor]]) -> Callable[[int], object]:
        def launch(slot: int) -> object:
            operands, x_MK = sets[slot]
            return apply(operands, x_MK)

        return launch

    def check() -> str | None:
        x_MK = problem.draw_x()
        wrong = wrong_with(x_MK)
        # A result that was kept from the first call, by the address of its input, is of other values.
        return wrong or wrong_with(x_MK.copy_(problem.draw_x()))

    def wrong_with(x_MK: torch.Tensor) -> str | None:
        y_MN = run_watched(lambda inputs: apply(way.operands, inputs[0]), [x_MK])
        if isinstance(y_MN, str):
            return y_MN
        if y_MN.shape != (case.m, case.n) or y_MN.dtype != problem.dtype:
            return f"the result is {tuple(y_MN.shape)} {y_MN.dtype}, not {(case.m, case.n)} {problem.dtype}"
        worst = worst_error(way, x_MK, y_MN)
        found.worst_error = max(worst, found.worst_error or 0.0) if isfinite(worst) else None
        return None if worst <= 1 else f"error is {worst:.3g} times its bound"

    found = Checked(
        candidate=Candidate(
            name=name,
            launch=launch_over([(way.operands, problem.draw_x()), *copies(slots - 1)]),
            check=check,
            slots=slots,
            launch_on=lambda _layout: launch_over(copies(slots)),
            layout_bytes=slots * moved + 2 * case.m * case.n * itemsize,
            bytes_moved=moved,
            flops=case.shape.flops,
        )
    )
    return found
