"""Launches that are no products, gradients and fake quantization: how what an entry says of them is tried.

Each is checked in the way of `check.check`: outputs that start as NaN, a second launch with equal bits (but for sums
by atomics), inputs that come back unchanged.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lords_bench.kernels.common.check_case import Check, Trial
from lords_bench.products.registry import ENTRIES
from lords_bench.records.status import Status
from lords_bench.reference.poison import nan_filled_allocations

TRAINING_CHECKS: Mapping[str, Check] = MappingProxyType(
    {check.name: check for entry in ENTRIES for check in entry.checks}
)


def outcome(trial: Trial, *, repeatable: bool) -> tuple[Status, str | None, float | None]:
    """Launch twice and judge: status, why it is not ok, and the largest error in units of its bound."""
    if trial.refusal is not None:
        return Status.UNSUPPORTED, trial.refusal, None
    before = [tensor.clone() for tensor in trial.inputs]
    with nan_filled_allocations():
        found = trial.launch()
        again = trial.launch()
    if not all(map(torch.equal, trial.inputs, before)):
        return Status.INCORRECT, "the launch changed an input", None
    shares = {name: _largest(share) for name, share in trial.errors(found).items()}
    worst = max(shares.values())
    if worst > 1:
        name = max(shares, key=lambda name: shares[name])
        return Status.INCORRECT, f"error of the {name} is {worst:.3g} times its bound", worst
    if repeatable and not all(map(torch.equal, found, again)):
        return Status.INCORRECT, "a second launch gave other bits", worst
    if not repeatable and max(_largest(share) for share in trial.errors(again).values()) > 1:
        return Status.INCORRECT, "a second launch is outside the bound", worst
    return Status.OK, None, worst


def _largest(share: Tensor) -> float:
    return float(share.nan_to_num(nan=torch.inf).max())
