"""Row panels: walk a big matrix in slices that stay in the cache, and the number type of the arithmetic.

Element-wise chains over an N×K matrix are bound by memory; done panel by panel, every step after the first reads the
cache. On a GPU the same panels only bound the temporary memory, so they are large.
"""

from collections.abc import Iterator

import torch

# Below 32768 elements torch runs an element-wise step on the calling thread. Two threads would gain at most a third
# on an idle machine, and on a busy one every step would wait for the slower thread (measured: 300 times slower).
PANEL_ELEMENTS_CPU = 32_767
PANEL_ELEMENTS_GPU = 1 << 26


def row_panels(rows: int, row_elements: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover `rows` rows of `row_elements` elements each, at least one row at a time."""
    budget = PANEL_ELEMENTS_CPU if device.type == "cpu" else PANEL_ELEMENTS_GPU
    step = max(1, budget // max(1, row_elements))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Number type the reference computes in: float64 stays, every other float becomes float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
