"""Draws the project's rooms and which imports which: `python tests/architecture/house.py` writes docs/house.md.

A room is a folder or a file directly below the package (linked folders stand there too). An arrow goes from a room to
one that it imports; drawn are only arrows that no longer way replaces, counted are all. A floor is the longest way down
to a room that imports no other.
"""

import subprocess
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from architecture.import_map import PACKAGE, ROOT, import_map, module_files, part_of

PAGE = ROOT / "docs" / "house.md"
# Everybody may know these, and arrows to them would hide the others.
GROUND = ("errors", "version")
STUDIES = "suites/studies"
# Product code: what a user runs; studies are run by hand.
PRODUCT = ("lords_bench", "kernels", "reference", "suites")

Rooms = Mapping[str, frozenset[str]]


def rooms_of(graph: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Room to the rooms that it imports, without itself and without the ground."""
    names = {part_of(module) for module in graph} - {PACKAGE, "__main__", *GROUND}
    found: dict[str, set[str]] = {name: set() for name in names}
    for module, imported in graph.items():
        room = part_of(module)
        if room in found:
            parts = {part_of(name) for name in imported if name.split(".")[0] == PACKAGE}
            found[room] |= (parts & names) - {room}
    return {room: frozenset(others) for room, others in found.items()}


def floors_of(rooms: Rooms) -> dict[str, int]:
    """Room to its floor, from 0.

    Raises:
        CycleError: rooms that import each other.
    """
    floors: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        floors[room] = max((floors[other] + 1 for other in rooms[room]), default=0)
    return floors


def drawn(rooms: Rooms) -> dict[str, frozenset[str]]:
    """The arrows that no way over other rooms replaces."""
    below: dict[str, frozenset[str]] = {}
    for room in TopologicalSorter(rooms).static_order():
        below[room] = rooms[room].union(*(below[other] for other in rooms[room]))
    return {
        room: frozenset(other for other in others if not any(other in below[third] for third in others))
        for room, others in rooms.items()
    }


def map_lines(rooms: Rooms) -> list[str]:
    """The rooms by floor, the highest first, and the drawn arrows as a Mermaid graph."""
    floors, arrows = floors_of(rooms), drawn(rooms)
    by_floor = [sorted(room for room in rooms if floors[room] == floor) for floor in range(max(floors.values()) + 1)]
    counted = sum(map(len, rooms.values())), sum(map(len, arrows.values()))
    lines = [f"{len(rooms)} rooms on {len(by_floor)} floors, {counted[0]} arrows, {counted[1]} of them drawn."]
    lines += ["", "| floor | rooms |", "|--:|---|"]
    lines += [f"| {floor} | {' · '.join(found)} |" for floor, found in reversed([*enumerate(by_floor)])]
    lines += ["", "```mermaid", "graph TD"]
    lines += [f"    {room} --> {other}" for room in sorted(rooms) for other in sorted(arrows[room])]
    return [*lines, "```"]


def size_lines() -> list[str]:
    """Files and lines of the folders at the top, as git knows them."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "*.py"], capture_output=True, text=True, check=True)
    counts: dict[str, list[int]] = {}
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            top = STUDIES if name.startswith(STUDIES) else name.partition("/")[0]
            counts.setdefault(top, []).append(len(path.read_text("utf-8").splitlines()))
    rows = {top: found for top, found in sorted(counts.items()) if "." not in top}
    rows["product"] = [lines for top in PRODUCT for lines in counts.get(top, [])]
    return [
        "| folder | files | lines | mean |",
        "|---|--:|--:|--:|",
        *(f"| {top} | {len(found)} | {sum(found):,} | {sum(found) // len(found)} |" for top, found in rows.items()),
    ]


def page() -> str:
    """The page, with the sizes of this tree."""
    rooms = rooms_of(import_map(ROOT / PACKAGE))
    sizes = "\n".join(size_lines())
    return f"""# The house

Made by `python tests/architecture/house.py`. A room is a folder or file of `lords_bench/`, an arrow an import;
everybody may import {" and ".join(f"`{name}`" for name in GROUND)}. An arrow that a longer way replaces is not drawn.

{chr(10).join(map_lines(rooms))}

{len(module_files(ROOT / PACKAGE))} modules. Python files and their lines; the product is {", ".join(PRODUCT)}:

{sizes}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
