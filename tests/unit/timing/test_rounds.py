"""Order of the samples in a round, sizes of batches, clocks between stamps, and the ceiling of physics."""

from collections import Counter
from itertools import pairwise
from math import factorial

import numpy as np
import pytest

from lords_bench.errors import RecordError
from lords_bench.records.measurement import Measurement, Peaks
from lords_bench.records.status import Status
from lords_bench.timing.batch import batch_launches, clock_between, timer_step_ns
from lords_bench.timing.ceiling import impossible
from lords_bench.timing.comparison import Policy
from lords_bench.timing.cpu import CpuDevice
from lords_bench.timing.device import Sample, rotation_slots
from lords_bench.timing.fake import FakeDevice, fake_candidate
from lords_bench.timing.protocol import compare
from lords_bench.timing.rounds import Rounds


def rounds_of(seats: int, *, layouts: int = 1, seed: int = 0) -> Rounds:
    return Rounds([tuple(range(layouts))] * seats, seed=seed)


@pytest.mark.parametrize("seats", [2, 3, 7])
def test_every_seat_stands_in_every_place_equally_often(seats: int) -> None:
    rounds = rounds_of(seats)
    blocks = 500 * seats

    places = Counter((seat, place) for turn in range(2 * blocks) for place, seat in enumerate(rounds.order(turn)))

    assert len(places) == seats * seats
    # 1,000 of each are expected; five standard deviations of independent blocks, in each of which a place counts twice.
    assert max(abs(count - 1000) for count in places.values()) < 5 * 2 * (500 * (1 - 1 / seats)) ** 0.5


@pytest.mark.parametrize("seats", [2, 3])
def test_every_order_follows_every_other_equally_often(seats: int) -> None:
    """A rhythm of the order itself is what a rhythm of the machine could fall in with."""
    rounds = rounds_of(seats)
    orders = [tuple(rounds.order(2 * block)) for block in range(4000)]

    following = Counter(pairwise(orders))

    kinds = factorial(seats) ** 2
    assert len(following) == kinds
    assert max(abs(count - 4000 / kinds) for count in following.values()) < 5 * (4000 / kinds) ** 0.5


def test_the_second_round_of_a_block_reverses_the_first() -> None:
    rounds = rounds_of(4)

    assert all(rounds.order(turn + 1) == rounds.order(turn)[::-1] for turn in range(0, 16, 2))


def test_the_order_is_that_of_its_seed() -> None:
    orders = [[rounds_of(5, seed=seed).order(turn) for turn in range(20)] for seed in (1, 1, 2)]

    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_a_block_runs_on_one_layout_and_the_next_block_on_the_next() -> None:
    rounds = rounds_of(2, layouts=3)
    for turn in range(8):
        rounds.add(rounds.order(turn), [Sample(1.0, None)] * 2)

    assert rounds.layouts(0) == (0, 0, 1, 1, 2, 2, 0, 0)


def test_the_place_of_every_sample_is_kept() -> None:
    device = FakeDevice(truth_ns={"base": 1e4, "a": 1e4}, seed=3)

    found = compare(device, [fake_candidate("base"), fake_candidate("a")], baseline="base")

    again, first, other = found.baseline_again, found.outcome("base").measurement, found.outcome("a").measurement
    assert again is not None
    assert first is not None
    assert other is not None
    assert {tuple(sorted(places)) for places in zip(first.places, other.places, again.places, strict=True)} == {
        (0, 1, 2)
    }
    assert len(set(first.places[::2])) == 3
    assert not set(first.layouts) & set(again.layouts)


@pytest.mark.parametrize(("launch_ns", "launches"), [(1e9, 1), (250_000.0, 1), (5_000.0, 50), (0.5, 256)])
def test_a_batch_lasts_five_hundred_steps_of_the_timer(launch_ns: float, launches: int) -> None:
    assert batch_launches(launch_ns, 500.0, limit=256) == launches


@pytest.mark.parametrize(
    ("buffer_bytes", "cache_bytes", "slots"),
    [(10 * 2**20, 50 * 2**20, 26), (250 * 2**20, 50 * 2**20, 2), (1, 50 * 2**20, 256), (5, None, 1), (0, 100, 1)],
)
def test_buffers_are_rotated_over_five_times_the_cache(buffer_bytes: int, cache_bytes: int | None, slots: int) -> None:
    assert rotation_slots(buffer_bytes, cache_bytes) == slots


def stamps(*places: tuple[int, int]) -> np.ndarray:
    return np.array(places, dtype=np.int64)


