"""A line with a right checksum and any value in the place of any other: that line alone is lost, in one line of words.

The sweep is exhaustive over places and a list of values that have stopped programs before; the random one goes beyond.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.errors import RecordError
from lords_bench.records.codec import decode_noun, encode_line
from lords_bench.records.journal import Journal, read_journal
from lords_bench.records.store import NounStore, read_nouns
from noun_builders import every_noun

NOUNS = every_noun()
Place = tuple[str | int, ...]

HUGE = 10**400
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 2**63, 2**64, -(2**63) - 1, HUGE, -HUGE, 0.0, -0.0, 0.5, -1.5, 1e308, -1e308,
    5e-324, "", "ok", "a\nb", "\x1b[31m", "\ud800", "a\udfffb", "0", [], ["ok"], [[]], [None], [0], [0, 0], [1.5], {},
    {"a": 1}, {"": {}}, [{}], "\u202e", "x" * 5000,
)  # fmt: skip
# What only the text of a line can hold.
TOKENS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "[" * 100_000 + "]" * 100_000,
    '{"a":' * 50_000 + "1" + "}" * 50_000, "[" * 900 + "]" * 900, '{"a":1,"a":2}', '"\\ud800"', '"', "nul", "\x00", "",
)  # fmt: skip
MARK = "\x01here\x01"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def envelope_of(noun: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_line(noun))
    return found


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in plain JSON data, the whole first; of the items of a list the first stands for all."""
    yield place
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*place, name))
    elif isinstance(value, list):
        for index, item in enumerate(value[:1]):
            yield from places(item, (*place, index))


def put(value: Any, place: Place, new: Any) -> Any:
    """A copy with another value in one place."""
    if not place:
        return new
    changed = copy.copy(value)
    changed[place[0]] = put(value[place[0]], place[1:], new)
    return changed


def line_of(schema: str, record: Any) -> str:
    """A line whose checksum fits, whatever its record is."""
    body = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return f'{{"schema":{json.dumps(schema)},"sha256":"{hashlib.sha256(body.encode()).hexdigest()}","record":{body}}}'


def use(noun: Any) -> None:
    """Computes every property of a noun and of the nouns in it: what is believed must be of use."""
    for name, member in vars(type(noun)).items():
        if isinstance(member, property):
            getattr(noun, name)
    for field in fields(noun):
        value = getattr(noun, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if is_dataclass(item):
                use(item)


def judged(line: str, noun: type[Any]) -> str | None:
    """The reason why a line is not believed; None where it is, and then its noun is whole."""
    try:
        found = decode_noun(line, noun)
    except RecordError as error:
        return str(error)
    again = encode_line(found)
    assert encode_line(decode_noun(again, noun)) == again
    use(found)
    return None


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_any_value_in_any_place_loses_that_line_alone(noun: Any, tmp_path: Path) -> None:
    path, envelope = tmp_path / "records.jsonl", envelope_of(noun)
    whole = encode_line(noun)
    lines = [
        line_of(envelope["schema"], put(envelope["record"], place, value))
        for place in places(envelope["record"])
        for value in VALUES
    ]
    is_bad = [judged(line, type(noun)) is not None for line in lines]

    path.write_text("".join(f"{line}\n" for line in (whole, *lines, whole)))

    found = read_nouns(path, type(noun))

    assert [item.line - 2 for item in found.rejected] == [index for index, bad in enumerate(is_bad) if bad]
    assert found.records[0] == found.records[-1] == noun
    assert all(item.reason and len(item.reason) <= 300 and item.reason.isprintable() for item in found.rejected)
    assert sum(is_bad) > len(lines) / 2


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_a_token_that_is_no_value_loses_that_line_alone(noun: Any, tmp_path: Path) -> None:
    path, envelope = tmp_path / "records.jsonl", envelope_of(noun)
    lines = []
    for token in TOKENS:
        for place in [(name,) for name in envelope["record"]]:
            body = json.dumps(put(envelope["record"], place, MARK), sort_keys=True, separators=(",", ":"))
            body = body.replace(json.dumps(MARK), token)
            sha256 = hashlib.sha256(body.encode()).hexdigest()
            lines.append(f'{{"schema":"{envelope["schema"]}","sha256":"{sha256}","record":{body}}}')
    path.write_text("".join(f"{line}\n" for line in lines) + f"{encode_line(noun)}\n")

    found = read_nouns(path, type(noun))

    assert [item.line for item in found.rejected] == list(range(1, len(lines) + 1))
    assert found.records == (noun,)
    assert all(item.reason.isprintable() for item in found.rejected)


@given(st.sampled_from(NOUNS), st.data())
def test_random_values_lose_that_line_alone(noun: Any, data: st.DataObject) -> None:
    envelope = envelope_of(noun)
    place = data.draw(st.sampled_from(list(places(envelope["record"]))))
    value = data.draw(json_values)

    judged(line_of(envelope["schema"], put(envelope["record"], place, value)), type(noun))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (f"lords-bench/record/{'1' * 5000}.0", "unknown schema"),
        (f"lords-bench/record/1.{'1' * 5000}", "unknown schema"),
        ("lords-bench/record/1.0\n", "unknown schema"),
        ("lords-bench/record/١.٠", "unknown schema"),
        ("\ud800", "unknown schema"),
    ],
    ids=["major", "minor", "newline", "other digits", "surrogate"],
)
def test_a_version_that_is_none_is_refused_in_one_short_line(schema: str, message: str) -> None:
    with pytest.raises(RecordError, match=message) as error:
        decode_noun(line_of(schema, envelope_of(NOUNS[0])["record"]), type(NOUNS[0]))

    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sha256", [None, 1, [], {}, "", "ab"])
def test_a_checksum_of_any_type_is_refused(sha256: object) -> None:
    envelope = envelope_of(NOUNS[0]) | {"sha256": sha256}

    with pytest.raises(RecordError, match="checksum does not fit"):
        decode_noun(json.dumps(envelope), type(NOUNS[0]))


@pytest.mark.parametrize("writer", [NounStore, Journal])
def test_a_writer_goes_on_behind_damaged_lines(tmp_path: Path, writer: Any) -> None:
    noun = NOUNS[0]
    path, envelope = tmp_path / "records.jsonl", envelope_of(noun)
    damaged = line_of(envelope["schema"], envelope["record"] | {"status": ["ok"]})
    path.write_text(f"{damaged}\n{encode_line(noun)}\n\n")

    with writer(path, type(noun)) as store:
        store.append(noun)

    found = read_journal(path, type(noun))
    assert found.records == (noun, noun)
    assert [item.line for item in found.rejected] == [1, 3]


def test_what_would_not_be_believed_is_not_written() -> None:
    record = copy.copy(NOUNS[0])
    object.__setattr__(record, "command", "\ud800")

    with pytest.raises(RecordError, match=r"record\.command is '.*', which is no Unicode text"):
        encode_line(record)
