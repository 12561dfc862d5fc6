"""Noun ↔ one line of JSON. A line names its schema and carries a checksum of its record.

    {"schema":"lords-bench/record/1.0","sha256":"…","record":{…}}

The record is canonical JSON: keys sorted, no blanks, ASCII, floats by `repr` (exact), no NaN or infinity. The checksum
is that of the canonical form, so a hand-edited value is noticed and a re-indented line is not. Fields map by name to
the dataclass and by type to JSON; what has the right type and can be neither shown nor computed with (half a surrogate
pair, an integer above 64 bits) is refused like a wrong type, when it is written as well as when it is read. A schema is
`lords-bench/<kind>/<major>.<minor>`: another major is refused, a later minor may hold fields that are skipped here, and
in a known minor an unknown field is an error.
A field that came with a later minor says so (`metadata={"since": 1}`); as long as it has its default it is not written,
and a line's minor is the least that knows all it holds. So an old line is written again byte for byte.
"""

import hashlib
import json
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lords_bench.errors import RecordError, SpecError, reason_of
from lords_bench.records.accesses import KernelAccesses
from lords_bench.records.bench import BenchRecord
from lords_bench.records.check import CheckRecord
from lords_bench.records.cost import CostRecord
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.lifecycle import LifecycleRecord
from lords_bench.records.trial import RunOff, Trial
from lords_bench.records.tuned import TunedEntry
from lords_bench.records.tuning_table import TuningTable
from lords_bench.strict_json import parse_json
from lords_bench.text import one_line

