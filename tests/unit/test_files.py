"""Whatever stops a write, the old file stays and nothing else is left; a killed writer's rest goes with the next."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lords_bench import files
from lords_bench.errors import StoreError
from lords_bench.files import whole_file, whole_files, whole_folder, write_whole


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


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_that_its_library_keeps_private_is_as_readable_as_any_other(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "file") as part:
            _replace_by_private(part)
        with whole_folder(tmp_path / "folder") as part:
            (part / "below").mkdir()
            _replace_by_private(part / "below" / "file")
    finally:
        os.umask(before)

    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder/below/file")]
    assert modes == [0o666 & ~umask] * 2


def _replace_by_private(path: Path) -> None:
    own = path.with_name("own")
    os.close(os.open(own, os.O_CREAT, 0o600))
    own.replace(path)


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


def test_files_go_beside_others_and_the_one_that_says_so_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    moved: list[str] = []
    replace = Path.replace

    def note(path: Path, target: Path) -> Path:
        moved.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", note)

    with whole_files(tmp_path, last="a") as part:
        for name in ("a", "b", "c"):
            (part / name).write_text(name)

    assert moved == ["b", "c", "a"]
    assert names(tmp_path) == ["a", "b", "c", "mine"]


def test_files_that_are_not_all_written_are_not_there(tmp_path: Path) -> None:
    def half() -> None:
        with whole_files(tmp_path, last="a") as part:
            (part / "b").write_text("b")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"cannot write '.*a': No space left on device; free some space"):
        half()

    assert names(tmp_path) == []


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


@pytest.mark.parametrize("moment", ["made", "opened"])
def test_a_part_that_another_writer_takes_for_an_orphan_is_made_again(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, others, flock = tmp_path / "page.md", ["b", "a"], fcntl.flock
    made = Path.touch

    def other_writer() -> None:
        if others:
            write_whole(path, others.pop())

    def touch(part: Path, *arguments: int) -> None:
        made(part, *arguments)
        if moment == "made":
            other_writer()

    def lock(file: int, how: int) -> None:
        if moment == "opened":
            other_writer()
        flock(file, how)

    monkeypatch.setattr(Path, "touch", touch)
    monkeypatch.setattr(fcntl, "flock", lock)

    write_whole(path, "mine")

    assert others == []
    assert path.read_text() == "mine"
    assert names(tmp_path) == [path.name]
