"""What a causal model makes of windows of text, with its own weights or with others swapped in.

Scores are the negative log-likelihood and the divergence KL(unquantized ‖ quantized) of the next-token distribution,
summed over a window's targets; both from float32 log-softmax over the whole vocabulary. The unquantized model's
log-probabilities are kept between calls while they fit `REFERENCE_BYTES`; beyond that they are computed again beside
each batch, which doubles the time and needs the memory of two batches.

The sums are only as good as the logits. On the testbed the bfloat16 model lies 1.0e-4 nats per token from the float32
one, where 4-bit GPTQ lies 15e-4 from it, so float32 is the default, though bfloat16 runs three times as fast on a CPU
that has instructions for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from lords_bench.errors import ModelError
from lords_bench.integrations.batches import batch_workers
from lords_bench.integrations.hf_model import CausalModel, swapped_weights
from lords_bench.integrations.windows import Window

REFERENCE_BYTES = 512 * 2**20
# Logits of one batch, and of one slice whose softmax is taken at a time (it should stay in cache).
BATCH_LOGIT_BYTES = 16 * 2**20
SLICE_LOGITS = 2**20


def _ignore(fraction: float) -> None:
    del fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowScores:
    """Per window, in order, summed over its targets, in nats."""

    nll_nats: tuple[float, ...]
    kl_nats: tuple[float, ...]


class WindowScorer:
    """Scores a fixed list of windows under exchanged weights.

    Args:
        model: the unquantized model; its own weights are the reference of the divergence.
        windows: at least one.
        reference_bytes: memory that the reference's log-probabilities may take between calls.
    """

    def __init__(
        self, model: CausalModel, windows: Sequence[Window], *, reference_bytes: int = REFERENCE_BYTES
    ) -> None:
        self._model = model
        self._windows = tuple(windows)
        row_bytes = 4 * model.model.config.get_text_config().vocab_size
        longest = max(window.input_count for window in self._windows)
        per_batch = max(1, BATCH_LOGIT_BYTES // (row_bytes * longest))
        # Equal lengths side by side waste no work on padding.
        order = sorted(range(len(self._windows)), key=lambda index: self._windows[index].input_count)
        self._batches = tuple(tuple(order[i : i + per_batch]) for i in range(0, len(order), per_batch))
        self._batch_bytes = row_bytes * longest * per_batch
        self._keeps_reference = row_bytes * sum(w.target_count for w in self._windows) <= reference_bytes
        self._reference: dict[int, Tensor] = {}

    def score(self, weights: Mapping[str, Tensor], advance: Callable[[float], None] = _ignore) -> WindowScores:
        """Scores with `weights` (by layer name) in place of the model's own; {} scores the model itself.

        `advance` is told the fraction done from time to time.

        Raises:
            ModelError: unknown layer, wrong shape, or a result that is not finite.
        """
        nll_nats = [0.0] * len(self._windows)
        kl_nats = [0.0] * len(self._windows)
        with batch_workers(self._model.device, self._batch_bytes) as workers:
            for start in range(0, len(self._batches), workers.threads):
                numbers = range(start, min(start + workers.threads, len(self._batches)))
                references = workers.map(self._reference_of, numbers)
                with swapped_weights(self._model.layers, weights):
                    scores = workers.map(self._score_batch, list(zip(numbers, references, strict=True)))
                for number, batch_scores in zip(numbers, scores, strict=True):
                    for index, nll, kl in zip(self._batches[number], *batch_scores, strict=True):
                        nll_nats[index], kl_nats[index] = nll, kl
                advance(numbers.stop / len(self._batches))
        if not all(map(isfinite, [*nll_nats, *kl_nats])):
            raise ModelError("the model's probabilities are not finite; its weights overflow in this dtype")
        return WindowScores(nll_nats=tuple(nll_nats), kl_nats=tuple(kl_nats))

    @torch.inference_mode()
    def _reference_of(self, number: int) -> Tensor:
        if number in self._reference:
            return self._reference[number]
        log_probabilities = _log_softmax(self._target_logits(self._batches[number]))
        if self._keeps_reference:
            self._reference[number] = log_probabilities
        return log_probabilities

    @torch.inference_mode()
    def _score_batch(self, numbered: tuple[int, Tensor]) -> tuple[list[float], list[float]]:
        """Likelihood and divergence of each window of a batch, given the reference's log-probabilities."""
        number, reference = numbered
        windows = [self._windows[index] for index in self._batches[number]]
        logits = self._target_logits(self._batches[number])
        targets = torch.tensor([token for w in windows for token in w.tokens[-w.target_count :]], device=logits.device)
        counts = [window.target_count for window in windows]
        nll, kl = (values.split(counts) for values in _divergence(logits, reference, targets))
        return [float(values.sum()) for values in nll], [float(values.sum()) for values in kl]

    def _target_logits(self, batch: Sequence[int]) -> Tensor:
        """Logits of all targets of the batch's windows, one after the other: (targets, vocabulary)."""
        windows = [self._windows[index] for index in batch]
        longest = max(window.input_count for window in windows)
        # Padding stands on the right, where a causal model's earlier positions do not see it.
        rows = [[*window.tokens[:-1], *[0] * (longest - window.input_count)] for window in windows]
        inputs = torch.tensor(rows, device=self._model.device)
        logits = self._model.model(input_ids=inputs, use_cache=False).logits
        kept = [logits[i, w.input_count - w.target_count : w.input_count] for i, w in enumerate(windows)]
        return torch.cat(kept)


def _slices(logits: Tensor) -> Iterator[slice]:
    step = max(1, SLICE_LOGITS // logits.shape[1])
    return (slice(start, start + step) for start in range(0, logits.shape[0], step))


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.cat([torch.log_softmax(logits[rows].float(), dim=-1) for rows in _slices(logits)])


def _divergence(logits: Tensor, reference: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Per target: −log q(target), and Σ p (log p − log q) with log p the reference; both float64."""
    nll, divergence = [], []
    for rows in _slices(logits):
        log_q, log_p = torch.log_softmax(logits[rows].float(), dim=-1), reference[rows]
        nll.append(-log_q.gather(1, targets[rows, None])[:, 0].double())
        divergence.append((log_p.exp() * (log_p - log_q)).sum(dim=-1, dtype=torch.float64))
    return torch.cat(nll), torch.cat(divergence)
