"""What a model is judged and calibrated on, and how much of it: passages, next-line items, calibration passages."""

from dataclasses import dataclass

from lords_bench.options import COUNT, WINDOW
from lords_bench.suites.passages import Passage, evenly_spaced_passages
from lords_bench.suites.testbed.choices import ChoiceItem, next_line_items
from lords_bench.suites.testbed.corpus import Document, corpus_sha256, held_out_documents, training_documents

CHOICE_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSize:
    """How much text is read; a passage of 1400 characters of source is a little less than 512 tokens of the testbed's.

    Attributes:
        passages: passages judged on.
        choice_items: next-line items.
        calibration_passages: passages of training text whose activations calibrate.
        passage_characters: length of a passage.
        window_tokens: longest input; a model with a shorter context uses that.

    Raises:
        UsageError: a number that no evaluation has.
    """

    passages: int
    choice_items: int
    calibration_passages: int
    passage_characters: int = 1400
    window_tokens: int = 512

    def __post_init__(self) -> None:
        for name in ("passages", "choice_items", "calibration_passages", "passage_characters"):
            COUNT.check(name, getattr(self, name))
        WINDOW.check("window_tokens", self.window_tokens)


QUICK = EvaluationSize(passages=48, choice_items=96, calibration_passages=64)
FULL = EvaluationSize(passages=256, choice_items=400, calibration_passages=128)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationText:
    """What a model is judged and calibrated on; `calibration_source` says in words where the latter comes from."""

    size: EvaluationSize
    passages: tuple[Passage, ...]
    items: tuple[ChoiceItem, ...]
    item_documents: tuple[int, ...]
    calibration: tuple[Passage, ...]
    calibration_source: str

    @property
    def sha256(self) -> str:
        parts = [Document(name=f"passage {p.document}", text=p.text) for p in self.passages]
        parts += [
            Document(name=f"choice {item.answer} of {item.document}", text="\0".join((item.context, *item.options)))
            for item in self.items
        ]
        parts += [Document(name=f"calibration {p.document}", text=p.text) for p in self.calibration]
        return corpus_sha256(parts)


def text_of_testbed(size: EvaluationSize, *, calibration: Document | None = None) -> EvaluationText:
    """Held-out text of the testbed to judge on, and training text of its library files to calibrate on.

    Args:
        size: how much of it.
        calibration: other text to calibrate on.

    Raises:
        ModelError: the interpreter ships no source.
        UsageError: the calibration text is empty.
    """
    held_out = held_out_documents()
    items = next_line_items(held_out, size.choice_items, CHOICE_SEED)
    numbers = {document.name: number for number, document in enumerate(held_out)}
    return EvaluationText(
        size=size,
        passages=evenly_spaced_passages(held_out, size.passages, size.passage_characters),
        items=items,
        item_documents=tuple(numbers[item.document] for item in items),
        calibration=calibration_passages(size, calibration),
        calibration_source=calibration.name if calibration else "training text of the testbed",
    )


def calibration_passages(size: EvaluationSize, document: Document | None) -> tuple[Passage, ...]:
    """Passages of the document, or (None) of the library files that the testbed was trained on.

    Raises:
        ModelError: the interpreter ships no source.
        UsageError: the document is empty.
    """
    documents = (document,) if document else tuple(d for d in training_documents() if not d.is_test)
    return evenly_spaced_passages(documents, size.calibration_passages, size.passage_characters)
