"""New memory that is NaN, so that an element nobody wrote shows in a result."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def nan_filled_allocations() -> Iterator[None]:
    """Within it, `torch.empty` gives NaN, and the largest value of an integer type.

    PyTorch fills new memory in its deterministic mode.
    """
    settings: Any = torch.utils.deterministic
    was_on, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = True
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(was_on, warn_only=warned)
