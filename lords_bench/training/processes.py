"""The processes that train one model together, as accelerate starts them: the first one decides for all."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from lords_bench.errors import LordsBenchError

Result = TypeVar("Result")


def on_first(action: Callable[[], Result]) -> Result:
    """What the action returns in the first process, in every process; the others do not run it.

    Every process has to call it. What it returns must be picklable.

    Raises:
        LordsBenchError: the action's refusal, in every process.
    """
    if not is_one_of_several():
        return action()
    said: list[object] = [None, None]
    if dist.get_rank() == 0:
        try:
            said = [action(), None]
        except LordsBenchError as error:
            said = [None, error]
    dist.broadcast_object_list(said, src=0)
    if isinstance(said[1], LordsBenchError):
        raise said[1]
    return said[0]  # type: ignore[return-value]


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if is_one_of_several():
        dist.barrier()


def is_one_of_several() -> bool:
    """Whether other processes train the same model."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this process writes for all."""
    return not is_one_of_several() or dist.get_rank() == 0
