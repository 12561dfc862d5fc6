"""A process is started by `lords_bench/isolate.py`, which ends it with its starter, or stands here with its reason."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from architecture.import_map import PACKAGE, ROOT, module_files

# Module (or script) to how it starts a process, and why that may outlive its starter, or cannot.
ALLOWED: Mapping[str, Mapping[str, str]] = {
    "lords_bench.isolate": {"subprocess.Popen": "it is the mechanism"},
    "lords_bench.cli.gate.worktree": {"subprocess.run": "git, whose checkout must be whole or undone: seconds"},
    "lords_bench.timing.probe": {"subprocess.run": "git, for the commit: milliseconds, within a limit"},
    "lords_bench.static.fingerprint": {"subprocess.run": "a program's version: milliseconds"},
    "lords_bench.static.worker": {"subprocess.run": "a disassembler, in the group of the worker that starts it"},
    "lords_bench.suites.lifecycle.run": {"multiprocessing": "what it starts joins a group before all else"},
    "lords_bench.suites.studies.tuning_tables": {"subprocess.run": "git, for the commit: milliseconds"},
    "lords_bench.suites.studies.gate_drill": {"subprocess.run": "git clone of a local folder: seconds"},
}
STARTS = {
    "subprocess": ("Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"),
    "os": ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "startfile"),
    "asyncio": ("create_subprocess_exec", "create_subprocess_shell"),
    "pty": ("fork", "spawn"),
}
# Whoever imports one of these starts processes by it.
MODULES = ("multiprocessing", "joblib", "loky", "pexpect", "psutil", "torch.multiprocessing")


def starts_of(source: str) -> Iterator[str]:
    """How a module's source starts processes, by what it imports and calls; types in annotations are no calls."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            module, _, name = called.partition(".")
            if name in STARTS.get(module, ()) or (module == "os" and name.startswith(("spawn", "exec"))):
                yield called
        for name in names:
            module, _, last = name.rpartition(".")
            yield from (found for found in MODULES if name == found or name.startswith(f"{found}."))
            if last in STARTS.get(module, ()) or last == "ProcessPoolExecutor":
                yield name


def files() -> dict[str, Path]:
    return module_files(ROOT / PACKAGE) | {"noxfile": ROOT / "noxfile.py"}


def test_every_process_is_isolated_or_has_its_reason_and_no_reason_stands_for_what_is_gone() -> None:
    found = {module: set(starts_of(path.read_text("utf-8"))) for module, path in files().items()}

    assert {module: starts for module, starts in found.items() if starts} == {
        module: set(starts) for module, starts in ALLOWED.items()
    }


def test_files_are_locked_in_one_place() -> None:
    """A second way to lock does not know the traps of the first: forks, deleted files, other users' files."""
    assert {module for module, path in files().items() if "fcntl" in path.read_text("utf-8")} == {"lords_bench.locks"}


# The guard can fail.


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("import subprocess\nsubprocess.run(['git'])", "subprocess.run"),
        ("import subprocess\nsubprocess.Popen(['git'])", "subprocess.Popen"),
        ("from subprocess import check_output", "subprocess.check_output"),
        ("import os\nif os.fork(): pass", "os.fork"),
        ("import os\nos.spawnvp(os.P_WAIT, 'a', [])", "os.spawnvp"),
        ("import multiprocessing", "multiprocessing"),
        ("from multiprocessing.pool import Pool", "multiprocessing"),
        ("import torch.multiprocessing as mp", "torch.multiprocessing"),
        ("from torch import multiprocessing", "torch.multiprocessing"),
        ("from concurrent.futures import ProcessPoolExecutor", "concurrent.futures.ProcessPoolExecutor"),
        ("def f():\n    import joblib", "joblib"),
    ],
)
def test_every_way_to_start_a_process_is_seen(source: str, start: str) -> None:
    assert start in set(starts_of(source))


def test_a_constant_or_a_type_of_subprocess_starts_nothing() -> None:
    source = "import subprocess\ndef f(process: subprocess.Popen[str]) -> None: process.wait(subprocess.PIPE)"

    assert set(starts_of(source)) == set()
