"""Kernel results against float64, within `reference.error_bounds`: the one bound, on every machine."""

import torch

from lords_bench.reference.error_bounds import Magnitudes, error_bound, in_units_of_bound

__all__ = ["Magnitudes", "assert_within", "error_bound"]


def assert_within(computed: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> None:
    """Every element within its bound; non-finite elements where the expected ones are, or round to be.

    Raises:
        AssertionError: naming the worst element.
    """
    share = in_units_of_bound(computed, expected, bound)
    if share.numel() and float(share.max()) > 1:
        worst = int(share.flatten().argmax())
        raise AssertionError(
            f"element {worst}: {float(computed.flatten()[worst])} instead of {float(expected.flatten()[worst])}, "
            f"allowed ± {float(bound.flatten()[worst])}"
        )
