import pytest
import torch

from lords_bench.errors import UsageError
from lords_bench.suites.lifecycle.cases import TextSize
from lords_bench.suites.lifecycle.text import (
    SPLITS,
    LifecycleText,
    divide_topics,
    lifecycle_text,
    paragraphs,
    training_windows,
)
from lords_bench.suites.testbed.corpus import Document, module_of, shifted_documents
from tiny_models import END_OF_TEXT, byte_tokenizer


@pytest.fixture(scope="module")
def text() -> LifecycleText:
    return lifecycle_text(TextSize(test_passages=8, validation_passages=4))


def normal(parts: list[str]) -> set[str]:
    return {" ".join(part.split()) for part in parts}


def test_no_paragraph_of_a_held_out_topic_is_trained_on() -> None:
    divided = divide_topics(shifted_documents())
    trained = normal([part for topic in divided["training"] for part in paragraphs(topic.text)])

    for split in SPLITS:
        held_out = normal([part for topic in divided[split] for part in paragraphs(topic.text)])
        assert held_out
        assert not held_out & trained


def test_a_division_by_topic_alone_would_leak() -> None:
    topics = shifted_documents()
    trained = normal([p for i, topic in enumerate(topics) if i % 5 not in (0, 2) for p in paragraphs(topic.text)])
    tested = normal([p for i, topic in enumerate(topics) if i % 5 == 0 for p in paragraphs(topic.text)])

    assert tested & trained


def test_a_paragraph_with_other_white_space_is_the_same_paragraph() -> None:
    topics = [Document(name=str(i), text=text) for i, text in enumerate(["one  two", "one\n two\n\nthree"])]

    assert [topic.text for topic in divide_topics(topics)["training"]] == ["three\n\n"]


def test_validation_and_test_passages_differ_in_both_domains(text: LifecycleText) -> None:
    for domain in ("base", "shifted"):
        validation, test = ({p.text for p in text.held_out[domain, split]} for split in SPLITS)
        assert validation
        assert test
        assert not validation & test


def test_no_held_out_module_is_trained_on(text: LifecycleText) -> None:
    trained = {module_of(document.name) for document in text.training["base"]}

    assert "argparse" not in trained
    assert "ast" in trained


def test_the_hash_depends_on_the_training_text(text: LifecycleText) -> None:
    other = LifecycleText(training={**text.training, "shifted": ()}, held_out=text.held_out)

    assert other.sha256 != text.sha256


def test_training_windows_are_the_same_for_the_same_seed_only() -> None:
    documents = [Document(name=str(i), text=f"line {i}\n" * 900) for i in range(4)]

    first, again, other = (
        training_windows(documents, byte_tokenizer(), count=6, window_tokens=16, seed=seed) for seed in (0, 0, 1)
    )

    assert first.shape == (6, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_short_text_is_gone_through_again() -> None:
    windows = training_windows([Document(name="a", text="ab")], byte_tokenizer(), count=2, window_tokens=6, seed=0)

    assert windows.flatten().tolist().count(END_OF_TEXT) == 4


def test_empty_training_text_is_refused() -> None:
    with pytest.raises(UsageError, match="training text is empty"):
        training_windows([Document(name="a", text=" \n")], byte_tokenizer(), count=1, window_tokens=4, seed=0)


def test_a_long_file_does_not_fill_a_run() -> None:
    documents = [Document(name="long", text="a\n" * 50_000), Document(name="short", text="b\n" * 50_000)]

    windows = training_windows(documents, byte_tokenizer(), count=50, window_tokens=600, seed=0)

    letters = [(windows == byte_tokenizer()(letter)["input_ids"][0]).sum().item() for letter in "ab"]
    assert min(letters) > 0
