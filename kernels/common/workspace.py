"""Scratch memory of split-K kernels: fp32 partial sums and arrival counters.

Counters are zero between launches (the last program resets them), so one buffer serves all calls on a stream.
"""

import torch

_MAX_IN_FLIGHT = 32


def partial_buffer(splits: int, m: int, n: int, device: torch.device) -> torch.Tensor:
    """fp32 (splits, M, N), not initialised: every element is written before it is read."""
    return torch.empty(splits, m, n, dtype=torch.float32, device=device)


def arrival_counters(groups: int, device: torch.device) -> torch.Tensor:
    """int32 counters, zero."""
    return torch.zeros(groups, dtype=torch.int32, device=device)


def splits_at_once(outputs: int, num_warps: int) -> int:
    """Partial sums that a thread may hold in flight: a power of two, 32 registers per thread at most."""
    per_thread = max(1, outputs // (32 * num_warps))
    return int(max(1, min(16, _MAX_IN_FLIGHT // per_thread)))
