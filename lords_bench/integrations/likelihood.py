"""Likelihood of windows of text under a model as it stands, without a reference to compare with."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import nn

from lords_bench.errors import ModelError
from lords_bench.integrations.windows import Window

BATCH_WINDOWS = 4


@torch.inference_mode()
def window_nll_nats(
    model: nn.Module, windows: Sequence[Window], *, batch_windows: int = BATCH_WINDOWS
) -> tuple[float, ...]:
    """Negative log-likelihood of each window, in order, summed over its targets, in nats; softmax in float32.

    Raises:
        ModelError: a result is not finite.
    """
    device = next(model.parameters()).device
    found = [0.0] * len(windows)
    # Equal lengths side by side waste no work on padding, which stands on the right, where earlier positions of a
    # causal model do not see it.
    order = sorted(range(len(windows)), key=lambda index: windows[index].input_count)
    for start in range(0, len(order), batch_windows):
        batch = order[start : start + batch_windows]
        longest = max(windows[index].input_count for index in batch)
        rows = [[*windows[i].tokens[:-1], *[0] * (longest - windows[i].input_count)] for i in batch]
        logits = model(input_ids=torch.tensor(rows, device=device), use_cache=False).logits
        for row, index in enumerate(batch):
            window = windows[index]
            targets = torch.tensor(window.tokens[-window.target_count :], device=device)
            kept = logits[row, window.input_count - window.target_count : window.input_count].float()
            nll = torch.nn.functional.cross_entropy(kept, targets, reduction="none")
            found[index] = float(nll.double().sum())
    if not all(map(isfinite, found)):
        raise ModelError("the model's probabilities are not finite; its training diverged, lower the learning rate")
    return tuple(found)
