"""Counts are those of the addresses that were used."""

import numpy as np
import pytest
import torch

from lords_bench.emulator import EmulationOptions, execute
from lords_bench.emulator.counters import InstructionClass, passes, sectors
from lords_bench.emulator.launch import _spread
from ptx_texts import OWN_SHARED_WORD, OWN_WORD, run, text

# After the first batch: 32 CTAs of 64 threads.
CUT = EmulationOptions(most_instructions=1)

LANES = np.arange(64)
WARPS = LANES // 32


@pytest.mark.parametrize(
    ("addresses", "width", "units", "fewest"),
    [
        (4 * LANES, 4, 8, 8),
        (4 * LANES + 4, 4, 10, 8),
        (32 * LANES, 4, 64, 8),
        (0 * LANES, 4, 2, 8),
        (16 * LANES, 16, 32, 32),
    ],
)
def test_sectors_of_a_request_are_those_that_it_touches(
    addresses: np.ndarray, width: int, units: int, fewest: int
) -> None:
    assert sectors(addresses, WARPS, width) == (2, units, fewest)


@pytest.mark.parametrize(
    ("addresses", "width", "units", "fewest"),
    [
        (4 * LANES, 4, 2, 2),
        (0 * LANES, 4, 2, 2),
        (8 * LANES, 4, 4, 2),
        (128 * LANES, 4, 64, 2),
        (16 * LANES, 16, 8, 8),
        (2 * LANES, 2, 2, 2),
        (8 * LANES, 8, 4, 4),
        # Eight rows of 16 bytes, 128 bytes apart, lie in the same banks.
        (128 * LANES, 16, 64, 8),
    ],
)
def test_passes_through_the_banks_are_as_many_as_words_of_one_bank(
    addresses: np.ndarray, width: int, units: int, fewest: int
) -> None:
    assert passes(addresses, WARPS, width) == (2, units, fewest)


def test_a_launch_counts_what_it_executed() -> None:
    body = (
        OWN_WORD
        + OWN_SHARED_WORD
        + """
	mov.b32 %r3, 0;
$L_loop:
	st.shared.b32 [%r9], %r3;
	add.s32 %r3, %r3, 1;
	setp.lt.s32 %p1, %r3, 5;
	@%p1 bra $L_loop;
	setp.lt.s32 %p2, %r0, 8;
	@%p2 st.global.b32 [%rd9], %r3;
"""
    )
    counts = run(body, torch.zeros(64), threads=64, ctas=3, shared_bytes=256).counts

    (store,) = counts.global_accesses
    (shared,) = counts.shared_accesses
    assert counts.warp_instructions[InstructionClass.SHARED] == 5 * 2 * 3
    assert counts.warp_instructions[InstructionClass.GLOBAL] == 2 * 3
    assert counts.warp_instructions[InstructionClass.BRANCH] == (5 + 1) * 2 * 3
    assert (store.requests, store.bytes_asked, store.units, store.fewest_units) == (3, 3 * 8 * 4, 3, 3)
    assert (shared.requests, shared.bytes_asked, shared.units) == (30, 30 * 128, 30)
    assert (counts.global_bytes_read, counts.global_bytes_written) == (0, 32)
    assert counts.opcodes["st.shared.b32"] == 5 * 2 * 3
    assert store.tensor == counts.tensors[0].name
    assert [(tensor.size_bytes, tensor.written_bytes) for tensor in counts.tensors] == [(256, 32)]


def test_a_launch_that_is_cut_short_runs_whole_rows_evenly_spread_and_says_how_many() -> None:
    rows = torch.zeros(300, dtype=torch.int32)
    body = """
	mov.u32 %r8, %ctaid.y;
	mul.wide.u32 %rd8, %r8, 4;
	add.s64 %rd9, %rd0, %rd8;
	mov.b32 %r9, 1;
	st.global.b32 [%rd9], %r9;
"""

    launch = execute(text(body, threads=64), (2, 300, 1), [("rows", rows)], options=CUT)

    assert launch.executed == 32
    assert sorted(torch.nonzero(rows).flatten().tolist()) == sorted(_spread(300)[:16])


def test_rows_are_spread_from_the_middle_outwards_and_each_comes_once() -> None:
    assert _spread(9)[:3] == [4, 2, 6]
    assert _spread(64)[:4] == [32, 16, 48, 8]
    assert all(sorted(_spread(count)) == list(range(count)) for count in range(1, 40))
