"""Four-way next-line choice: which of four lines follows this stretch of source?

The wrong lines come from the same file and have the same indentation where possible, so that indentation and
vocabulary alone do not give the answer away. Items are built from held-out documents only. Chance is 25 %.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from lords_bench.suites.testbed.corpus import Document

OPTION_COUNT = 4
CONTEXT_LINES = 12
MINIMUM_LINE_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceItem:
    """`context` ends with a line break; each option is one whole line without its line break."""

    document: str
    context: str
    options: tuple[str, ...]
    answer: int


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _distractors(line: str, line_number: int, lines: Sequence[str], rng: random.Random) -> list[str] | None:
    """Three other lines of the file with the same indentation, none within the context or equal to the answer."""
    near = range(line_number - CONTEXT_LINES, line_number + CONTEXT_LINES)
    candidates = {
        other
        for number, other in enumerate(lines)
        if number not in near
        and other.strip() != line.strip()
        and len(other.strip()) >= MINIMUM_LINE_CHARACTERS
        and _indentation(other) == _indentation(line)
    }
    if len(candidates) < OPTION_COUNT - 1:
        return None
    return rng.sample(sorted(candidates), OPTION_COUNT - 1)


def next_line_items(documents: Sequence[Document], count: int, seed: int) -> tuple[ChoiceItem, ...]:
    """`count` items drawn without replacement from all usable lines of the documents; deterministic for a seed.

    Raises:
        ValueError: the documents hold fewer than `count` usable lines.
    """
    rng = random.Random(seed)
    places = [
        (document, number)
        for document in documents
        for number, line in enumerate(document.text.split("\n"))
        if number >= CONTEXT_LINES and len(line.strip()) >= MINIMUM_LINE_CHARACTERS
    ]
    rng.shuffle(places)
    items: list[ChoiceItem] = []
    for document, number in places:
        if len(items) == count:
            break
        lines = document.text.split("\n")
        wrong = _distractors(lines[number], number, lines, rng)
        if wrong is None:
            continue
        answer = rng.randrange(OPTION_COUNT)
        options = [*wrong[:answer], lines[number], *wrong[answer:]]
        context = "\n".join(lines[number - CONTEXT_LINES : number]) + "\n"
        items.append(ChoiceItem(document=document.name, context=context, options=tuple(options), answer=answer))
    if len(items) < count:
        raise ValueError(f"only {len(items)} choice items can be drawn from {len(documents)} documents, not {count}")
    return tuple(items)
