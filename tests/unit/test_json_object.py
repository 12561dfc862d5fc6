from pathlib import Path

import pytest

from lords_bench import json_object
from lords_bench.json_object import object_of, read_object


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ä": [1, {"b": null}]}', encoding="utf-8")

    assert read_object(tmp_path / "a.json") == {"ä": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "Expecting value"),
        (b"[1]", "a JSON list where an object is due"),
        (b"5", "a JSON int where an object is due"),
        (b'{"a": "\xff"}', "can't decode byte"),
        (b'{"a":' * 100_000, "values nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "integer string conversion"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a.json").write_bytes(content)

    with pytest.raises(ValueError, match=complaint):
        read_object(tmp_path / "a.json")


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "absent.json")


def test_a_file_is_read_to_its_limit_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"a": "' + "x" * 100 + '"}')
    monkeypatch.setattr(json_object, "MOST_BYTES", 50)

    with pytest.raises(ValueError, match="more than 0 MB of JSON"):
        read_object(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[" * 20, '{"a": [1' + ",1" * 20 + "]}", '{"a": 1' + ', "b": {}' * 10 + "}"])
def test_values_are_counted_before_they_are_made(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_object, "MOST_VALUES", 10)

    with pytest.raises(ValueError, match="more than 10 values"):
        object_of(text)
