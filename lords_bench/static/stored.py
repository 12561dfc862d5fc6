"""Machine code on disk: what the compiler gave, kept under a name that says all that could have changed it.

    {"sha256": "…", "code": {"assembly": "…", "resources": "…", "shared_bytes": 0, "layouts": {…}}}    gzip

A cache repairs itself. Whatever a file holds that was not written here whole (a flipped bit, half a file, JSON of
another shape, a checksum that does not fit) is no result: the file is removed, its path is told, and the code is
compiled again.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lords_bench.errors import RecordError
from lords_bench.files import remove, write_whole
from lords_bench.records.codec import canonical_json, from_plain, to_plain
from lords_bench.static.ttgir import LayoutFacts
from lords_bench.strict_json import parse_json

# Part of every name: a change of what a file holds makes the old ones unknown, not damaged.
FORMAT = "2"
# The largest of the shipped kernels has 2 MB of assembly; what grows beyond this was not written here.
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCode:
    """What the compiler made of one request.

    Attributes:
        assembly: SASS of a cubin, or GCN assembly, as text.
        resources: the disassembler's resource line; empty for AMD, whose assembly carries them.
        shared_bytes: dynamic shared memory of one block.
        layouts: what Triton decided on layouts.
    """

    assembly: str
    resources: str
    shared_bytes: int
    layouts: LayoutFacts


def code_from_answer(fields: dict[str, object]) -> StoredCode:
    """The code of a worker's answer.

    Raises:
        RecordError: the answer is not of that form.
    """
    found: StoredCode = from_plain(StoredCode, fields, path="code")
    return found


def read_stored(path: Path, on_damage: Callable[[Path], None]) -> StoredCode | None:
    """The stored code; None where there is none that can be believed.

    Args:
        path: of the file.
        on_damage: told the path of a file that was removed because it could not be believed.
    """
    try:
        return _believed(path)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError):
        remove(path)
        on_damage(path)
        return None


def write_stored(path: Path, code: StoredCode) -> None:
    """Keep the code.

    Raises:
        StoreError: the disk or the folder refuses.
    """
    plain = to_plain(code)
    content = canonical_json({"code": plain, "sha256": _sha256(plain)})
    write_whole(path, gzip.compress(content.encode(), compresslevel=3, mtime=0), remedy="give another --cache")


def _believed(path: Path) -> StoredCode:
    with gzip.open(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RecordError(f"{path.name} holds more than {MOST_BYTES} bytes")
    found = parse_json(content)
    if not isinstance(found, dict) or found.keys() != {"code", "sha256"} or found["sha256"] != _sha256(found["code"]):
        raise RecordError(f"{path.name} is not as it was written")
    return code_from_answer(found["code"])


def _sha256(plain: object) -> str:
    return hashlib.sha256(canonical_json(plain).encode()).hexdigest()
