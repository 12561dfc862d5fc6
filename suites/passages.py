"""Passages: the stretches of text that a model is judged or calibrated on, cut evenly from a set of documents.

A passage is a text, not a list of tokens, so that models with different tokenizers are judged on the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from lords_bench.errors import UsageError
from lords_bench.suites.testbed.corpus import Document


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """Whole lines of one document; `document` is its number in the sequence it was cut from."""

    document: int
    text: str


def evenly_spaced_passages(documents: Sequence[Document], count: int, characters: int) -> tuple[Passage, ...]:
    """At most `count` passages of about `characters` each, spread evenly over all the text; they do not overlap.

    A passage begins and ends with a line. Fewer are returned where the text has no room for more.

    Raises:
        UsageError: there is no text.
    """
    total = sum(len(document.text) for document in documents)
    if not total or count < 1:
        raise UsageError(f"{count} passages cannot be cut from {total} characters of text; give more text")
    stride = total / count
    passages: list[Passage] = []
    before = 0
    for number, document in enumerate(documents):
        text, end = document.text, 0
        # Passage i stands where the text's characters (i + ½)·stride lie, as far as that is in this document.
        indices = range(ceil(before / stride - 0.5), ceil((before + len(text)) / stride - 0.5))
        for index in indices:
            start = max(end, _line_start(text, int((index + 0.5) * stride) - before, characters))
            end = _line_end(text, start, start + characters)
            if end - start >= min(characters, len(text)) // 2 and text[start:end].strip():
                passages.append(Passage(document=number, text=text[start:end]))
        before += len(text)
    return tuple(passages)


def _line_start(text: str, position: int, characters: int) -> int:
    """Start of the first line after `position`, which is moved back so that the passage fits into the text."""
    latest = max(0, min(position, len(text) - characters))
    return 0 if latest == 0 else text.find("\n", latest - 1) + 1


def _line_end(text: str, start: int, position: int) -> int:
    """End of the last whole line before `position`; the position itself where no line ends after `start`."""
    if position >= len(text):
        return len(text)
    return text.rfind("\n", start, position) + 1 or position
