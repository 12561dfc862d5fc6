"""What a CUDA session puts on the stream, and in which order, seen by a stand-in for torch.cuda."""

import gc
from itertools import pairwise

import numpy as np
import pytest

from cuda_stub import CLOCK_MHZ, StubCalls
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.cuda_calls import CacheClearer
from lords_bench.timing.cuda_session import (
    ATTEMPTS,
    EVENT_STEP_NS,
    LONGEST_DELAY_NS,
    MAX_GRAPH_LAUNCHES,
    SEATS_PER_DELAY,
    CudaSession,
)
from lords_bench.timing.device import CandidateError

ONES = np.ones(4)


def candidate_on(calls: StubCalls, *, slots: int = 8, name: str = "a") -> Candidate:
    return Candidate(name=name, launch=lambda _slot: calls.run(ONES), check=lambda: None, slots=slots)


def session_on(calls: StubCalls, regime: Regime = "cold") -> CudaSession:
    return CudaSession(calls, regime, step_ns=32.0, nvml=None)


def round_log(calls: StubCalls, session: CudaSession, order: list[int]) -> list[str]:
    calls.log.clear()
    session.sample_round(order)
    return calls.log


def test_nothing_stands_between_the_clearing_of_the_cache_and_the_start_event() -> None:
    calls = StubCalls()
    session = session_on(calls)
    session.prepare(candidate_on(calls))

    log = round_log(calls, session, [0, 0])

    assert [after for before, after in pairwise(log) if before == "clear"] == ["event", "event"]


def test_the_host_waits_only_after_the_whole_round_is_queued() -> None:
    calls = StubCalls()
    session = session_on(calls)
    session.prepare(candidate_on(calls))

    log = round_log(calls, session, [0, 0, 0])

    sample = ["clear", "event", "replay", "event", "stamp"]
    assert log == ["delay", "event", "stamp", *sample * 3, "synchronize"]


def test_a_hot_sample_is_preceded_by_the_same_work_instead_of_a_clearing() -> None:
    calls = StubCalls()
    session = session_on(calls, "hot")
    session.prepare(candidate_on(calls))

    log = round_log(calls, session, [0])

    assert log[3:] == ["replay", "event", "replay", "event", "stamp", "synchronize"]


def test_a_sample_is_the_time_of_one_launch_and_carries_its_clock() -> None:
    calls = StubCalls(device_ns=10_000.0)
    session = session_on(calls)
    launches = session.prepare(candidate_on(calls))

    (sample,) = session.sample_round([0])

    assert launches == 25  # 500 steps of 500 ns
    assert sample.ns == pytest.approx(10_000.0)
    assert sample.clock_mhz == pytest.approx(CLOCK_MHZ, rel=1e-3)


@pytest.mark.parametrize(
    ("device_ns", "slots", "launches"), [(100.0, 8, MAX_GRAPH_LAUNCHES), (10_000.0, 1, 1), (1e6, 8, 1)]
)
def test_a_batch_is_long_against_the_timer_and_single_where_only_one_launch_is_cold(
    device_ns: float, slots: int, launches: int
) -> None:
    calls = StubCalls(device_ns=device_ns)

    assert session_on(calls).prepare(candidate_on(calls, slots=slots)) == launches


def test_a_hot_batch_uses_one_buffer_set() -> None:
    calls, seen = StubCalls(), set()

    def launch(slot: int) -> object:
        seen.add(slot)
        return calls.run(ONES)

    session_on(calls, "hot").prepare(Candidate(name="a", launch=launch, check=lambda: None, slots=8))

    assert seen == {0}


def test_a_round_that_the_delay_did_not_cover_is_taken_again_with_a_longer_one() -> None:
    calls = StubCalls()
    session = session_on(calls)
    session.prepare(candidate_on(calls))
    calls.host_ns = 4e5
    calls.delays.clear()

    session.sample_round([0, 0])

    assert len(calls.delays) == 2
    assert calls.delays[1] > calls.delays[0]


def test_launches_that_no_delay_covers_are_refused_by_name_of_the_regime_that_takes_them() -> None:
    calls = StubCalls()
    session = session_on(calls)
    session.prepare(candidate_on(calls))
    calls.host_ns = 2 * LONGEST_DELAY_NS
    calls.delays.clear()

    with pytest.raises(CandidateError, match="only regime eager") as error:
        session.sample_round([0])

    assert error.value.status is Status.INVALID
    assert len(calls.delays) == ATTEMPTS


def test_a_long_round_is_submitted_in_parts_that_the_queue_holds() -> None:
    calls = StubCalls()
    session = session_on(calls)
    session.prepare(candidate_on(calls))

    log = round_log(calls, session, [0] * (SEATS_PER_DELAY + 1))

    assert log.count("delay") == 2


def test_garbage_is_not_collected_during_a_capture() -> None:
    calls = StubCalls()

    session_on(calls).prepare(candidate_on(calls))

    assert calls.gc_during_capture is False
    assert gc.isenabled()


def test_work_on_another_stream_is_seen_when_the_graph_is_replayed() -> None:
    calls = StubCalls(side_stream=True)

    with pytest.raises(CandidateError, match="4 of 4 elements were not written: it works on another stream") as error:
        session_on(calls).prepare(candidate_on(calls))

    assert error.value.status is Status.INVALID


def test_what_cannot_be_captured_is_launched_one_by_one() -> None:
    calls = StubCalls(capture_fails=True, device_ns=1_000.0)
    session = session_on(calls)
    launches = session.prepare(candidate_on(calls))

    log = round_log(calls, session, [0])

    assert launches == 32
    assert log.count("launch") == launches


def test_a_launch_that_waits_for_the_device_has_no_place_in_a_hidden_regime() -> None:
    calls = StubCalls(capture_fails=True, host_ns=1e9)

    with pytest.raises(CandidateError, match="waits for the device"):
        session_on(calls).prepare(candidate_on(calls))


def test_an_eager_sample_is_launched_from_python_and_waited_for() -> None:
    calls = StubCalls()
    session = session_on(calls, "eager")
    launches = session.prepare(candidate_on(calls))

    log = round_log(calls, session, [0])

    assert log == ["stamp", "synchronize", *["launch"] * launches, "synchronize", "stamp", "synchronize"]


def test_the_estimate_that_sizes_a_batch_is_not_the_time_of_an_empty_interval() -> None:
    calls = StubCalls(device_ns=EVENT_STEP_NS)

    session_on(calls).prepare(candidate_on(calls))

    start = calls.log.index("delay")
    assert calls.log[start : start + 8] == ["delay", "event", *["launch"] * 5, "event"]


def test_after_the_cache_is_cleared_as_much_is_read_as_was_written_and_of_other_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Overwritten lines that wait to be written back would be paid for by whoever comes next."""
    cache = CacheClearer(1001, place="cpu")
    done: list[str] = []
    cache.written.fill_(7)
    monkeypatch.setattr(cache, "_sum_of", lambda values, **_to: done.append(f"read {values.nbytes}"))

    cache.clear()

    assert int(cache.written.count_nonzero()) == 0
    assert done == ["read 1004"]
    assert cache.read.untyped_storage().data_ptr() != cache.written.untyped_storage().data_ptr()
