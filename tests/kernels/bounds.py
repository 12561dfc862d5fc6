"""Kernel results against float64, within `reference.error_bounds`: the one bound, on every machine."""

import torch

from lords_bench.reference.error_bounds import Magnitudes, error_bound

__all__ = ["Magnitudes", "assert_within", "error_bound"]


def assert_within(computed: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> None:
    """Every element within its bound; non-finite elements exactly where the expected ones are.

    Raises:
        AssertionError: naming the worst element.
    """
    computed = computed.double()
    finite = torch.isfinite(expected)
    assert torch.equal(torch.isfinite(computed), finite), "non-finite results stand elsewhere than in the reference"
    excess = torch.where(finite, (computed - expected).abs() - bound, torch.zeros_like(bound))
    if excess.numel() and float(excess.max()) > 0:
        worst = int(excess.flatten().argmax())
        raise AssertionError(
            f"element {worst}: {float(computed.flatten()[worst])} instead of {float(expected.flatten()[worst])}, "
            f"allowed ± {float(bound.flatten()[worst])}"
        )
