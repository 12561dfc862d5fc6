"""A tune that is killed at any instant goes on where it was: real processes, real SIGKILL, a fake device."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lords_bench.records.journal import read_journal
from lords_bench.records.trial import RunOff, Trial, tuning_record
from lords_bench.tuning import fake
from lords_bench.tuning.winner import winner
from process_tree import is_running, wait_until

KILLS = 200
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


class Server:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def tune(
        self, out: Path, *, kill_after_s: float | None = None, first: str | None = None, in_try: int | None = None
    ) -> dict[str, Any]:
        argv = ["tune", fake.CLEAN, "--device", "fake", "--exhaustive", "--timeout", "600", "--out", str(out)]
        request = {
            "argv": argv, "kill_after_s": kill_after_s, "first": first, "in_try": in_try,
            "log": str(out.with_suffix(".log")),
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    path = Path(__file__).with_name("fork_server.py")
    with subprocess.Popen(
        [sys.executable, str(path)], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Server(process)


def files(out: Path) -> tuple[Path, Path]:
    return out / "fake" / "fake.trials.jsonl", out / "fake" / "fake.runoffs.jsonl"


def whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def choice(out: Path) -> object:
    """What the rows on disk say is to be used."""
    trials, run_offs = files(out)
    rows = read_journal(trials, Trial).records
    record = tuning_record(rows[0].key, "fake", rows, read_journal(run_offs, RunOff).records)
    found = winner(record, fake.space().configs)
    assert found is not None
    return found.config


def logged(out: Path, what: str) -> list[str]:
    log = out.with_suffix(".log")
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(what)]


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory where there is one: a kill, unlike a power cut, cannot tell it from a disk."""
    shared = Path("/dev/shm")  # noqa: S108  (a folder of its own is made in it)
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


def test_a_tune_killed_at_two_hundred_random_instants_loses_at_most_the_row_in_flight(
    server: Server, memory_path: Path
) -> None:
    draw = random.Random(20261122)
    whole = server.tune(memory_path / "whole")
    expected, everything = choice(memory_path / "whole"), len(fake.space())
    kills = round_number = 0
    lost: Counter[int] = Counter()

    while kills < KILLS:
        out = memory_path / f"out-{round_number}"
        trials, run_offs = files(out)
        before = whole_lines(trials), whole_lines(run_offs)
        tries_before, rows_before = len(logged(out, "try")), before[0].count(b"\n")
        # Where a random instant falls depends on the machine's load; a try of a given number does not.
        if kills % 20:
            answer = server.tune(out, kill_after_s=draw.uniform(0, whole["seconds"]))
        else:
            answer = server.tune(out, in_try=draw.randrange(1, 6) if kills else 1)
        found = read_journal(trials, Trial)
        rows = len(found.records)

        # Finished rows are as they were, whole, and each configuration has one.
        assert whole_lines(trials).startswith(before[0])
        assert whole_lines(run_offs).startswith(before[1])
        assert all("torn line" in item.reason for item in found.rejected)
        assert all("torn line" in item.reason for item in read_journal(run_offs, RunOff).rejected)
        assert len({trial.config for trial in found.records}) == rows
        # Every try of this session has its row, but for the one in flight.
        in_flight = (len(logged(out, "try")) - tries_before) - (rows - rows_before)
        assert in_flight in (0, 1)
        lost[in_flight] += 1
        if answer["signal"] is not None:
            kills += 1
            continue
        assert answer["exit"] == 0
        assert rows == everything
        assert choice(out) == expected
        round_number += 1

    # How many tunes came to their end between kills depends on the machine's load; the last one always does.
    assert server.tune(memory_path / f"out-{round_number}")["exit"] == 0
    assert choice(memory_path / f"out-{round_number}") == expected

    # A configuration is tried again only if its row was in flight when a kill came.
    tries = sum(len(logged(memory_path / f"out-{number}", "try")) for number in range(round_number + 1))
    rows = sum(whole_lines(files(memory_path / f"out-{number}")[0]).count(b"\n") for number in range(round_number + 1))
    assert tries - rows == lost[1]
    assert lost[1] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_evaluation_process_outlives_its_tuner(server: Server, tmp_path: Path) -> None:
    for number in range(5):
        server.tune(tmp_path / f"out-{number}", kill_after_s=0.01 * number, first="worker")
    workers = [int(pid) for number in range(5) for pid in logged(tmp_path / f"out-{number}", "worker")]
    assert len(workers) == 5

    wait_until(lambda: not any(map(is_running, workers)))


def test_a_tune_by_its_own_command_line_survives_a_kill(tmp_path: Path) -> None:
    """The same without the fork server: the interpreter, the command line and the spawned worker of a user."""
    command = [sys.executable, "-m", "lords_bench", "tune", fake.CLEAN, "--device", "fake", "--exhaustive"]
    command += ["--out", str(tmp_path / "out")]
    trials, _ = files(tmp_path / "out")
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        while whole_lines(trials).count(b"\n") < 10 and killed.poll() is None:
            time.sleep(0.002)
        killed.kill()
    rows = whole_lines(trials).count(b"\n")

    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)

    # How far it came before the kill depends on the machine's load.
    assert rows >= 10
    assert "54 tried" in result.stderr
    configs = [trial.config for trial in read_journal(trials, Trial).records]
    assert len(configs) == len(set(configs)) == len(fake.space())
