"""What a launch derives from its problem, derived once per weight and call: configuration, grid, compile-time values.

All of it follows from what is in the key, so a call that was made before is checked and configured by one look-up.
Which code runs is no part of it: types, alignment and ones of every argument decide that in each call (`handle.py`), so
that nothing here can hand a tensor to code that was specialised for another.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lords_bench.kernels.common.gpu import Gpu, gpu_of

# A weight that meets more calls than this (every M of a prompt) forgets them all: each is made again in 0.1 ms.
MOST_CALLS = 64

Memo = dict[tuple[object, ...], "Ready"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ready:
    """A call of one kernel on one weight, ready but for the tensors.

    Attributes:
        grid: programs along each axis.
        constants: compile-time values and options, as keyword arguments of the kernel.
        config, gpu: what they were made from, kept alive because their identities are in the key.
        splits: parts of K whose sums are added at the end; 1 where there are none.
        sums: the second launch, which adds them; None where the first does.
        handles: compiled kernels that its launches found before.
    """

    grid: tuple[int, ...]
    constants: Mapping[str, Any]
    config: Any
    gpu: Gpu
    splits: int = 1
    sums: "Ready | None" = None
    handles: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def __deepcopy__(self, _memo: object) -> "Ready":
        return self


# A kernel's own rules: (x, operands, configuration or None for the rule, GPU, variant) to a call. It refuses what the
# kernel does not take. A variant is what else a call differs in: whether there is a bias, the rank of an adapter.
Make = Callable[[torch.Tensor, Any, Any, Gpu, Any], Ready]


def ready_call(make: Make, x: torch.Tensor, operands: Any, config: Any, variant: Hashable) -> Ready:
    """The call of `make`'s kernel for x of this shape, dtype and device; whatever `make` raises comes out.

    Args:
        make: the kernel's rules.
        x: activations, of which neither strides nor addresses matter here.
        operands: with a `memo` that lives as long as the weight.
        config: a configuration that the caller keeps; None for the kernel's own rule.
        variant: what else the call differs in.
    """
    gpu = gpu_of(x.device)
    # A configuration and a GPU are named by identity, which is quick; the entry keeps both alive.
    key = (make, x.shape, x.dtype, x.device, id(config), id(gpu), variant)
    found = operands.memo.get(key)
    if found is None:
        if len(operands.memo) >= MOST_CALLS:
            operands.memo.clear()
        found = operands.memo[key] = make(x, operands, config, gpu, variant)
    ready: Ready = found
    return ready
