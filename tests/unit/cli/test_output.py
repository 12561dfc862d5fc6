"""What becomes of lines that a terminal, pipe or disk does not take, and of wrong arguments."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lords_bench.cli import bench, main

LIST = ("bench", "--list")


def run(*arguments: str, line: str = '"$@"', **environment: str) -> subprocess.CompletedProcess[str]:
    """`lords-bench` in a process of its own, below a shell that redirects."""
    command = ["bash", "-c", f"set -o pipefail; {line}", "bash", sys.executable, "-m", "lords_bench", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, encoding="latin-1", check=False
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_ends_the_command_in_silence(unbuffered: str) -> None:
    # The reader is gone before the first line, so that even a short output meets a closed pipe.
    found = run(*LIST, line='{ sleep 0.2; "$@"; } | exec 0<&-', PYTHONUNBUFFERED=unbuffered)

    assert (found.returncode, found.stderr) == (141, "")


def test_a_full_disk_is_told_in_one_line() -> None:
    found = run(*LIST, line='"$@" > /dev/full')

    assert found.returncode == 2
    assert found.stderr == (
        "lords-bench: standard output cannot be written: No space left on device; send it elsewhere\n"
    )


@pytest.mark.parametrize(("file", "where"), [(None, "the disk"), ("/full/a.json", "the disk of '/full/a.json'")])
def test_a_full_disk_that_a_library_meets_is_one_line(
    file: str | None, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def meet(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(bench, "bench_accuracy", meet)

    assert main(LIST) == 2
    assert capsys.readouterr().err == f"lords-bench: {where} is full; free some space and start again\n"


def test_what_is_no_full_disk_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def meet(*_: object) -> int:
        raise OSError(errno.ENOTDIR, "Not a directory")

    monkeypatch.setattr(bench, "bench_accuracy", meet)

    with pytest.raises(NotADirectoryError):
        main(LIST)


def test_a_closed_output_swallows_the_lines() -> None:
    found = run(*LIST, line='"$@" >&-')

    assert (found.returncode, found.stderr) == (0, "")


def test_an_encoding_without_a_character_gets_a_question_mark() -> None:
    found = run("bench", "--help", PYTHONIOENCODING="ascii")

    assert (found.returncode, found.stderr) == (0, "")
    assert "--methods NAME,?" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see 'lords-bench --help'"),
        (["quantize", "m"], "the following arguments are required: --out; see 'lords-bench quantize --help'"),
        (
            ["bench", "--bits", "four"],
            "argument --bits: 'four' is no whole number from 2 to 4; see",
        ),
        (["bench", "--bits", ""], "argument --bits: '' is no list of numbers such as 4,3; see"),
        (["bench", "--methods", ","], "argument --methods: ',' names nothing; leave the option out for all; see"),
        (
            ["explain", "1", "2", "x"],
            "argument K: 'x' is no whole number from 1 to 1,000,000,000; see 'lords-bench explain --help'",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    error = capsys.readouterr().err
    assert error.startswith(f"lords-bench: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".", ".."])
def test_a_name_that_leaves_the_folder_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["bench", "latency", "--fake", "--name", name, "--out", str(tmp_path / "out")])

    assert code == 2
    assert f"--name {name!r} cannot name a folder" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == []
