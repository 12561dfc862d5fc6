"""Noun ↔ one line of JSON. A line names its schema and carries a checksum of its record.

    {"schema":"lords-bench/record/1.0","sha256":"…","record":{…}}

The record is canonical JSON: keys sorted, no blanks, ASCII, floats by `repr` (exact), no NaN or infinity. The checksum
is that of the canonical form, so a hand-edited value is noticed and a re-indented line is not. Fields map by name to
the dataclass and by type to JSON. A schema is `lords-bench/<kind>/<major>.<minor>`: another major
is refused, a later minor may hold fields that are skipped here, and in a known minor an unknown field is an error.
"""

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lords_bench.errors import RecordError, SpecError
from lords_bench.records.bench import BenchRecord
from lords_bench.records.check import CheckRecord
from lords_bench.records.cost import CostRecord
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.lifecycle import LifecycleRecord
from lords_bench.records.trial import RunOff, Trial
from lords_bench.records.tuned import TunedEntry
from lords_bench.records.tuning_table import TuningTable

SCHEMA_MAJOR = 1
SCHEMA_MINOR = 0
# Every noun that has files of its own, by the name in its schema.
KINDS: MappingProxyType[str, type[Any]] = MappingProxyType(
    {
        "record": BenchRecord,
        "latency": LatencyRecord,
        "fingerprint": Fingerprint,
        "lifecycle": LifecycleRecord,
        "check": CheckRecord,
        "cost": CostRecord,
        "tuned": TunedEntry,
        "trial": Trial,
        "runoff": RunOff,
        "tuning-table": TuningTable,
    }
)

Noun = TypeVar("Noun")


def canonical_json(value: object) -> str:
    """Canonical JSON of plain JSON data: sorted keys, no blanks, ASCII, exact floats.

    Raises:
        RecordError: a float is not finite.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"record cannot be written: {error}; non-finite results need status invalid") from None


def encode_line(record: object) -> str:
    """A noun of `KINDS` as one line, without the newline.

    Raises:
        RecordError: a value that JSON cannot hold.
    """
    body = canonical_json(to_plain(record))
    schema = f"lords-bench/{_kind_of(record)}/{SCHEMA_MAJOR}.{SCHEMA_MINOR}"
    return f'{{"schema":"{schema}","sha256":"{_sha256(body)}","record":{body}}}'


def noun_of_line(line: str) -> type[Any]:
    """The kind of noun that a line says it holds; the rest of the line is not looked at.

    Raises:
        RecordError: not JSON, no schema name, or one that this version does not read.
    """
    try:
        envelope = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a JSON record: {error}") from None
    schema = envelope.get("schema") if isinstance(envelope, dict) else None
    if not isinstance(schema, str):
        raise RecordError("not a lords_bench record: no schema name")
    return _parse_schema(schema)[0]


def decode_line(line: str) -> BenchRecord:
    """The accuracy record of one line; see `decode_noun`."""
    return decode_noun(line, BenchRecord)


def decode_noun(line: str, noun: type[Noun]) -> Noun:
    """The noun of one line.

    Raises:
        RecordError: not JSON, unknown schema or major version, another kind of noun, checksum that does not fit, a
            field that is missing, unknown, of the wrong type or contradicts another.
    """
    try:
        envelope = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a JSON record: {error}") from None
    if not isinstance(envelope, dict) or not isinstance(envelope.get("schema"), str):
        raise RecordError("not a lords_bench record: no schema name")
    kind, minor = _parse_schema(envelope["schema"])
    if set(envelope) != {"schema", "sha256", "record"}:
        raise RecordError(f"record envelope has fields {sorted(envelope)}; expected schema, sha256 and record")
    if envelope["sha256"] != _sha256(canonical_json(envelope["record"])):
        raise RecordError("checksum does not fit the record: the line was edited or damaged; measure the case again")
    if kind is not noun:
        raise RecordError(
            f"schema {envelope['schema']!r} does not belong into a file of {noun.__name__} lines; move it"
        )
    record = from_plain(kind, envelope["record"], path="record", skip_unknown=minor > SCHEMA_MINOR)
    assert isinstance(record, noun)
    return record


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, enums to their values; everything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(annotation: Any, value: Any, *, path: str, skip_unknown: bool = False) -> Any:
    """Plain JSON data to the annotated type; `path` names the field in errors.

    Raises:
        RecordError: the data does not have that type.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _from_union(arguments, value, path, skip_unknown)
    if origin is Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
    elif origin is tuple and isinstance(value, list):
        return _from_list(arguments, value, path, skip_unknown)
    elif isinstance(annotation, type):
        if is_dataclass(annotation) and isinstance(value, dict):
            return _from_dict(annotation, value, path, skip_unknown)
        if issubclass(annotation, Enum) and value in {member.value for member in annotation}:
            return annotation(value)
        # `type(value) is`: JSON's true must not pass for the integer 1. A whole number is a fine float.
        if type(value) is annotation:
            return value
        if annotation is float and type(value) is int:
            return float(value)
    raise RecordError(f"{path} is {_shown(value)}; expected {getattr(annotation, '__name__', annotation)}")


