"""A commit checked out beside the repository, to be measured on this machine with this interpreter."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lords_bench.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """A tree and the full hash of its commit."""

    tree: Path
    commit: str


@contextmanager
def checked_out(reference: str) -> Iterator[Checkout]:
    """The commit in a git worktree of its own, for as long as the context lasts.

    Raises:
        UsageError: no such commit, or this is no git checkout.
    """
    with tempfile.TemporaryDirectory(prefix="lords-bench-baseline-") as folder:
        tree = Path(folder) / "tree"
        made = _git("worktree", "add", "--detach", "--quiet", str(tree), reference)
        if made.returncode:
            raise UsageError(
                f"no baseline {reference!r}: {made.stderr.strip().splitlines()[-1]}; give a commit or a record file"
            )
        try:
            yield Checkout(tree=tree, commit=_git("-C", str(tree), "rev-parse", "HEAD").stdout.strip())
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
