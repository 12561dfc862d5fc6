"""Every field of a quantized folder's JSON and headers, each made wrong in every way that JSON knows."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSING = object()

# For a value of each type, what a damaged or hostile file may hold in its place.
WRONG: dict[str, Any] = {
    "missing": MISSING,
    "null": None,
    "list": [1],
    "object": {"a": 1},
    "text": "x\n# \ud800\u001b[31m",
    "minus one": -1,
    "zero": 0,
    "huge": 10**12,
    "beyond a float": 10**400,
    "half": 0.5,
    "nan": float("nan"),
    "true": True,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutation:
    """A change of one field of one file; `path` leads to the field through objects and lists."""

    file: str
    path: tuple[str | int, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.file}:{'.'.join(map(str, self.path))}={self.kind}"


def paths_in(value: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every field, the containers' own included."""
    if before:
        yield before
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, (*before, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_in(inner, (*before, index))


def mutations(folder: Path, file: str) -> list[Mutation]:
    content = read(folder / file)
    return [Mutation(file=file, path=path, kind=kind) for path in paths_in(content) for kind in WRONG]


def mutated(folder: Path, mutation: Mutation, target: Path) -> Path:
    """A copy of the folder with that change, in place of what was there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    content = read(folder / mutation.file)
    *way, last = mutation.path
    place = content
    for step in way:
        place = place[step]
    if WRONG[mutation.kind] is MISSING:
        del place[last]
    else:
        place[last] = WRONG[mutation.kind]
    write(target / mutation.file, content)
    return target


def read(file: Path) -> Any:
    """JSON, or the header of a safetensors file."""
    content = file.read_bytes()
    if file.suffix == ".safetensors":
        content = content[8 : 8 + struct.unpack("<Q", content[:8])[0]]
    return json.loads(content)


def write(file: Path, content: Any) -> None:
    text = json.dumps(content).encode("ascii")
    if file.suffix != ".safetensors":
        file.write_bytes(text)
        return
    data = file.read_bytes()
    rest = data[8 + struct.unpack("<Q", data[:8])[0] :]
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def rewrite(file: Path, change: Callable[[Any], None]) -> None:
    """Changes the JSON or header of a file in place."""
    content = read(file)
    change(content)
    write(file, content)
