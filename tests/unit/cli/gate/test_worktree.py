"""A baseline is a commit of this repository, checked out beside it, and nothing else that git would take."""

import subprocess
from pathlib import Path

import pytest

from lords_bench.cli.gate.worktree import checked_out
from lords_bench.errors import UsageError


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two commits; the second one is checked out."""
    monkeypatch.chdir(tmp_path)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], check=True)
    for content in ("first", "second"):
        (tmp_path / "file").write_text(content)
        subprocess.run(["git", "add", "file"], check=True)
        subprocess.run(["git", *who, "commit", "--quiet", "--message", content], check=True)
    return tmp_path


def test_the_commit_is_there_while_it_is_looked_at_and_gone_afterwards(repository: Path) -> None:
    with checked_out("main~1") as found:
        assert (found.tree / "file").read_text() == "first"
        assert (repository / "file").read_text() == "second"

    assert not found.tree.exists()
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert listed.count("\n") == 1


@pytest.mark.parametrize("reference", ["-f", "--lock", "", "nope", "main~9", "main:file", "@{u}", "a\nb", "n" * 5000])
def test_what_is_no_commit_is_refused_and_never_the_head(reference: str) -> None:
    with (
        pytest.raises(UsageError, match=r"no baseline .*; give a commit or a record file") as refused,
        checked_out(reference),
    ):
        pass

    assert "\n" not in str(refused.value)


def test_a_machine_without_git_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with (
        pytest.raises(UsageError, match="git cannot be started: No such file or directory; install it"),
        checked_out("main"),
    ):
        pass