def _from_union(options: tuple[Any, ...], value: Any, path: str, skip_unknown: bool) -> Any:
    if value is None and NoneType in options:
        return None
    candidates = [option for option in options if option is not NoneType]
    for option in candidates[:-1]:
        if type(value) is option or (get_origin(option) is Literal and value in get_args(option)):
            return from_plain(option, value, path=path, skip_unknown=skip_unknown)
    return from_plain(candidates[-1], value, path=path, skip_unknown=skip_unknown)


def _from_list(arguments: tuple[Any, ...], value: list[Any], path: str, skip_unknown: bool) -> tuple[Any, ...]:
    if arguments[-1] is Ellipsis:
        item_types = [arguments[0]] * len(value)
    else:
        item_types = list(arguments)
        if len(value) != len(item_types):
            raise RecordError(f"{path} has {len(value)} items; expected {len(item_types)}")
    return tuple(
        from_plain(item_type, item, path=f"{path}[{index}]", skip_unknown=skip_unknown)
        for index, (item_type, item) in enumerate(zip(item_types, value, strict=True))
    )


@cache
def _hints(noun: type[Any]) -> dict[str, Any]:
    """Types of a noun's fields; to resolve their names takes longer than the rest of a line."""
    return get_type_hints(noun)


def _from_dict(noun: type[Any], value: dict[str, Any], path: str, skip_unknown: bool) -> Any:
    hints = _hints(noun)  # type: ignore[arg-type]
    known = {field.name: field for field in fields(noun)}
    unknown = sorted(set(value) - set(known))
    if unknown and not skip_unknown:
        raise RecordError(f"{path} has unknown fields: {', '.join(unknown)}; known: {', '.join(known)}")
    missing = [name for name, field in known.items() if name not in value and field.default is MISSING]
    if missing:
        raise RecordError(f"{path} lacks {', '.join(missing)}")
    arguments = {
        name: from_plain(hints[name], value[name], path=f"{path}.{name}", skip_unknown=skip_unknown)
        for name in known
        if name in value
    }
    try:
        return noun(**arguments)
    except SpecError as error:
        raise RecordError(f"{path}: {error}") from None


def _parse_schema(schema: str) -> tuple[type[Any], int]:
    project, _, rest = schema.partition("/")
    kind, _, version = rest.partition("/")
    major, _, minor = version.partition(".")
    if project != "lords-bench" or kind not in KINDS or not (major.isdecimal() and minor.isdecimal()):
        expected = ", ".join(f"lords-bench/{name}/{SCHEMA_MAJOR}.x" for name in KINDS)
        raise RecordError(f"unknown schema {schema!r}; this version reads {expected}")
    if int(major) != SCHEMA_MAJOR:
        raise RecordError(
            f"schema {schema!r} has major version {int(major)}, this version reads {SCHEMA_MAJOR}; "
            "use the lords_bench that wrote it, or measure again"
        )
    return KINDS[kind], int(minor)


def _kind_of(record: object) -> str:
    return next(name for name, noun in KINDS.items() if isinstance(record, noun))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
