"""Counts, means and words of a device report: losses as plainly as gains, failures as neither."""

import pytest

from latency_builders import comparison, make_case, make_latency, section_of
from lords_bench.records.status import Status
from lords_bench.report.document import Cell, Table
from lords_bench.stats.verdict import Verdict
from lords_bench.suites.latency.figures import crossings
from lords_bench.suites.latency.judge import (
    DeviceTimes,
    by_m_words,
    counts_words,
    headline,
    microseconds,
    ranges,
    select_devices,
    summarise,
    times,
)
from lords_bench.suites.latency.page import loss_blocks, not_measured, summary_row

SECTION = section_of((1, 4.0), (4, 2.0), (16, 1.0), (64, 0.5), (256, 0.25))


def test_wins_ties_and_losses_are_counted() -> None:
    summary = summarise(SECTION.matches, "dense", "lords")

    assert [summary.count(v) for v in (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER)] == [2, 1, 2]
    assert summary.geomean == pytest.approx(1.0, rel=0.01)


def test_the_worst_and_the_best_case_are_named() -> None:
    summary = summarise(SECTION.matches, "dense", "lords")

    assert summary.worst is not None
    assert summary.best is not None
    assert (summary.worst[0].case.m, summary.best[0].case.m) == (256, 1)


def test_a_failure_is_neither_a_win_nor_a_tie_nor_a_speed_up() -> None:
    failed = [
        make_latency("lords", case=make_case(m=1024), comparison_id="m1024", status=Status.OUT_OF_MEMORY),
        make_latency("dense", case=make_case(m=1024), comparison_id="m1024"),
        make_latency("dense-again", case=make_case(m=1024), comparison_id="m1024"),
    ]
    (section,) = select_devices([*comparison(), *failed])

    summary = summarise(section.matches, "dense", "lords")

    assert dict(summary.failed) == {Status.OUT_OF_MEMORY: 1}
    assert len(summary.valid) == 1
    assert "1 out_of_memory" in summary_row(summary)


def test_the_verdict_by_m_joins_neighbours_of_the_ladder() -> None:
    words = by_m_words(summarise(SECTION.matches, "dense", "lords"))

    assert words == "faster at M = 1…4, within the noise at M = 16, slower at M = 64…256"


def test_a_headline_words_losses_as_it_words_gains() -> None:
    sentence = headline(
        [("dense matmul", summarise(SECTION.matches, "dense", "lords"))], where_words="With cold caches"
    )

    assert sentence == (
        "With cold caches, LoRDS is, against dense matmul: faster at M = 1…4, within the noise at M = 16, slower at "
        "M = 64…256."
    )


def test_without_a_judged_baseline_there_is_no_verdict() -> None:
    assert headline([], where_words="With cold caches").startswith("With cold caches: no verdict")


def test_counts_leave_out_what_did_not_happen() -> None:
    assert counts_words(summarise(SECTION.matches, "dense", "lords")) == (
        "faster in 2, within the noise in 1, slower in 2 of 5"
    )


def test_every_loss_is_listed_the_worst_first() -> None:
    table = next(block for block in loss_blocks(SECTION) if isinstance(block, Table))
    found = [cells for _, rows in table.groups_in("html") for cells in rows]

    assert [cells[3].text for cells in found] == ["0.25×", "0.50×"]
    assert found[0][4].text == "10.0 µs against 2.50 µs"
    assert found[0][5].text == "scale_tile (exact)"


def test_the_crossing_lies_between_the_two_m_where_the_sign_changes() -> None:
    section = section_of((16, 2.0), (64, 0.5))

    (crossing,) = crossings(section.matches)

    assert crossing == pytest.approx(32, rel=0.02)


def test_lines_that_do_not_cross_have_no_crossing() -> None:
    assert crossings(section_of((16, 2.0), (64, 1.5)).matches) == ()


def test_what_was_not_measured_is_told_once_per_reason_with_its_m() -> None:
    records = [
        make_latency(status=Status.UNSUPPORTED, reason="M is above 64", case=make_case(m=m)) for m in (128, 256, 1024)
    ]

    ((_, status, *said),) = not_measured(records)

    assert status == Cell(text="unsupported", tone="warn")
    assert said == ["M is above 64", "3 comparisons: llama-3-8b o_proj, M = 128…1024"]


@pytest.mark.parametrize(("value", "text"), [(12.34, "12.3×"), (1.0, "1.00×"), (0.0834, "0.083×")])
def test_a_speed_up_has_three_digits(value: float, text: str) -> None:
    assert times(value) == text


@pytest.mark.parametrize(("value", "text"), [(1234, "1.23 µs"), (45_678, "45.7 µs"), (12_345_678, "12.3 ms")])
def test_a_time_has_three_digits(value: float, text: str) -> None:
    assert microseconds(value) == text


def test_a_gap_in_the_ladder_splits_a_range() -> None:
    assert ranges((1, 4, 64), (1, 4, 16, 64)) == "1…4 and 64"


def test_a_section_names_each_baseline_once() -> None:
    assert isinstance(SECTION, DeviceTimes)
    assert SECTION.baselines == ("dense",)