def test_the_clock_is_cycles_over_time_on_the_same_multiprocessor() -> None:
    first, second = stamps((100, 7), (0, 0), (100, 50)), stamps((100_100, 170_007), (500, 900), (100_100, 170_050))

    assert clock_between(first, second, 32.0) == pytest.approx(1700.0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (stamps((100, 7)), stamps((0, 0))),
        (stamps((100, 7)), stamps((1_000, 1_500))),
        (stamps((100_000, 7)), stamps((100, 1_500))),
        (stamps((100, 900_000)), stamps((100_000, 7))),
    ],
    ids=["missing", "too short", "time runs backwards", "cycles run backwards"],
)
def test_stamps_that_cannot_tell_give_no_clock(first: np.ndarray, second: np.ndarray) -> None:
    assert clock_between(first, second, 32.0) is None


def test_the_step_of_the_timer_is_the_least_that_was_seen() -> None:
    assert timer_step_ns(np.array([0, 0, 64, 64, 96, 1000])) == 32.0
    assert timer_step_ns(np.array([5, 5, 5])) is None


def measured(time_ns: float, regime: str = "cold") -> Measurement:
    return Measurement(regime=regime, timer="fake", samples_ns=(time_ns,) * 6, clock_mhz=(None,) * 6)  # type: ignore[arg-type]


def test_more_bytes_than_memory_gives_are_impossible_when_cold_only() -> None:
    candidate, peaks = fake_candidate("a", bytes_moved=10_000_000), Peaks(copy_gbps=3000.0, read_gbps=4000.0)

    assert impossible(candidate, measured(2_500.0), peaks) is None
    assert impossible(candidate, measured(2_400.0), peaks) == (
        "4167 GB/s is more than the 4000 GB/s that memory was measured to give"
    )
    assert impossible(candidate, measured(2_400.0, "hot"), peaks) is None
    assert impossible(candidate, measured(2_400.0), Peaks()) is None


def test_more_operations_than_a_large_product_reached_are_impossible() -> None:
    candidate, peaks = fake_candidate("a", flops=2_000_000_000), Peaks(matmul_tflops=800.0)

    assert impossible(candidate, measured(2_600.0), peaks) is None
    assert impossible(candidate, measured(2_000.0), peaks) is not None


def test_an_impossible_number_ends_as_invalid() -> None:
    device = FakeDevice(truth_ns={"a": 1_000.0}, peaks=Peaks(read_gbps=4000.0))

    found = compare(device, [fake_candidate("a", bytes_moved=10**7)], baseline="a")

    assert (found.outcome("a").status, found.outcome("a").measurement) == (Status.INVALID, None)


@pytest.mark.parametrize("regime", ["cold", "hot", "eager"])
def test_the_processor_is_timed_by_the_same_protocol(regime: str) -> None:
    values = np.arange(1000.0)
    candidate = fake_candidate("a", launch=lambda _slot: float(values.sum()))
    policy = Policy(min_rounds=6, max_rounds=8, warm_up_s=0.0, warm_up_limit_s=0.01)

    found = compare(CpuDevice(), [candidate], baseline="a", regime=regime, policy=policy)  # type: ignore[arg-type]

    measurement = found.outcome("a").measurement
    assert measurement is not None
    assert (measurement.regime, measurement.timer, measurement.median_clock_mhz) == (regime, "perf-counter", None)
    assert measurement.min_ns > 0


def test_the_statistics_of_a_measurement_leave_out_what_was_dropped() -> None:
    found = Measurement(
        regime="cold",
        timer="fake",
        samples_ns=(1.0, 2.0, 3.0, 4.0, 100.0),
        clock_mhz=(10.0, 20.0, 30.0, None, 99.0),
        dropped=((4, "throttled"),),
    )

    assert (found.n, found.min_ns, found.q1_ns, found.median_ns, found.q3_ns) == (4, 1.0, 1.75, 2.5, 3.25)
    assert found.p95_ns == pytest.approx(float(np.quantile([1, 2, 3, 4], 0.95)))
    assert found.median_clock_mhz == 20.0
    assert found.paired_ns == (1.0, 2.0, 3.0, 4.0, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"regime": "warm"}, "must be one of cold, hot, eager"),
        ({"clock_mhz": (1.0,)}, "2 samples and 1 clocks"),
        ({"dropped": ((0, "a"), (1, "b"))}, "no sample left"),
        ({"dropped": ((2, "a"),)}, "names the rounds"),
        ({"samples_ns": (1.0, -1.0)}, "a time is positive"),
        ({"launches_per_sample": 0}, "at least 1"),
        ({"layouts": (0,)}, "2 samples and 1 layouts"),
        ({"places": (0, -1)}, "2 places, the least of them -1"),
    ],
)
def test_a_measurement_that_contradicts_itself_cannot_be_built(changes: dict[str, object], words: str) -> None:
    fields = {"regime": "cold", "timer": "fake", "samples_ns": (1.0, 2.0), "clock_mhz": (None, None)} | changes

    with pytest.raises(RecordError, match=words):
        Measurement(**fields)  # type: ignore[arg-type]
