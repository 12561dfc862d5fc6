"""A tuned entry is its own proof: what contradicts itself or is slower than the default cannot be built."""

from dataclasses import replace

import pytest

from lords_bench.errors import RecordError
from lords_bench.records.codec import decode_noun, encode_line
from lords_bench.records.tuned import M_BUCKETS, ROUTE, Choice, Speedup, Summary, TunedEntry, m_bucket
from tuned_builders import PROBLEM, SUMMARY, make_entry, make_key


@pytest.mark.parametrize(
    ("m", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (2048, 2048), (2049, 4096), (100_000, 4096)]
)
def test_a_bucket_is_the_next_power_of_two_and_the_last_one_has_no_end(m: int, bucket: int) -> None:
    assert m_bucket(m) == bucket


def test_every_bucket_serves_itself() -> None:
    assert tuple(map(m_bucket, M_BUCKETS)) == M_BUCKETS


def test_an_entry_survives_its_line() -> None:
    entry = make_entry()

    assert decode_noun(encode_line(entry), TunedEntry) == entry


def test_a_hand_edited_time_is_not_believed() -> None:
    line = encode_line(make_entry()).replace('"median_ns":8000.0', '"median_ns":7960.0')

    with pytest.raises(RecordError, match="checksum does not fit the record"):
        decode_noun(line, TunedEntry)


@pytest.mark.parametrize(
    "speedup", [Speedup(median=1.01, low=0.99, high=1.03), Speedup(median=0.9, low=0.89, high=0.91)]
)
def test_an_entry_not_proven_to_be_no_slower_than_the_default_cannot_be_built(speedup: Speedup) -> None:
    with pytest.raises(RecordError, match="not proven to be no slower than the default scale_tile: speed-up"):
        make_entry(speedup=speedup)


def test_a_speedup_that_the_times_contradict_cannot_be_built() -> None:
    with pytest.raises(RecordError, match="10500 ns against 10000 ns; keep the default"):
        make_entry(measured=Summary(samples=30, median_ns=10500.0, low_ns=10400.0, high_ns=10600.0))


def test_the_default_itself_needs_no_speedup() -> None:
    default = make_entry().default

    entry = make_entry(choice=default, measured=SUMMARY, default_measured=SUMMARY, speedup=None)

    assert entry.choice == entry.default


def test_a_choice_that_differs_needs_a_speedup() -> None:
    with pytest.raises(RecordError, match="if and only if the choice differs"):
        make_entry(speedup=None)


def test_an_entry_of_a_kernel_stays_with_its_kernel() -> None:
    with pytest.raises(RecordError, match="an entry for 'scale_tile' chooses"):
        make_entry(choice=Choice(kernel="rank_expanded"))


def test_an_entry_of_the_route_may_choose_another_kernel_than_the_default() -> None:
    entry = make_entry(key=make_key(kernel=ROUTE), choice=Choice(kernel="rank_expanded"))

    assert (entry.choice.kernel, entry.default.kernel) == ("rank_expanded", "scale_tile")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m_bucket": 3}, "m_bucket is 3; it must be one of 1, 2, 4"),
        ({"n": 0}, "problem.n is 0"),
        ({"block": 64}, "rank 16 and block 64; exactly one"),
        ({"rank": None}, "rank None and block None; exactly one"),
    ],
)
def test_a_problem_that_contradicts_itself_is_refused(changes: dict[str, int | None], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        replace(PROBLEM, **changes)  # type: ignore[arg-type]


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(RecordError, match="measured_on is 'yesterday'"):
        make_entry(measured_on="yesterday")


@pytest.mark.parametrize("values", [(0.0, 1.0, 2.0), (2.0, 1.0, 3.0), (1.0, float("inf"), float("inf"))])
def test_a_summary_out_of_order_is_refused(values: tuple[float, float, float]) -> None:
    low, median, high = values
    with pytest.raises(RecordError, match="expected 0 < low ≤ median ≤ high"):
        Summary(samples=5, median_ns=median, low_ns=low, high_ns=high)
