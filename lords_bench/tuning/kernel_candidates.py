"""Configurations of a kernel as candidates: one random weight, in as many copies as keep it out of the cache.

The first layout of buffers is shared by all configurations; each has the others to itself, for as long as it is timed.

The check is the one that kernels are held to everywhere (`kernel_check`): the bound that follows from K, rank and
dtype, outputs that start as NaN, and a second launch with equal bits, unless the configuration adds with atomics. What
is expected is computed once per problem.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from lords_bench.kernel_check import expected_and_bound, make_case, prepared_for
from lords_bench.kernels.common.prepared import PreparedWeight
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise
from lords_bench.products.registry import config_of, named_kernel
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.reference.poison import nan_filled_allocations
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.device import CandidateError, rotation_slots

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder


def candidate_maker(
    kernel: str,
    problem: Problem,
    *,
    cache_bytes: int | None,
    regime: Regime,
    device: torch.device,
) -> Callable[[Settings, str], Candidate]:
    """Makes a candidate of (configuration, name).

    Raises:
        UsageError: unknown kernel.
    """
    chosen = named_kernel(kernel)
    dtype: torch.dtype = getattr(torch, problem.x_dtype)
    case = make_case(
        problem.m_bucket, problem.n, problem.k, bits=problem.bits, rank=problem.rank or 1, dtype=dtype, device=device,
        seed=int(problem.zero_points), block=problem.block,
    )  # fmt: skip
    case = replace(case, bias_N=torch.zeros_like(case.bias_N))
    decoder = None if device.type == "cpu" and problem.block is None else cast("Decoder", problem.decoder)
    weight = prepared_for(chosen, case, decoder)
    cost = chosen.cost(problem.m_bucket, weight, dtype)
    slots = rotation_slots(cost.bytes_moved, cache_bytes) if regime == "cold" else 1

    def copies(count: int) -> list[tuple[torch.Tensor, PreparedWeight | PreparedBlockwise]]:
        return [(case.x_MK.clone(), _copy(weight)) for _ in range(count)]

    shared = [(case.x_MK, weight), *copies(slots - 1)]
    layout_bytes = slots * cost.bytes_moved + 2 * case.x_MK.shape[0] * problem.n * dtype.itemsize
    expected: list[tuple[torch.Tensor, torch.Tensor]] = []

    def make(settings: Settings, name: str) -> Candidate:
        config = config_of(kernel, settings)

        def launch_over(
            sets: list[tuple[torch.Tensor, PreparedWeight | PreparedBlockwise]],
        ) -> Callable[[int], torch.Tensor]:
            return lambda slot: chosen.launch(*sets[slot], None, config)

        def check() -> str | None:
            support = chosen.supports(problem.m_bucket, weight, dtype)
            if not support.ok:
                raise CandidateError(Status.UNSUPPORTED, support.reason)
            if not expected:
                expected.append(expected_and_bound(kernel, case, weight))
            with nan_filled_allocations():
                # Without a bias, as in what is timed: with one, another code would be checked.
                y_MN = chosen.launch(case.x_MK, weight, None, config)
                again_MN = chosen.launch(case.x_MK, weight, None, config)
            expected_MN, bound_MN = expected[0]
            ratio_MN = ((y_MN.double() - expected_MN).abs() / bound_MN).nan_to_num(nan=torch.inf)
            worst = float(ratio_MN.max())
            if worst > 1:
                row, column = divmod(int(ratio_MN.argmax()), y_MN.shape[1])
                return f"error is {worst:.3g} times its bound at row {row}, column {column}"
            if not dict(settings).get("atomic", False) and not torch.equal(y_MN, again_MN):
                return "a second launch gave other bits"
            return None

        return Candidate(
            name=name,
            launch=launch_over(shared),
            check=check,
            slots=slots,
            launch_on=lambda _layout: launch_over(copies(slots)),
            layout_bytes=layout_bytes,
            bytes_moved=cost.bytes_moved,
            flops=cost.flops,
        )

    return make


def _copy(weight: PreparedWeight | PreparedBlockwise) -> PreparedWeight | PreparedBlockwise:
    """The same weight in other memory; counters too, since launches in flight must not share them."""
    if isinstance(weight, PreparedBlockwise):
        operands = _cloned(weight.operands, ("packed", "scale_NG", "zero_NG"))
        copy: PreparedWeight | PreparedBlockwise = _cloned(replace(weight, operands=operands), ("counters",))
    else:
        copy = _cloned(weight, ("packed", "b_NR", "a_RK", "a_columns", "counters"))
    return copy


def _cloned(noun: Any, names: tuple[str, ...]) -> Any:
    tensors = {name: getattr(noun, name).clone() for name in names if getattr(noun, name) is not None}
    return replace(noun, **tensors)
