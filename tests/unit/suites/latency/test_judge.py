"""What stands together on a device report, and that verdicts come from raw samples alone."""

import dataclasses

import pytest

from latency_builders import comparison, make_latency, make_run
from lords_bench.errors import RecordError
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.status import Status
from lords_bench.stats.verdict import Verdict
from lords_bench.suites.latency.judge import Match, select_devices
from record_builders import make_environment


def only_match(records: list[LatencyRecord]) -> Match:
    (section,) = select_devices(records)
    (match,) = section.matches
    return match


@pytest.mark.parametrize(
    ("lords_ns", "dense_ns", "verdict"),
    [(10_000, 20_000, Verdict.FASTER), (20_000, 10_000, Verdict.SLOWER), (10_000, 10_000, Verdict.SAME)],
)
def test_a_verdict_is_that_of_the_paired_samples(lords_ns: float, dense_ns: float, verdict: Verdict) -> None:
    judgement = only_match(comparison(lords_ns, dense_ns)).judgements["dense"]

    assert judgement.verdict is verdict
    assert judgement.speedup == pytest.approx(dense_ns / lords_ns, rel=0.01)


def test_without_the_second_samples_of_the_baseline_there_is_no_verdict() -> None:
    match = only_match(comparison()[:2])

    assert match.noise_floor is None
    assert match.judgements == {}
    assert match.missing == ("dense-again",)


def test_a_baseline_that_failed_is_not_judged() -> None:
    records = [make_latency("dense", status=Status.CRASH, comparison_id="c-10000-20000"), *comparison()[::2]]

    assert only_match(records).judgements == {}


def test_samples_of_two_comparisons_are_never_paired() -> None:
    older = comparison(lords_ns=40_000, created_utc="2026-01-30T12:00:00Z")
    newer = comparison()

    (section,) = select_devices([*newer, *older])

    assert len(section.matches) == 1
    assert section.superseded == 1
    assert section.matches[0].judgements["dense"].verdict is Verdict.FASTER


def test_a_newer_comparison_in_which_lords_failed_does_not_hide_an_older_one() -> None:
    failed = [
        make_latency("lords", status=Status.CRASH, comparison_id="c-new", created_utc="2026-02-01T12:00:00Z"),
        *(
            make_latency(name, comparison_id="c-new", created_utc="2026-02-01T12:00:00Z")
            for name in ("dense", "dense-again")
        ),
    ]

    assert only_match([*comparison(), *failed]).judgements["dense"].verdict is Verdict.FASTER


def test_devices_and_dtypes_have_sections_of_their_own() -> None:
    elsewhere = make_run(environment=make_environment(device="cuda", gpu_name="Another GPU"))
    in_fp16 = make_run(dtype="float16")
    fake = make_run(is_fake=True)

    sections = select_devices(
        [record for run in (make_run(), elsewhere, in_fp16, fake) for record in comparison(run=run)]
    )

    assert len(sections) == 4


def test_regimes_are_never_compared_with_each_other() -> None:
    hot = [
        dataclasses.replace(
            record, regime="hot", comparison_id="hot", measurement=dataclasses.replace(record.measurement, regime="hot")
        )
        for record in comparison(lords_ns=5_000)
        if record.measurement is not None
    ]

    (section,) = select_devices([*hot, *comparison()])

    assert section.regimes == ("cold", "hot")
    assert [match.median_ns("lords") for match in section.of("cold", section.formats[0])] == [10_000]


def test_comparisons_that_the_newest_run_planned_and_did_not_make_are_counted() -> None:
    (section,) = select_devices(comparison(run=make_run(planned_comparisons=7)))

    assert section.missing == 6


def test_no_record_is_refused() -> None:
    with pytest.raises(RecordError, match="run 'lords-bench bench latency' first"):
        select_devices([])


def test_a_time_that_the_device_cannot_reach_gives_no_verdict_for_either_side() -> None:
    """9 MB in 1 µs are 9,000 GB/s, and 4,200 GB/s were measured."""
    for lords_ns, dense_ns, name in ((1_000, 20_000, "lords"), (10_000, 1_000, "dense")):
        (section,) = select_devices(comparison(lords_ns, dense_ns))

        judgement = section.matches[0].judgements["dense"]
        assert (judgement.verdict, judgement.ratio) == (Verdict.INVALID, None)
        assert judgement.reason == f"{name}: 9000 GB/s is more than the 4200 GB/s that memory was measured to give"
