"""What a run says of itself where there is no terminal, and the time it says is left."""

from io import StringIO

import pytest

from lords_bench.cli import progress
from lords_bench.cli.progress import ProgressBar, clock, steps
from lords_bench.terminal import Console


def test_without_a_terminal_every_case_is_a_line_with_the_time_left_and_so_is_every_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    said = StringIO()
    with ProgressBar({"before": 100.0, "cheap": 1.0, "dear": 4.0, "last": 5.0}, console=Console(file=said)) as watcher:
        watcher.end("before", None)
        watcher.begin("cheap")
        now_s = 10.0
        watcher.end("cheap", [])
        watcher.begin("dear")
        watcher.advance(0.5)
        half = watcher.seconds_left
        now_s = 50.0
        watcher.end("dear", ["dear: unsupported: [rank] 7"])

    # At 10 s for each second that was expected.
    assert half == pytest.approx(10 / 3 * 7)
    assert said.getvalue().splitlines() == [
        "[2/4] cheap, 1:30 left",
        "dear: unsupported: [rank] 7",
        "[3/4] dear, 0:50 left",
    ]


def test_steps_count_whatever_they_are_given() -> None:
    said = StringIO()
    with steps("compiling", 2, console=Console(file=said, force_terminal=True, width=60), done=1) as step:
        step(object())

    assert "compiling" in said.getvalue()
    assert "100%" in said.getvalue()


def test_a_time_has_hours_only_where_there_are_some() -> None:
    assert [clock(seconds) for seconds in (-1.0, 65.4, 7200.0)] == ["0:00", "1:05", "2:00:00"]
