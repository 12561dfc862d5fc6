"""One line of a record file: what is believed and what is refused, and why. Round trips: tests/properties."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from latency_builders import make_latency
from lords_bench.errors import RecordError
from lords_bench.quant import Codebook, QuantSpec
from lords_bench.records.codec import canonical_json, decode_line, decode_noun, encode_line, noun_of_line
from lords_bench.records.latency import LatencyRecord
from record_builders import make_record, make_samples

# Tuning tables are left out: their lines are older than a field that they leave to its default.
COMMITTED = sorted(
    path for path in (Path(__file__).resolve().parents[3] / "reports").rglob("*.jsonl") if path.parent.name != "tuning"
)


def _edited(change: Callable[[dict[str, Any]], None], *, schema: str | None = None) -> str:
    """A line whose record was changed and whose checksum was made to fit."""
    envelope = json.loads(encode_line(make_record()))
    change(envelope["record"])
    envelope["sha256"] = hashlib.sha256(canonical_json(envelope["record"]).encode()).hexdigest()
    envelope["schema"] = schema or envelope["schema"]
    return json.dumps(envelope)


def _keep(_record: dict[str, Any]) -> None:
    """Change nothing but the schema."""


def test_a_line_names_its_schema_first() -> None:
    assert encode_line(make_record()).startswith('{"schema":"lords-bench/record/1.0","sha256":"')


def test_a_record_without_samples_comes_back_equal() -> None:
    record = make_record(bits=None, spec=None)

    assert decode_line(encode_line(record)) == record


def test_a_codebook_of_one_s_own_comes_back_equal() -> None:
    levels = Codebook(name="mine", levels=(-1.0, -0.25, 0.3, 1.0))
    record = make_record(bits=2, spec=QuantSpec(method="lords", bits=2, levels=levels))

    assert decode_line(encode_line(record)) == record


def test_a_hand_edited_value_is_refused() -> None:
    line = encode_line(make_record()).replace('"seed":0', '"seed":1')

    with pytest.raises(RecordError, match="checksum does not fit"):
        decode_line(line)


def test_indentation_is_not_an_edit() -> None:
    record = make_record()
    indented = json.dumps(json.loads(encode_line(record)), indent=2)

    assert decode_line(indented) == record


@pytest.mark.parametrize("schema", ["lords-bench/record/2.0", "lords-bench/record/0.9"])
def test_another_major_version_is_refused_with_the_remedy(schema: str) -> None:
    with pytest.raises(
        RecordError, match=r"has major version \d, this version reads 1; use the lords_bench that wrote it"
    ):
        decode_line(_edited(_keep, schema=schema))


@pytest.mark.parametrize("schema", ["lords-bench/recipe/1.0", "other/record/1.0", "lords-bench/record", "1.0"])
def test_an_unknown_schema_is_refused_by_name(schema: str) -> None:
    with pytest.raises(RecordError, match=f"unknown schema '{schema}'; this version reads lords-bench/record/1.x"):
        decode_line(_edited(_keep, schema=schema))


def test_another_kind_of_noun_is_refused_by_name() -> None:
    with pytest.raises(RecordError, match=r"schema 'lords-bench/trial/1.0' does not belong into a file of BenchRecord"):
        decode_line(_edited(_keep, schema="lords-bench/trial/1.0"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_committed_lines_are_written_again_byte_for_byte(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in islice(file, 5)]

    assert [encode_line(decode_noun(line, noun_of_line(line))) for line in lines] == lines


def test_a_line_has_the_least_minor_version_that_knows_its_fields() -> None:
    record = make_latency()
    assert record.measurement is not None
    count = len(record.measurement.samples_ns)
    plain = replace(record.measurement, layouts=(), places=())
    traced = replace(plain, layouts=(0, 1) * (count // 2), places=(1, 0) * (count // 2))

    old, new = (encode_line(replace(record, measurement=measurement)) for measurement in (plain, traced))

    assert old.startswith('{"schema":"lords-bench/latency/1.0"')
    assert "layouts" not in old
    assert new.startswith('{"schema":"lords-bench/latency/1.1"')
    assert decode_noun(new, LatencyRecord).measurement == traced


def test_unknown_fields_of_a_later_minor_version_are_skipped() -> None:
    line = _edited(lambda record: record.update(later="field"), schema="lords-bench/record/1.7")

    assert decode_line(line) == make_record()


def test_unknown_fields_of_a_known_minor_version_are_refused() -> None:
    with pytest.raises(RecordError, match="record has unknown fields: colour"):
        decode_line(_edited(lambda record: record.update(colour="red")))


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RecordError, match="record lacks seed"):
        decode_line(_edited(lambda record: record.pop("seed")))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", True, "record.seed is True; expected int"),
        ("seed", "0", "record.seed is '0'; expected int"),
        ("complete", 1, "record.complete is 1; expected bool"),
        ("status", "fine", "record.status is 'fine'; expected Status"),
        ("planned_case_ids", ["lords-b4-g64", 3], r"record.planned_case_ids\[1\] is 3; expected str"),
        ("bits", 4.0, "record.bits is 4.0; expected int"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_path(field: str, value: object, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        decode_line(_edited(lambda record: record.update({field: value})))


def test_a_record_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(RecordError, match="samples belong to status ok"):
        decode_line(_edited(lambda record: record.update(samples=None)))


def test_a_spec_this_version_does_not_know_is_refused_as_a_record_error() -> None:
    with pytest.raises(RecordError, match=r"record.spec: unknown method 'novel'"):
        decode_line(_edited(lambda record: record["spec"].update(method="novel")))


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"schema":3}', "\x00" * 40, '{"schema":"a","a":NaN}'])
def test_what_is_not_a_record_is_refused(line: str) -> None:
    with pytest.raises(RecordError, match="not a"):
        decode_line(line)


def test_deeply_nested_json_is_refused_not_a_crash() -> None:
    with pytest.raises(RecordError, match="not a"):
        decode_line("[" * 100_000)


def test_a_whole_number_is_accepted_where_a_float_belongs() -> None:
    record = make_record(samples=make_samples(quantize_seconds=2))

    assert decode_line(encode_line(record)) == record
