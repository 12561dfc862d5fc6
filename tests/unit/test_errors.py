import pickle

import pytest

from lords_bench import errors
from lords_bench.errors import (
    FOREIGN_CHARACTERS,
    MESSAGE_CHARACTERS,
    LordsBenchError,
    ModelError,
    StoreError,
    kind_and_ends,
    reason_of,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LordsBenchError)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\n# b\r\n\tc", "a # b c"),
        ("red \x1b[31m and \ud800", "red \\x1b[31m and \\ud800"),
        ("3×4 …", "3×4 …"),
    ],
)
def test_a_message_is_one_line_whatever_went_into_it(kind: type[LordsBenchError], text: str, line: str) -> None:
    assert str(kind(text)) == line


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_message_keeps_the_value_and_the_remedy(kind: type[LordsBenchError]) -> None:
    message = str(kind(f"value {'x' * 10_000}; the remedy"))

    assert len(message) == MESSAGE_CHARACTERS
    assert message.startswith("value ")
    assert message.endswith("; the remedy")


@pytest.mark.parametrize("error", [ModelError("a"), StoreError("b")])
def test_an_error_survives_a_process(error: LordsBenchError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (what was written one line above)

    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo."), "one two"),
        (KeyError("weight_map"), "KeyError: 'weight_map'"),
        (RuntimeError(), "RuntimeError"),
        (MemoryError("no room"), "no room"),
        (FileNotFoundError(2, "No such file or directory", "/some/file"), "No such file or directory"),
        (ModelError("ours; remedy"), "ours; remedy"),
    ],
)
def test_a_library_is_quoted_in_one_line(error: BaseException, line: str) -> None:
    assert reason_of(error) == line


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_a_library_is_quoted_at_a_bounded_length(kind: type[Exception]) -> None:
    assert len(reason_of(kind("word " * 10_000))) <= FOREIGN_CHARACTERS


def test_a_compiler_is_quoted_by_its_first_and_last_line() -> None:
    assert kind_and_ends(RuntimeError("at 3:4\n  source\n\ncause\n")) == "RuntimeError: at 3:4 cause"
    assert kind_and_ends(RuntimeError()) == "RuntimeError"
