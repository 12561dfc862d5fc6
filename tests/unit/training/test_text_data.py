"""Which documents a file of training text holds."""

from pathlib import Path

import pytest

from lords_bench.errors import UsageError
from lords_bench.training.text_data import read_texts

# Every character that Python's splitlines ends a line at and JSON allows in a string, and the other line endings.
SEPARATORS = "\x85\u2028\u2029"


def test_only_a_newline_ends_a_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(f'{{"text": "a{SEPARATORS}b"}}\r\n\n{{"text": "c"}}\n'.encode())

    assert read_texts([str(path)]) == [f"a{SEPARATORS}b", "c"]


def test_a_line_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(f'{{"text": "a{SEPARATORS}b"}}\n\nnonsense\n'.encode())

    with pytest.raises(UsageError, match="line 3 is not JSON"):
        read_texts([str(path)])
