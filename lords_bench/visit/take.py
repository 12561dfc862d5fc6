"""What a visit brought back, checked and put where records and tables belong. Nothing is written unless all is well.

    reports/records/<device>/<suite>.jsonl    appended to what is there; a line that is there already is left out
    reports/tuned/<device>/*.jsonl            likewise: the table, and the trials that it was derived from
    reports/records/<device>/visit.jsonl      how the steps ended
    reports/records/<device>/testbed.json     how the visit's model was trained, where it trained one

A file is refused for one line that is not believed, for records of another device than its folder says, for made-up
numbers, and for a processor's, which are made where they are looked at.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lords_bench.errors import RecordError, StoreError, UsageError, reason_of
from lords_bench.files import write_whole
from lords_bench.records import BenchRecord, Environment, LifecycleRecord
from lords_bench.records.check import CheckRecord
from lords_bench.records.cost import CostRecord
from lords_bench.records.environment import slug
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.lines import folder_lock, store_error
from lords_bench.records.store import read_nouns
from lords_bench.records.trial import RunOff, Trial
from lords_bench.records.tuned import TunedEntry
from lords_bench.strict_json import parse_json
from lords_bench.visit.archive import TRAINING, unpack
from lords_bench.visit.steps import LOG_NAME, log_lines

_RECORDS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "accuracy.jsonl": BenchRecord,
        "latency.jsonl": LatencyRecord,
        "lifecycle.jsonl": LifecycleRecord,
        "cost.jsonl": CostRecord,
        "checks.jsonl": CheckRecord,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What was put where.

    Attributes:
        device: folder name of the device.
        lines: file to how many lines were new in it.
        sources: hashes of the source that the records were made with.
    """

    device: str
    lines: Mapping[Path, int]
    sources: frozenset[str]


def take(source: Path, out: Path, *, fake_too: bool = False) -> Taken:
    """Check everything that a visit's archive or folder holds, then put it below `out`.

    Args:
        source: as `pack.pack` wrote it, or the folder of a visit.
        out: folder of all reports.
        fake_too: believe made-up numbers as well, to try the software.

    Raises:
        UsageError: there is nothing to take.
        RecordError: a line that is not believed, records of another device, made-up or a processor's numbers.
        StoreError: a damaged archive, a run that writes to one of the folders (its process is named), or a disk that
            refuses.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(source, folder)
        files = sorted((folder / "reports" / "records").glob("*/*.jsonl"))
        if fake_too:
            # A trial visit has a processor's costs beside the made-up times.
            files = [path for path in files if not path.parent.name.startswith("cpu")]
        devices = sorted({path.parent.name for path in files})
        if len(devices) != 1:
            raise UsageError(f"{str(source)!r} holds records of {len(devices)} devices; a visit has those of one")
        device = devices[0]
        sources: set[str] = set()
        for path in files:
            sources |= _require_records(path, device, fake_too=fake_too)
        tables = sorted((folder / "tuned").glob("*/*.jsonl"))
        for path in tables:
            _require_rows(path, device, fake_too=fake_too)
        wanted = {out / "records" / device / path.name: _lines(path) for path in files}
        wanted |= {out / "tuned" / device / path.name: _lines(path) for path in tables if path.parent.name == device}
        steps = log_lines(folder / LOG_NAME)
        if steps:
            wanted[out / "records" / device / LOG_NAME] = [line for line, _ in steps]
        training = _training(folder / TRAINING)
        with _locked({path.parent for path in wanted}):
            fresh = {path: _fresh(path, lines) for path, lines in wanted.items()}
            for path, lines in fresh.items():
                if lines:
                    _append(path, lines)
            if training is not None:
                _append(out / "records" / device / "testbed.json", [training], anew=True)
    return Taken(device=device, lines={path: len(lines) for path, lines in fresh.items()}, sources=frozenset(sources))


@contextmanager
def _locked(folders: set[Path]) -> Iterator[None]:
    """No run appends to a file of the folders while it is replaced, and no other taking replaces it."""
    with ExitStack() as locks:
        for folder in sorted(folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise store_error("write", folder, error) from None
            locks.enter_context(folder_lock(folder))
        yield


def _require_records(path: Path, device: str, *, fake_too: bool) -> set[str]:
    noun = _RECORDS.get(path.name)
    if noun is None:
        raise RecordError(f"{path.name} is no record file; known: {', '.join(_RECORDS)}")
    sources = set()
    for record in _believed(path, noun):
        environment = _environment(record)
        if environment.device != "cuda":
            raise RecordError(
                f"{path.name} holds records of a processor, {environment.device_name}; those are not taken"
            )
        if slug(environment.device_name) != device:
            raise RecordError(f"{path.name} of {device} holds a record of {environment.device_name}; nothing is taken")
        if getattr(getattr(record, "run", None), "is_fake", False) and not fake_too:
            raise RecordError(f"{path.name} holds made-up numbers of a fake device; nothing is taken")
        sources.add(environment.source_sha256)
    return sources


def _require_rows(path: Path, device: str, *, fake_too: bool) -> None:
    noun: type[Any] = TunedEntry
    if path.name != "tuned.jsonl":
        noun = Trial if path.name.endswith(".trials.jsonl") else RunOff
    for row in _believed(path, noun):
        if getattr(row, "evidence", "measured") != "measured" and not fake_too:
            raise RecordError(f"{path.name} holds made-up times; nothing is taken")
        if slug(row.key.machine.gpu) != device and not fake_too:
            raise RecordError(f"{path.name} holds a row of {row.key.machine.gpu}, not of {device}; nothing is taken")


def _believed(path: Path, noun: type[Any]) -> tuple[Any, ...]:
    found = read_nouns(path, noun)
    if found.rejected:
        first = found.rejected[0]
        raise RecordError(f"{path.name}, line {first.line}, is not believed: {first.reason}; nothing is taken")
    return found.records


def _environment(record: Any) -> Environment:
    environment: Environment = record.run.environment if hasattr(record, "run") else record.environment
    return environment


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().split(b"\n") if line]


def _fresh(path: Path, lines: Sequence[bytes]) -> list[bytes]:
    known = set(_lines(path)) if path.exists() else set()
    return [line for line in lines if line not in known]


def _training(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    try:
        found = parse_json(path.read_bytes())
        if not isinstance(found, dict):
            raise RecordError(f"{TRAINING} is damaged: it is no object; nothing is taken")
        return json.dumps(found, indent=1).encode()
    except RecursionError:
        raise RecordError(f"{TRAINING} is damaged: it is nested too deeply; nothing is taken") from None
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{TRAINING} is damaged: {reason_of(error)}; nothing is taken") from None


def _append(path: Path, lines: Sequence[bytes], *, anew: bool = False) -> None:
    """Add lines to a file, whole or not at all."""
    try:
        before = b"" if anew or not path.exists() else path.read_bytes()
        if before and not before.endswith(b"\n"):
            raise StoreError(f"{str(path)!r} ends in a torn line; mend it first")
    except OSError as error:
        raise StoreError(f"cannot read {str(path)!r}: {reason_of(error)}; give another --out") from None
    write_whole(path, before + b"".join(line + b"\n" for line in lines), remedy="give another --out")
