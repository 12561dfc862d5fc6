"""Does a candidate compute what it should, every time, from its inputs alone? Asked before and after it is timed.

What is caught is what honest code does by accident as well: an output element nobody wrote, an input that was
changed, a result kept from an earlier call, work that was put off or sent to a stream nobody waits for.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Sequence["Tensor"]


def checker(
    run: Callable[[Tensors], Any],
    make_inputs: Callable[[int], Tensors],
    reference: Callable[[Tensors], "tuple[Tensor, Tensor | float]"],
    *,
    seed: int = 0,
) -> Callable[[], str | None]:
    """A `Candidate.check`: fresh inputs at every call, then other values in the very same tensors.

    Args:
        run: inputs to the result, one tensor, by the code that is timed.
        make_inputs: seed to random inputs; equal seeds give equal values. Data should look like real data: power and
            with it the clock depend on it.
        reference: inputs to the expected result and how far each element may lie from it, in float64. It is computed
            after `run`, so that its memory cannot be what `run` returns.
        seed: of the first inputs.
    """
    seeds = count(seed)

    def check() -> str | None:
        inputs = make_inputs(next(seeds))
        wrong = _wrong(run, inputs, reference)
        if wrong:
            return wrong
        for tensor, value in zip(inputs, make_inputs(next(seeds)), strict=True):
            tensor.copy_(value)
        wrong = _wrong(run, inputs, reference)
        return f"with other values in the same tensors, {wrong}" if wrong else None

    return check


def run_watched(run: Callable[[Tensors], Any], inputs: Tensors) -> "Tensor | str":
    """One call on allocations that start as NaN: a copy of its result, or what is wrong with how it was made."""
    import torch

    from lords_bench.reference.poison import nan_filled_allocations

    before = [tensor.clone() for tensor in inputs]
    with nan_filled_allocations():
        result = run(inputs)
    if type(result) is not torch.Tensor:
        return f"the result is a {type(result).__name__}, not a plain tensor: its work may not be done"
    if result.is_cuda:
        # This stream alone: what ran elsewhere without being joined is not there yet.
        torch.cuda.current_stream(result.device).synchronize()
    # Copied before anything else is computed, whose memory the result might be.
    found = result.detach().clone()
    pairs = enumerate(zip(inputs, before, strict=True))
    changed = next((index for index, (now, then) in pairs if not torch.equal(now, then)), None)
    return found if changed is None else f"input {changed} was changed"


def _wrong(run: Callable[[Tensors], Any], inputs: Tensors, reference: Callable[[Tensors], Any]) -> str | None:
    import torch

    from lords_bench.reference.error_bounds import in_units_of_bound

    result = run_watched(run, inputs)
    if isinstance(result, str):
        return result
    expected, bound = reference(inputs)
    if result.shape != expected.shape:
        return f"the shape is {tuple(result.shape)}, expected {tuple(expected.shape)}"
    unwritten = int((result.isnan() & ~expected.isnan()).sum())
    if unwritten:
        return f"{unwritten} of {result.numel()} elements are NaN: nobody wrote them"
    share = in_units_of_bound(result, expected, bound)
    worst = float(share.max()) if share.numel() else 0.0
    if worst > 1:
        place = torch.unravel_index(share.argmax(), share.shape)
        return f"the error at {[int(index) for index in place]} is {worst:.3g} times its bound"
    return None