SCHEMA_MAJOR = 1
SCHEMA_MINOR = 3
# Every noun that has files of its own, by the name in its schema.
KINDS: MappingProxyType[str, type[Any]] = MappingProxyType(
    {
        "record": BenchRecord,
        "latency": LatencyRecord,
        "accesses": KernelAccesses,
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

_SCHEMA = re.compile(r"lords-bench/(?P<kind>[a-z-]+)/(?P<major>[0-9]{1,4})\.(?P<minor>[0-9]{1,4})")
_LEAST_INTEGER, _MOST_INTEGER = -(2**63), 2**64 - 1

Noun = TypeVar("Noun")


def canonical_json(value: object) -> str:
    """Canonical JSON of plain JSON data: sorted keys, no blanks, ASCII, exact floats.

    Raises:
        RecordError: a float is not finite.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except ValueError as error:
        raise RecordError(
            f"record cannot be written: {reason_of(error)}; non-finite results need status invalid"
        ) from None
    except RecursionError:
        raise RecordError("record cannot be written: it is nested too deeply") from None


def encode_line(record: object) -> str:
    """A noun of `KINDS` as one line, without the newline.

    Raises:
        RecordError: a value that JSON cannot hold, or that would not be believed when it is read.
    """
    plain = to_plain(record)
    _require_plain(plain, "record")
    body = canonical_json(plain)
    schema = f"lords-bench/{_kind_of(record)}/{SCHEMA_MAJOR}.{least_minor(record)}"
    return f'{{"schema":"{schema}","sha256":"{_sha256(body)}","record":{body}}}'


def noun_of_line(line: str) -> type[Any]:
    """The kind of noun that a line says it holds; the rest of the line is not looked at.

    Raises:
        RecordError: not JSON, no schema name, or one that this version does not read.
    """
    envelope = _parsed(line)
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
    envelope = _parsed(line)
    if not isinstance(envelope, dict) or not isinstance(envelope.get("schema"), str):
        raise RecordError("not a lords_bench record: no schema name")
    kind, minor = _parse_schema(envelope["schema"])
    if set(envelope) != {"schema", "sha256", "record"}:
        raise RecordError(f"record envelope has fields {_shown(sorted(envelope))}; expected schema, sha256 and record")
    try:
        body = canonical_json(envelope["record"])
    except RecordError:
        raise RecordError("not a JSON record: it is nested too deeply, or holds a number that is not finite") from None
    if envelope["sha256"] != _sha256(body):
        raise RecordError("checksum does not fit the record: the line was edited or damaged; measure the case again")
    if kind is not noun:
        raise RecordError(
            f"schema {envelope['schema']!r} does not belong into a file of {noun.__name__} lines; move it"
        )
    record = from_plain(noun, envelope["record"], path="record", skip_unknown=minor > SCHEMA_MINOR)
    assert isinstance(record, noun)
    return record


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, enums to their values; everything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in fields(value) if _is_written(value, field)
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def least_minor(value: Any) -> int:
    """Least minor version whose readers know every field that `to_plain` writes of a noun."""
    if isinstance(value, tuple):
        return max((least_minor(item) for item in value if is_dataclass(item)), default=0)
    if not is_dataclass(value):
        return 0
    written = [field for field in fields(value) if _is_written(value, field)]
    own = [int(field.metadata.get("since", 0)) for field in written]
    return max([*own, *(least_minor(getattr(value, field.name)) for field in written)], default=0)


def _is_written(noun: Any, field: Field[Any]) -> bool:
    return "since" not in field.metadata or getattr(noun, field.name) != field.default


def from_plain(annotation: Any, value: Any, *, path: str, skip_unknown: bool = False) -> Any:
    """Plain JSON data to the annotated type; `path` names the field in errors.

    Raises:
        RecordError: the data does not have that type.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _from_union(annotation, arguments, value, path, skip_unknown)
    if origin is Literal:
        if any(value == argument and type(value) is type(argument) for argument in arguments):
            return value
    elif origin is tuple and isinstance(value, list):
        return _from_list(arguments, value, path, skip_unknown)
    elif isinstance(annotation, type):
        if is_dataclass(annotation) and isinstance(value, dict):
            return _from_dict(annotation, value, path, skip_unknown)
        if issubclass(annotation, Enum) and any(value == member.value for member in annotation):
            return annotation(value)
        # `type(value) is`: JSON's true must not pass for the integer 1. A whole number is a fine float.
        if type(value) is annotation:
            _require_plain(value, path)
            return value
        if annotation is float and type(value) is int:
            _require_plain(value, path)
            return float(value)
    raise RecordError(f"{path} is {_shown(value)}; expected {_named(annotation)}")


def _from_union(annotation: Any, options: tuple[Any, ...], value: Any, path: str, skip_unknown: bool) -> Any:
    if value is None and NoneType in options:
        return None
    candidates = [option for option in options if option is not NoneType]
    fitting = [option for option in candidates if type(value) is _json_type(option)]
    # A whole number is a fine float, where no integer is offered.
    fitting = fitting or [option for option in candidates if option is float and type(value) is int]
    if not fitting:
        raise RecordError(f"{path} is {_shown(value)}; expected {_named(annotation)}")
    return from_plain(fitting[0], value, path=path, skip_unknown=skip_unknown)


def _json_type(annotation: Any) -> type[Any]:
    """What JSON gives for a value of that type."""
    origin = get_origin(annotation) or annotation
    if origin is Literal or issubclass(origin, Enum):
        return str
    if origin is tuple:
        return list
    return dict if is_dataclass(origin) else origin


def _named(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join("null" if option is NoneType else _named(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    return str(annotation.__name__)


def _require_plain(value: Any, path: str) -> None:
    """Refuse what type and JSON allow and other programs do not: halves of surrogate pairs, integers above 64 bits."""
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RecordError(f"{path} is {_shown(value)}, which is no Unicode text") from None
    elif type(value) is int and not _LEAST_INTEGER <= value <= _MOST_INTEGER:
        raise RecordError(f"{path} is an integer of {value.bit_length()} bits; at most 64 are believed")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _require_plain(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            _require_plain(item, f"{path}.{name}")


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
        names = one_line(", ".join(unknown), most=60)
        raise RecordError(f"{path} has unknown fields: {names}; known: {', '.join(known)}")
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
    found = _SCHEMA.fullmatch(schema)
    if found is None or found["kind"] not in KINDS:
        expected = ", ".join(f"lords-bench/{name}/{SCHEMA_MAJOR}.x" for name in KINDS)
        raise RecordError(f"unknown schema {_shown(schema)}; this version reads {expected}")
    major, minor = int(found["major"]), int(found["minor"])
    if major != SCHEMA_MAJOR:
        raise RecordError(
            f"schema {schema!r} has major version {major}, this version reads {SCHEMA_MAJOR}; "
            "use the lords_bench that wrote it, or measure again"
        )
    return KINDS[found["kind"]], minor


def _kind_of(record: object) -> str:
    return next(name for name, noun in KINDS.items() if isinstance(record, noun))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parsed(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise RecordError(f"not a JSON record: {reason_of(error)}") from None


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value), most=60)
    except RecursionError:
        return f"a {type(value).__name__}, nested deeply"
