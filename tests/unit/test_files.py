"""Whatever stops a write, the old file stays and nothing else is left; a killed writer's rest goes with the next."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from architecture.import_map import PACKAGE, ROOT, module_files
from lords_bench import files
from lords_bench.errors import StoreError
from lords_bench.files import whole_file, whole_folder, write_whole

# Modules that replace or make files by other means, and why that is safe.
OTHER_MEANS = {
    "lords_bench.files": "the mechanism itself",
    "lords_bench.timing.memory": "a switch of the kernel below /proc",
    "lords_bench.static.worker": "a temporary folder of its own",
    "lords_bench.integrations.quantized_folder": "inside a whole folder",
}
WRITES = {"write_text", "write_bytes", "replace", "rename", "mkstemp", "NamedTemporaryFile"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "page.md"

    write_whole(path, "one\r\n")
    write_whole(path, "zwei £\n")

    assert path.read_bytes() == "zwei £\n".encode()
    assert names(path.parent) == ["page.md"]


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_whole(tmp_path / "ours", "x")
    (tmp_path / "other").write_text("x")

    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["write_bytes", "replace", "touch"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "page.md"
    path.write_text("old")
    monkeypatch.setattr(Path, step, _full)

    with pytest.raises(StoreError, match=r"page\.md': No space left on device; free some space, or give another --x"):
        write_whole(path, "new", remedy="give another --x")

    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["page.md"]


def test_a_disk_that_is_full_only_when_forced_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", _full)

    with pytest.raises(StoreError, match="No space left on device"):
        write_whole(tmp_path / "page.md", "new")

    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_stops_the_writer_passes_and_leaves_nothing(
    tmp_path: Path, whole: Callable[..., "files.contextlib.AbstractContextManager[Path]"], error: type[BaseException]
) -> None:
    def stopped() -> None:
        with whole(tmp_path / "out") as part:
            (part / "weights" if part.is_dir() else part).write_bytes(b"half")
            raise error

    with pytest.raises(error):
        stopped()

    assert names(tmp_path) == []


def test_a_refusal_that_says_more_is_not_reworded(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^mine$"), whole_file(tmp_path / "out"):
        raise StoreError("mine")


def test_a_folder_of_the_path_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match=r"^cannot write '.*page\.md': (Not a directory|File exists); give ano"):
        write_whole(tmp_path / "file" / "page.md", "x")


def test_a_folder_takes_an_empty_ones_place_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")

    with whole_folder(tmp_path / "empty") as part:
        (part / "a").write_text("a")
    with pytest.raises(StoreError, match="Directory not empty"), whole_folder(tmp_path / "taken") as part:
        (part / "a").write_text("a")

    assert names(tmp_path) == ["empty", "taken"]
    assert names(tmp_path / "empty") == ["a"]
    assert names(tmp_path / "taken") == ["mine"]


def test_a_killed_writers_rest_goes_with_the_next_and_a_living_ones_stays(tmp_path: Path) -> None:
    path = tmp_path / "page[1].md"
    code = (
        "import sys, time; from pathlib import Path; from lords_bench.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); print('open', flush=True); time.sleep(600)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"

    write_whole(path, "while it lives")
    alive = names(tmp_path)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    killed = names(tmp_path)
    write_whole(path, "after its death")

    assert len(alive) == len(killed) == 2
    assert names(tmp_path) == [path.name]


def _other_writes(source: str) -> set[str]:
    """Calls that write, replace or rename a file; the `replace` of a text, a date or a dataclass is none."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, is_of_a_path = node.func.attr, len(node.args) == 1 and not node.keywords
            if name in WRITES and (name != "replace" or is_of_a_path):
                found.add(name)
    return found


def test_every_file_is_replaced_by_this_mechanism() -> None:
    offenders = {}
    for module, path in module_files(ROOT / PACKAGE).items():
        found = _other_writes(path.read_text("utf-8"))
        if found and module not in OTHER_MEANS:
            offenders[module] = found

    assert offenders == {}


def test_a_write_by_other_means_is_found() -> None:
    assert _other_writes("part.write_text('x')\npart.replace(path)\n'a'.replace('a', 'b')") == {"write_text", "replace"}
