"""Multiple choice by a causal model: which of some options does the context make more likely?

The answer is the option with the largest log p(option | context) − log p(option), where the second term conditions on
the prefix token alone: lm-eval's `acc_mutual_info`. Plain likelihood mostly prefers the shortest line, whatever the
context: of 320 next-line items the testbed answers 33 % rightly by it, 40 % per token, and 55 % by mutual information.

The context is read once per item, and the options share its key-value cache.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lords_bench.integrations.batches import batch_workers
from lords_bench.integrations.hf_model import CausalModel, swapped_weights
from lords_bench.integrations.windows import prefix_token

# Few items in a batch keep contexts and options of like length together, and less is padded.
BATCH_ITEMS = 8


class ChoiceQuestion(Protocol):
    """A question: which of `options` follows `context`; `answer` is the index of the right one."""

    @property
    def context(self) -> str:
        """What is read first."""

    @property
    def options(self) -> tuple[str, ...]:
        """What may follow, without a separator from the context."""

    @property
    def answer(self) -> int:
        """Index of the option that does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuations:
    """Token sequences that may follow `context`, which has at least one token, as has each of them."""

    context: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]


class ChoiceScorer:
    """Answers a fixed list of choice items under exchanged weights.

    Args:
        model: what answers.
        items: any number.

    Raises:
        ModelError: the tokenizer has no prefix token.
    """

    def __init__(self, model: CausalModel, items: Sequence[ChoiceQuestion]) -> None:
        self._model = model
        self._answers = tuple(item.answer for item in items)
        self._conditional = tuple(_after_context(model, item) for item in items)
        self._unconditional = tuple(_after_prefix(model.tokenizer, item) for item in items)

    def correct(self, weights: Mapping[str, Tensor]) -> tuple[bool, ...]:
        """Whether each item is answered rightly with `weights` (by layer name) in place of the model's own.

        Raises:
            ModelError: unknown layer or wrong shape.
        """
        with swapped_weights(self._model.layers, weights):
            given = log_likelihoods(self._model, self._conditional)
            alone = log_likelihoods(self._model, self._unconditional)
        return tuple(int((a - b).argmax()) == c for a, b, c in zip(given, alone, self._answers, strict=True))


def log_likelihoods(model: CausalModel, items: Sequence[Continuations]) -> list[Tensor]:
    """Per item, the total log-likelihood of each of its options given its context, float64, in nats."""
    # Items of like length side by side: little is padded.
    order = sorted(range(len(items)), key=lambda i: (len(items[i].context), max(map(len, items[i].options))))
    batches = [order[start : start + BATCH_ITEMS] for start in range(0, len(order), BATCH_ITEMS)]
    longest = max((len(item.context) + sum(map(len, item.options)) for item in items), default=0)
    logit_bytes = 4 * model.model.config.get_text_config().vocab_size * longest * BATCH_ITEMS

    def totals_of(batch: Sequence[int]) -> list[Tensor]:
        return _batch_log_likelihoods(model, [items[index] for index in batch])

    with batch_workers(model.device, logit_bytes) as workers:
        totals = workers.map(totals_of, batches)
    by_index = {
        index: total
        for batch, found in zip(batches, totals, strict=True)
        for index, total in zip(batch, found, strict=True)
    }
    return [by_index[index] for index in range(len(items))]


@torch.inference_mode()
def _batch_log_likelihoods(model: CausalModel, items: Sequence[Continuations]) -> list[Tensor]:
    # The last context token is read with the options: its logits predict their first tokens.
    heads = [item.context[:-1] for item in items]
    tails = [(item.context[-1], *option) for item in items for option in item.options]
    left, right = max(map(len, heads)), max(map(len, tails)) - 1
    counts = torch.tensor([len(item.options) for item in items], device=model.device)
    rows = torch.arange(len(items), device=model.device).repeat_interleave(counts)
    # Padding stands on the right of a context, where the causal mask hides it from the context itself.
    head_mask_HT = _padded([[1] * len(head) for head in heads], left, model.device)[rows]
    tokens_OT = _padded(tails, right + 1, model.device)
    scored_OT = _padded([[1] * (len(tail) - 1) for tail in tails], right, model.device)
    cached: dict[str, Any] = {"use_cache": False}
    if left:
        name = _cache_argument(model.model)
        cache = model.model(input_ids=_padded(heads, left, model.device), use_cache=True)[name]
        cache.batch_select_indices(rows)
        cached = {"use_cache": True, name: cache}
    logits = model.model(
        input_ids=tokens_OT[:, :-1],
        attention_mask=torch.cat([head_mask_HT, torch.ones_like(scored_OT)], dim=1),
        # Padding stays at position 0: beyond the model's last position there may be no embedding.
        position_ids=scored_OT * (head_mask_HT.sum(dim=1, keepdim=True) + torch.arange(right, device=model.device)),
        **cached,
    ).logits
    log_p_OT = torch.log_softmax(logits.float(), dim=-1).gather(2, tokens_OT[:, 1:, None])[:, :, 0]
    return list((log_p_OT.double() * scored_OT).sum(dim=1).split(counts.tolist()))


def _cache_argument(model: torch.nn.Module) -> str:
    """How a model's `forward` calls its cache: `cache` since transformers 5.24, which warns of the older name."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _padded(rows: Sequence[Sequence[int]], length: int, device: torch.device) -> Tensor:
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device, dtype=torch.long)


def _after_context(model: CausalModel, item: ChoiceQuestion) -> Continuations:
    """Divided as lm-eval divides it.

    White space at the end of the context goes to the options, since tokenizers join it with what follows; an option is
    what the tokens of context and option together have beyond the tokens of the context. Of a context that is too long
    for the model the end is kept, the same for every option.
    """
    encode = model.tokenizer.encode
    text = item.context.rstrip()
    space = item.context[len(text) :]
    if not text:
        return _after_prefix(model.tokenizer, item)
    context = tuple(encode(text, verbose=False))
    options = tuple(tuple(encode(text + space + option, verbose=False)[len(context) :]) for option in item.options)
    if model.context_tokens is not None:
        room = model.context_tokens + 1 - max(map(len, options))
        context = context[-max(1, room) :]
    return Continuations(context=context, options=options)


def _after_prefix(tokenizer: PreTrainedTokenizerBase, item: ChoiceQuestion) -> Continuations:
    options = (tokenizer.encode(option, add_special_tokens=False) for option in item.options)
    return Continuations(context=(prefix_token(tokenizer),), options=tuple(map(tuple, options)))
