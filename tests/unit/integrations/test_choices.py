from dataclasses import dataclass, replace

import pytest
import torch

from lords_bench.integrations.choices import ChoiceScorer, Continuations, log_likelihoods
from lords_bench.integrations.hf_model import CausalModel
from tiny_models import CONTEXT, END_OF_TEXT

# float32 sums of some ten terms of order 1, with padding and cache against without.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    context: str
    options: tuple[str, ...]
    answer: int


def make_items() -> list[Item]:
    lines = ("    return None", "    yield x", "    pass", "    raise ValueError(name)", "    del self", "    x = 1")
    return [
        Item(context="def f():\n" * (1 + i % 4) + "#\n", options=lines[i % 3 : i % 3 + 3], answer=i % 3)
        for i in range(11)
    ]


@torch.no_grad()
def direct(model: CausalModel, context: tuple[int, ...], option: tuple[int, ...]) -> float:
    """One sequence alone, without padding or cache."""
    logits = model.model(input_ids=torch.tensor([[*context, *option][:-1]])).logits[0].double()
    log_p = torch.log_softmax(logits, dim=-1)
    return sum(float(log_p[len(context) - 1 + i, token]) for i, token in enumerate(option))


@torch.no_grad()
def test_log_likelihoods_are_those_of_each_sequence_alone(llama: CausalModel) -> None:
    items = [
        Continuations(context=(7,), options=((1,), (2, 3, 4, 5))),
        Continuations(context=(9, 8, 7, 6, 5, 4, 3), options=((1, 2), (200, 3, 4), (5,))),
        Continuations(context=tuple(range(40)), options=((1, 2),)),
    ]

    totals = log_likelihoods(llama, items)

    for item, found in zip(items, totals, strict=True):
        expected = [direct(llama, item.context, option) for option in item.options]
        assert found.tolist() == pytest.approx(expected, abs=TOLERANCE)


def test_the_answer_is_the_option_with_most_mutual_information(llama: CausalModel) -> None:
    items = make_items()
    encode = llama.tokenizer.encode
    expected = []
    for item in items:
        context = tuple(encode(item.context.rstrip()))
        gains = [
            direct(llama, context, tuple(encode("\n" + option))) - direct(llama, (END_OF_TEXT,), tuple(encode(option)))
            for option in item.options
        ]
        expected.append(gains.index(max(gains)) == item.answer)

    correct = ChoiceScorer(llama, items).correct({})

    assert correct == tuple(expected)
    assert len(set(correct)) == 2


def test_exactly_one_option_is_the_answer(llama: CausalModel) -> None:
    items = [replace(item, answer=answer) for item in make_items() for answer in range(3)]

    correct = ChoiceScorer(llama, items).correct({})

    assert all(sum(correct[i : i + 3]) == 1 for i in range(0, len(correct), 3))


def test_other_weights_give_other_answers(llama: CausalModel) -> None:
    scorer = ChoiceScorer(llama, make_items())
    weights = {layer.name: -layer.module.weight.data for layer in llama.layers}

    assert scorer.correct(weights) != scorer.correct({})


def test_no_items_are_answered_with_nothing(llama: CausalModel) -> None:
    assert ChoiceScorer(llama, []).correct({}) == ()


def test_of_a_context_too_long_for_the_model_the_end_is_read(llama: CausalModel) -> None:
    items = [replace(item, context="x" * 2 * CONTEXT + item.context) for item in make_items()]
    scorer = ChoiceScorer(llama, items)
    lengths: list[int] = []
    handle = llama.model.register_forward_pre_hook(
        lambda _module, _args, inputs: lengths.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )

    scorer.correct({})

    handle.remove()
    assert CONTEXT - 40 < max(lengths) < CONTEXT
