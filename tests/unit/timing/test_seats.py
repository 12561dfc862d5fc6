"""Who is sampled on which buffers: equal batches, layouts of everybody's own, what is said where memory is short."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from cuda_stub import StubCalls
from lords_bench.records.status import Status
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.cuda_session import CudaSession
from lords_bench.timing.device import CandidateError, Need
from lords_bench.timing.fake import FakeDevice, FakeNoise, FakeSession, fake_candidate
from lords_bench.timing.seats import LONGEST_SAMPLE_NS, Seating, take_seats

ONES = np.ones(4)
TRUTH = {"base": 110_000.0, "a": 12_000.0}


def seated(
    *candidates: Candidate, layouts: int = 4, free_bytes: int | None = None, noise: FakeNoise | None = None
) -> Seating:
    device = FakeDevice(truth_ns=TRUTH, noise=noise or FakeNoise(), free_bytes=free_bytes)
    with device.open("cold") as session:
        return take_seats(session, candidates, baseline="base", layouts=layouts)


def test_everybody_has_as_many_launches_per_sample_as_the_quickest_needs() -> None:
    found = seated(fake_candidate("base"), fake_candidate("a"), noise=FakeNoise(timer_step_ns=500.0))

    assert [seat.launches for seat in found.seats] == [21, 21, 21]
    assert found.notes == ()


def test_a_slow_candidate_is_not_launched_for_minutes_because_another_is_quick() -> None:
    class Slow(FakeSession):
        def need(self, candidate: Candidate) -> Need:
            return Need(1, LONGEST_SAMPLE_NS / 3) if candidate.name == "base" else Need(256, 1e3)

    device = FakeDevice(truth_ns=TRUTH)
    with device.open("cold") as session:
        session.__class__ = Slow
        found = take_seats(session, [fake_candidate("base"), fake_candidate("a")], baseline="base", layouts=1)

    assert {seat.launches for seat in found.seats} == {3}


def test_what_cannot_be_batched_is_said() -> None:
    calls = StubCalls()
    session = CudaSession(calls, "cold", step_ns=32.0, nvml=None)

    def candidate(name: str, slots: int) -> Candidate:
        return Candidate(name=name, launch=lambda _slot: calls.run(ONES), check=lambda: None, slots=slots)

    found = take_seats(session, [candidate("base", 1), candidate("a", 8)], baseline="base", layouts=1)

    assert "launches per sample differ, because one of them cannot be batched: base 1, a 25" in found.notes


def test_no_two_seats_share_a_layout_and_the_baselines_second_seat_has_its_own() -> None:
    asked: list[tuple[str, int]] = []

    def counting(name: str) -> Candidate:
        def launch_on(layout: int) -> Callable[[int], object]:
            asked.append((name, layout))
            return lambda _slot: None

        return fake_candidate(name, launch_on=launch_on)

    found = seated(counting("base"), counting("a"), layouts=3)

    assert [seat.layouts for seat in found.seats] == [(0, 1, 2), (0, 1, 2), (3, 4, 5)]
    numbers = [number for seat in found.seats for number in seat.prepared]
    assert sorted(numbers) == list(range(9))
    assert max(Counter(asked).values()) == 1


@pytest.mark.parametrize(
    ("free_bytes", "layouts"), [(10**9, 4), (800, 4), (799, 3), (560, 3), (100, 1), (0, 1), (None, 4)]
)
def test_there_are_as_many_layouts_as_half_of_the_free_memory_holds(free_bytes: int | None, layouts: int) -> None:
    # Two candidates of 40 bytes hold one layout each; n layouts of both and of the second seat are 120 n − 80 more.
    candidates = [fake_candidate(name, layout_bytes=40) for name in ("base", "a")]

    found = seated(*candidates, free_bytes=free_bytes)

    assert {len(seat.layouts) for seat in found.seats} == {layouts}
    said = [note for note in found.notes if f"memory has room for {layouts} of 4 layouts" in note]
    assert len(said) == (layouts < 4)


def test_layouts_that_do_not_fit_in_spite_of_that_are_given_up_by_everybody() -> None:
    def launch_on(layout: int) -> Callable[[int], object]:
        if layout == 2:
            raise CandidateError(Status.OUT_OF_MEMORY, "OutOfMemoryError")
        return lambda _slot: None

    found = seated(fake_candidate("base"), fake_candidate("a", launch_on=launch_on))

    assert [len(seat.layouts) for seat in found.seats] == [2, 2, 2]
    assert any("memory has room for 2 of 4 layouts" in note for note in found.notes)


def test_a_second_seat_without_memory_for_buffers_of_its_own_is_the_baseline_itself_and_has_one_layout() -> None:
    def launch_on(layout: int) -> Callable[[int], object]:
        raise CandidateError(Status.OUT_OF_MEMORY, f"OutOfMemoryError: layout {layout}")

    found = seated(fake_candidate("base", launch_on=launch_on), fake_candidate("a"))

    assert [seat.layouts for seat in found.seats] == [(0,), (0,), (0,)]
    assert found.seats[0].prepared == found.seats[2].prepared


def test_a_candidate_that_has_its_buffers_once_is_named() -> None:
    found = seated(fake_candidate("base"), fake_candidate("a", launch_on=None))

    assert [len(seat.layouts) for seat in found.seats] == [4, 1, 4]
    assert any(note.startswith("a: one layout of buffers") for note in found.notes)


def test_a_candidate_that_fails_on_a_later_layout_has_no_seat() -> None:
    def launch_on(layout: int) -> Callable[[int], object]:
        raise ValueError(f"layout {layout} is cursed")

    found = seated(fake_candidate("base"), fake_candidate("a", launch_on=launch_on))

    assert [seat.candidate.name for seat in found.seats] == ["base", "base"]
    assert found.failures == {"a": (Status.LAUNCH_ERROR, "ValueError: layout 1 is cursed")}
