"""A commit checked out beside the repository, to be measured on this machine with this interpreter."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lords_bench.errors import UsageError, reason_of


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
    # What is no commit ends here: git would take a name such as -f for an option, and the head for the baseline.
    commit = _git("rev-parse", "--verify", "--end-of-options", f"{reference}^{{commit}}", reference=reference)
    with tempfile.TemporaryDirectory(prefix="lords-bench-baseline-") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--detach", "--quiet", str(tree), commit, reference=reference)
        try:
            yield Checkout(tree=tree, commit=commit)
        finally:
            # What cannot be removed is no reason to withhold what was measured.
            with suppress(UsageError):
                _git("worktree", "remove", "--force", str(tree), reference=reference)


def _git(*arguments: str, reference: str) -> str:
    """What git prints.

    Raises:
        UsageError: it is not installed, or refuses.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError as error:
        raise UsageError(f"no baseline {reference!r}: git cannot be started: {reason_of(error)}; install it") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"git ended with code {done.returncode}"]
        raise UsageError(f"no baseline {reference!r:.100}: {said[-1]}; give a commit or a record file")
    return done.stdout.strip()
