"""JSON from outside: what is none, or reads as two things, is refused in one short line."""

import pytest

from lords_bench import strict_json
from lords_bench.strict_json import parse_json


def test_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "ä"]}') == {"a": [1, 2.5, None, True, "ä"]}
    assert parse_json('"ä"'.encode()) == "ä"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ("[" * 100_000, "it is nested too deeply"),
        ("[NaN]", "NaN is not a number"),
        ("-Infinity", "-Infinity is not a number"),
        ('{"a":1,"b":{"c":1,"c":2}}', "field 'c' stands there twice"),
        ('{"\\n":1,"\\n":2}', "field '' stands there twice"),
        ("9" * 5000, "a number of 5000 digits"),
        (b"\xff\xfe\xfd", "it is not UTF-8 text"),
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_json(text)

    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("kind", [str, bytes])
def test_more_values_than_anything_here_has_are_refused_before_they_take_room(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "MOST_VALUES", 10)
    fits, more = (text if kind is str else text.encode() for text in ("[" + "1," * 9 + "1]", "[" + "[]," * 9 + "1]"))

    assert parse_json(fits) == [1] * 10
    with pytest.raises(ValueError, match="it holds more than 10 values"):
        parse_json(more)
