"""One verdict for tuner, report and gate."""

from math import nan

import numpy as np
import pytest

from lords_bench.errors import RecordError
from lords_bench.stats.holm import process_noise
from lords_bench.stats.verdict import Judgement, Verdict, between_processes, judge, noise_floor_of

BASE = [1000.0 + 3 * (index % 5) for index in range(40)]


def times(factor: float, *, spread: float = 0.001) -> list[float | None]:
    noise = np.random.RandomState(0).standard_normal(len(BASE))
    return [value * factor * float(np.exp(spread * n)) for value, n in zip(BASE, noise, strict=True)]


def verdict(factor: float, *, noise_floor: float = 0.003, spread: float = 0.001) -> Verdict:
    return judge(times(factor, spread=spread), BASE, noise_floor=noise_floor).verdict


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.9, Verdict.FASTER), (0.98, Verdict.FASTER), (1.0, Verdict.SAME), (1.02, Verdict.SLOWER), (3.0, Verdict.SLOWER)],
)
def test_a_clear_difference_has_its_name(factor: float, expected: Verdict) -> None:
    assert verdict(factor) is expected


def test_a_wide_interval_is_ambiguous_and_says_how_wide() -> None:
    judgement = judge(times(0.99, spread=0.05), BASE, noise_floor=0.003)

    assert judgement.verdict is Verdict.AMBIGUOUS
    assert judgement.reason is not None
    assert judgement.reason.endswith("the noise floor is 0.30%")


def test_no_verdict_is_finer_than_the_noise_floor() -> None:
    assert verdict(1.02, noise_floor=0.003) is Verdict.SLOWER
    assert verdict(1.02, noise_floor=0.03) is Verdict.SAME


@pytest.mark.parametrize("factor", [0.5, 0.97, 0.993, 1.0, 1.004, 1.02])
def test_swapping_subject_and_baseline_mirrors_the_verdict(factor: float) -> None:
    mirrored = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    there = judge(times(factor), BASE, noise_floor=0.003)
    back = judge(BASE, times(factor), noise_floor=0.003)

    assert back.verdict is mirrored.get(there.verdict, there.verdict)
    assert there.ratio is not None
    assert back.ratio is not None
    assert back.ratio.estimate == pytest.approx(1 / there.ratio.estimate)


def test_the_unit_of_time_does_not_matter() -> None:
    in_ms = [None if value is None else value / 1e6 for value in times(1.02)]

    found = judge(in_ms, [value / 1e6 for value in BASE], noise_floor=0.003)

    expected = judge(times(1.02), BASE, noise_floor=0.003)
    assert found.verdict is expected.verdict
    assert found.ratio is not None
    assert expected.ratio is not None
    assert found.ratio.low == pytest.approx(expected.ratio.low)


def with_clocks(factor: float, subject_mhz: float) -> Judgement:
    noise = np.random.RandomState(1).standard_normal((2, len(BASE)))
    clocks = [(mhz * np.exp(0.0005 * n)).tolist() for mhz, n in zip((subject_mhz, 1700.0), noise, strict=True)]
    return judge(times(factor), BASE, noise_floor=0.003, subject_clock_mhz=clocks[0], baseline_clock_mhz=clocks[1])


def test_a_difference_that_is_one_of_clocks_alone_is_ambiguous() -> None:
    found = with_clocks(1.03, 1700.0 / 1.03)

    assert found.verdict is Verdict.AMBIGUOUS
    assert found.reason == "slower in time but not in cycles: the clock ran at 0.971 of the baseline's"


def test_a_difference_in_cycles_as_well_is_confirmed() -> None:
    found = with_clocks(1.03, 1690.0)

    assert found.verdict is Verdict.SLOWER
    assert found.cycles is not None
    assert found.cycles.low is not None
    assert found.cycles.low > 1


@pytest.mark.parametrize(
    ("subject", "baseline", "reason"),
    [
        ([1.0] * 5, [1.0] * 5, "only 5 rounds have both samples, 6 are needed"),
        ([1.0, None] * 5, [1.0] * 10, "only 5 rounds have both samples, 6 are needed"),
        ([1.0] * 9 + [nan], [1.0] * 10, "a sample is nan, a time is positive and finite"),
        ([1.0] * 9 + [-2.0], [1.0] * 10, "a sample is -2.0, a time is positive and finite"),
        ([], [], "only 0 rounds have both samples, 6 are needed"),
    ],
)
def test_what_cannot_be_judged_is_invalid_with_its_reason(
    subject: list[float | None], baseline: list[float | None], reason: str
) -> None:
    found = judge(subject, baseline, noise_floor=0.003)

    assert (found.verdict, found.ratio, found.reason) == (Verdict.INVALID, None, reason)


@pytest.mark.parametrize("floor", [-0.1, nan, float("inf")])
def test_a_noise_floor_that_is_no_relative_difference_is_refused(floor: float) -> None:
    with pytest.raises(RecordError, match="give a finite relative difference"):
        judge(BASE, BASE, noise_floor=floor)


def test_samples_of_different_rounds_are_refused() -> None:
    with pytest.raises(RecordError, match="40 samples against 39"):
        judge(BASE, BASE[:-1], noise_floor=0.003)


def test_the_noise_floor_is_the_farthest_that_an_equal_pair_may_lie_apart() -> None:
    floor = noise_floor_of(times(1.0, spread=0.01), BASE)

    assert 0.001 < floor < 0.01
    assert noise_floor_of(BASE, times(1.0, spread=0.01)) == pytest.approx(floor, rel=0.02)
    assert noise_floor_of(BASE, BASE) == 0.0


def test_the_interval_over_several_processes_holds_what_processes_differ_by() -> None:
    """Blocks of rounds alone would not: what a process has of its own is in all of its rounds."""
    generator, alone, held = np.random.RandomState(0), 0, 0
    for _ in range(100):
        processes = np.exp(0.003 * generator.standard_normal((2, 3, 1)) + 0.004 * generator.standard_normal((2, 3, 40)))
        floor = float(np.expm1(process_noise(*np.log(np.median(processes, axis=2)).tolist())))
        head, base = processes.reshape(2, -1).tolist()
        found = judge(head, base, noise_floor=floor)
        wide = between_processes(found)
        assert found.ratio is not None
        assert wide.ratio is not None
        alone += (found.ratio.low or 2) <= 1 <= (found.ratio.high or 0)
        held += (wide.ratio.low or 2) <= 1 <= (wide.ratio.high or 0)
        assert wide.verdict is found.verdict

    assert alone < 70
    assert held >= 93
