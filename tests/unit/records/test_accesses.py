"""Counts of accesses that no launch has are refused."""

from dataclasses import replace

import pytest

from gate_builders import make_accesses
from lords_bench.errors import RecordError
from lords_bench.records import Status

FOUND = make_accesses()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 0}, "load of packed_ptr in scale_tile_kernel has a count below 1"),
        ({"tensor": None}, "global memory of tensor None"),
        ({"space": "shared"}, "shared memory of tensor packed_ptr"),
    ],
)
def test_a_use_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        replace(FOUND.uses[0], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reason": "too slow"}, "accesses of scale_tile on sm_90 are ok; ok has counts"),
        ({"status": Status.INCORRECT, "reason": "a race"}, "are incorrect; ok has counts, all others a reason"),
        ({"uses": FOUND.uses[::-1]}, "must be sorted, each once"),
        ({"uses": FOUND.uses[:1] * 2}, "must be sorted, each once"),
    ],
)
def test_accesses_that_contradict_themselves_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_accesses(**change)
