"""The text of the lifecycle suite: training text and held-out passages of the base and of the shifted domain.

    base      the standard library's source. Training: what the testbed was trained on, library files three times as
              often as test files. Held out: the held-out modules, every fourth to validate, the others to test.
    shifted   the English prose of `pydoc_data.topics`, divided by topic.

Topics quote each other at length ("specialnames" holds "customization" whole), so a division by topic alone would
put test text into the training text: a paragraph that stands in a test topic is taken out of all others, and one that
stands in a validation topic out of the training topics. White space is not looked at when paragraphs are compared.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lords_bench.errors import UsageError
from lords_bench.records.lifecycle import Domain, Split
from lords_bench.suites.lifecycle.cases import TextSize
from lords_bench.suites.passages import Passage, evenly_spaced_passages
from lords_bench.suites.testbed.corpus import (
    Document,
    corpus_sha256,
    held_out_documents,
    shifted_documents,
    training_documents,
)

# Training text is shuffled in pieces of about this many characters, so that no long file fills a run.
PIECE_CHARACTERS = 6000
LIBRARY_COPIES = 3
DOMAINS: tuple[Domain, ...] = ("base", "shifted")
SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleText:
    """Training pieces by domain, held-out passages by domain and split."""

    training: dict[Domain, tuple[Document, ...]]
    held_out: dict[tuple[Domain, Split], tuple[Passage, ...]]

    @property
    def sha256(self) -> str:
        parts = [
            Document(name=f"{domain} training {document.name}", text=document.text)
            for domain in DOMAINS
            for document in self.training[domain]
        ]
        parts += [
            Document(name=f"{domain} {split} {passage.document}", text=passage.text)
            for (domain, split), passages in sorted(self.held_out.items())
            for passage in passages
        ]
        return corpus_sha256(parts)


def lifecycle_text(size: TextSize) -> LifecycleText:
    """The text of both domains.

    Raises:
        ModelError: the interpreter ships no source.
    """
    held_out = held_out_documents()
    topics = divide_topics(shifted_documents())
    base = [d for d in training_documents() for _ in range(1 if d.is_test else LIBRARY_COPIES)]
    documents: dict[tuple[Domain, Split], Sequence[Document]] = {
        ("base", "validation"): held_out[::4],
        ("base", "test"): [d for number, d in enumerate(held_out) if number % 4],
        ("shifted", "validation"): topics["validation"],
        ("shifted", "test"): topics["test"],
    }
    counts: dict[Split, int] = {"validation": size.validation_passages, "test": size.test_passages}
    return LifecycleText(
        training={"base": tuple(base), "shifted": topics["training"]},
        held_out={
            key: evenly_spaced_passages(found, counts[key[1]], size.passage_characters)
            for key, found in documents.items()
        },
    )


def divide_topics(topics: Sequence[Document]) -> dict[str, tuple[Document, ...]]:
    """`training`, `validation` and `test` topics (three, one and one of five) without a paragraph in common."""
    sets: dict[str, list[Document]] = {"test": [], "validation": [], "training": []}
    for number, topic in enumerate(topics):
        sets["test" if number % 5 == 0 else "validation" if number % 5 == 2 else "training"].append(topic)
    seen: set[str] = set()
    divided = {}
    for name, members in sets.items():
        kept = [Document(name=d.name, text=_without(d.text, seen)) for d in members]
        divided[name] = tuple(d for d in kept if d.text.strip())
        seen |= {_normal(paragraph) for d in members for paragraph in paragraphs(d.text)}
    return divided


def paragraphs(text: str) -> list[str]:
    """Stretches of text between blank lines, without empty ones."""
    return [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


def _without(text: str, seen: set[str]) -> str:
    return "".join(f"{part}\n\n" for part in paragraphs(text) if _normal(part) not in seen)


def _normal(paragraph: str) -> str:
    return " ".join(paragraph.split())


def training_windows(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, *, count: int, window_tokens: int, seed: int
) -> Tensor:
    """`count` windows of one shuffled stream of pieces, each opening with the end-of-text token: int64, (count, T).

    The text is gone through as often as it takes, in a new order each time.

    Raises:
        UsageError: there is no text.
    """
    pieces = [piece for document in documents for piece in _pieces(document.text)]
    if not pieces:
        raise UsageError("the training text is empty; give text to train on")
    rng = random.Random(seed)
    needed = count * window_tokens
    stream: list[int] = []
    while len(stream) < needed:
        rng.shuffle(pieces)
        for piece in pieces:
            stream.append(int(tokenizer.eos_token_id))
            stream += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
            if len(stream) >= needed:
                break
    return torch.tensor(stream[:needed]).view(count, window_tokens)


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + PIECE_CHARACTERS) + 1 or len(text)
        if text[start:end].strip():
            yield text[start:end]
        start = end
