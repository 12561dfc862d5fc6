"""What a kernel must not do to memory is found, and what it may do is not, in kernels of a few instructions."""

import numpy as np
import pytest
import torch

from lords_bench.emulator import FaultKind, execute
from lords_bench.emulator.global_memory import sparse_zeros
from lords_bench.errors import EmulationError
from ptx_texts import OWN_SHARED_WORD, OWN_WORD, kinds, run, text

WORD_OF_NEXT_WARP = """
	add.s32 %r6, %r0, 32;
	and.b32 %r6, %r6, 63;
	shl.b32 %r6, %r6, 2;
	add.s32 %r10, %r8, %r6;
"""
WORD_OF_NEXT_LANE = """
	xor.b32 %r6, %r0, 1;
	shl.b32 %r6, %r6, 2;
	add.s32 %r10, %r8, %r6;
"""


def words(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.int32)


def test_threads_write_their_own_words_and_nothing_else() -> None:
    x = words(64)

    launch = run(OWN_WORD + "ld.global.b32 %r3, [%rd9]; add.s32 %r3, %r3, 100; st.global.b32 [%rd9], %r3;", x[:32])

    assert launch.faults == ()
    assert x.tolist() == [*range(100, 132), *range(32, 64)]


def test_a_load_behind_a_tensor_reads_nan_and_is_told_with_its_byte() -> None:
    x, y = torch.zeros(30), torch.zeros(32)

    launch = run(OWN_WORD + "ld.global.b32 %r3, [%rd9]; add.s64 %rd7, %rd1, %rd8; st.global.b32 [%rd7], %r3;", x, y)

    (fault,) = launch.faults
    assert (fault.kind, fault.accesses) == (FaultKind.GLOBAL_BOUNDS, 2)
    assert "byte 120 of the 120 of t0" in str(fault)
    assert y[:30].tolist() == [0.0] * 30
    assert y[30:].isnan().all()


def test_a_store_before_a_tensor_changes_nothing() -> None:
    x = words(64)

    launch = run(OWN_WORD + "st.global.b32 [%rd9+-128], %r0;", x[16:48])

    assert kinds(launch) == [FaultKind.GLOBAL_BOUNDS]
    assert torch.equal(x, words(64))


def test_an_access_from_one_tensor_into_another_is_out_of_bounds() -> None:
    storage = words(64)

    launch = run(OWN_WORD + "ld.global.b32 %r3, [%rd9+128];", storage[:32], storage[32:])

    assert kinds(launch) == [FaultKind.GLOBAL_BOUNDS]


def test_tensors_that_overlap_share_their_bytes() -> None:
    storage = words(48)

    launch = run(
        OWN_WORD + "add.s64 %rd7, %rd1, %rd8; ld.global.b32 %r3, [%rd7]; st.global.b32 [%rd9], %r3;",
        storage[:32], storage[16:],
    )  # fmt: skip

    assert launch.faults == ()
    assert storage[:16].tolist() == list(range(16, 32))


def test_a_misaligned_access_is_found() -> None:
    launch = run(OWN_WORD + "ld.global.b32 %r3, [%rd9+2];", words(64))

    assert kinds(launch) == [FaultKind.GLOBAL_ALIGNMENT]


def test_a_vector_must_be_aligned_as_a_whole() -> None:
    launch = run("ld.global.v4.b32 {%r3, %r4, %r5, %r6}, [%rd0+8];", words(64))

    assert kinds(launch) == [FaultKind.GLOBAL_ALIGNMENT]


def test_offsets_beyond_two_to_the_31_reach_what_lies_there() -> None:
    count = (1 << 31) + 4096
    sparse = torch.from_numpy(sparse_zeros(count, np.int16))
    sparse[-32:] = 7

    launch = run(
        f"mul.wide.u32 %rd8, %r0, 2; add.s64 %rd9, %rd0, %rd8; add.s64 %rd9, %rd9, {2 * (count - 32)};"
        "ld.global.b16 %rs1, [%rd9]; add.s16 %rs1, %rs1, 1; st.global.b16 [%rd9], %rs1; st.global.b16 [%rd9+64], %rs1;",
        sparse,
    )

    assert kinds(launch) == [FaultKind.GLOBAL_BOUNDS]
    assert sparse[-33:].tolist() == [0] + [8] * 32


def test_a_read_of_another_ctas_write_is_found_and_its_own_is_not() -> None:
    own = OWN_WORD + "st.global.b32 [%rd9], %r1; ld.global.b32 %r3, [%rd9];"

    assert kinds(run(own, words(32))) == []
    assert FaultKind.GLOBAL_READ in kinds(run(own, words(32), ctas=2))


def test_ctas_that_write_the_same_value_to_a_place_do_no_harm() -> None:
    assert kinds(run(OWN_WORD + "st.global.b32 [%rd9], %r0;", words(32), ctas=2)) == []
    assert kinds(run(OWN_WORD + "st.global.b32 [%rd9], %r1;", words(32), ctas=2)) == [FaultKind.GLOBAL_WRITE]


# Each CTA writes its word; the one that arrives last sums them.
SUM_OF_CTAS = """
	setp.eq.s32 %p1, %r0, 0;
	mul.wide.u32 %rd8, %r1, 4;
	add.s64 %rd9, %rd0, %rd8;
	add.s32 %r4, %r1, 1;
	@%p1 st.global.b32 [%rd9], %r4;
	bar.sync 0;
	mov.b32 %r5, 0;
	@%p1 atom.global.gpu.ORDER.add.u32 %r5, [%rd1], 1;
	mov.b32 %r8, global_smem;
	@%p1 st.shared.b32 [%r8], %r5;
	bar.sync 0;
	ld.shared.b32 %r5, [%r8];
	setp.ne.s32 %p2, %r5, 3;
	@%p2 bra $L_end;
	ld.global.b32 %r6, [%rd0];
	ld.global.b32 %r7, [%rd0+4];
	add.s32 %r6, %r6, %r7;
	ld.global.b32 %r7, [%rd0+8];
	add.s32 %r6, %r6, %r7;
	ld.global.b32 %r7, [%rd0+12];
	add.s32 %r6, %r6, %r7;
	@%p1 st.global.b32 [%rd2], %r6;
	@%p1 st.global.b32 [%rd1], 0;
$L_end:
"""


@pytest.mark.parametrize(
    ("order", "found"),
    [("acq_rel", []), ("release", [FaultKind.GLOBAL_READ]), ("acquire", [FaultKind.GLOBAL_READ]),
     ("relaxed", [FaultKind.GLOBAL_READ])],
)  # fmt: skip
def test_what_is_published_and_acquired_may_be_read(order: str, found: list[FaultKind]) -> None:
    parts, arrivals, total = words(4), torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)

    launch = run(SUM_OF_CTAS.replace("ORDER", order), parts, arrivals, total, ctas=4, threads=64, shared_bytes=128)

    assert sorted({kind for kind in kinds(launch) if kind is not FaultKind.GLOBAL_WRITE}) == found
    assert (int(total), int(arrivals)) == (10, 0)


def test_without_the_barrier_before_a_release_nothing_is_published() -> None:
    parts, arrivals, total = words(4), torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    body = SUM_OF_CTAS.replace("ORDER", "acq_rel").replace("bar.sync 0;", "", 1)

    launch = run(body, parts, arrivals, total, ctas=4, threads=64, shared_bytes=128)

    assert FaultKind.GLOBAL_READ in kinds(launch)


def test_shared_memory_that_nobody_wrote_reads_as_nan() -> None:
    x = torch.zeros(32)

    launch = run(
        OWN_WORD + OWN_SHARED_WORD + "ld.shared.b32 %r3, [%r9]; st.global.b32 [%rd9], %r3;", x, shared_bytes=128
    )

    assert kinds(launch) == [FaultKind.SHARED_UNWRITTEN]
    assert x.isnan().all()


def test_shared_memory_ends_where_the_launch_says() -> None:
    launch = run(OWN_SHARED_WORD + "st.shared.b32 [%r9], %r0;", words(1), shared_bytes=120)

    (fault,) = launch.faults
    assert (fault.kind, fault.accesses, fault.example) == (FaultKind.SHARED_BOUNDS, 2, "byte 120 of 120")


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("st.shared.b32 [%r9], %r0;", "ld.shared.b32 %r3, [%r10];", FaultKind.READ_AFTER_WRITE),
        ("ld.shared.b32 %r3, [%r9];", "st.shared.b32 [%r10], %r0;", FaultKind.WRITE_AFTER_READ),
        ("st.shared.b32 [%r9], %r0;", "st.shared.b32 [%r10], %r1;", FaultKind.WRITE_AFTER_WRITE),
    ],
)
def test_accesses_of_two_warps_need_a_barrier_between(first: str, second: str, kind: FaultKind) -> None:
    prepared = OWN_SHARED_WORD + WORD_OF_NEXT_WARP + "st.shared.b32 [%r9], %r0; bar.sync 0;"

    racing = run(prepared + first + second, words(1), threads=64, shared_bytes=256)
    ordered = run(prepared + first + "bar.sync 0;" + second, words(1), threads=64, shared_bytes=256)

    assert kinds(racing) == [kind]
    assert kinds(ordered) == []


def test_warps_that_write_different_values_by_one_instruction_race() -> None:
    place = "mov.b32 %r8, global_smem; shr.u32 %r3, %r0, 5; st.shared.b32 [%r8], "

    assert kinds(run(place + "%r3;", words(1), threads=64, shared_bytes=128)) == [FaultKind.WRITE_AFTER_WRITE]
    assert kinds(run(place + "%r1;", words(1), threads=64, shared_bytes=128)) == []


def test_lanes_of_a_warp_need_a_barrier_of_the_warp() -> None:
    write, read = OWN_SHARED_WORD + WORD_OF_NEXT_LANE + "st.shared.b32 [%r9], %r0;", "ld.shared.b32 %r3, [%r10];"

    assert kinds(run(write + read, words(1), shared_bytes=128)) == [FaultKind.LANES]
    assert kinds(run(write + "bar.warp.sync 0xffffffff;" + read, words(1), shared_bytes=128)) == []


COPY = OWN_WORD + OWN_SHARED_WORD + "cp.async.ca.shared.global [%r9], [%rd9], 4;"
GIVE_BACK = "ld.shared.b32 %r3, [%r9]; st.global.b32 [%rd9], %r3;"


def test_a_copy_arrives_at_its_wait() -> None:
    x = words(32)

    launch = run(COPY + "cp.async.commit_group; cp.async.wait_group 0;" + GIVE_BACK, x, shared_bytes=128)

    assert launch.faults == ()
    assert torch.equal(x, words(32))


@pytest.mark.parametrize(
    "wait", ["", "cp.async.commit_group;", "cp.async.wait_group 0;", "cp.async.commit_group; cp.async.wait_group 1;"]
)
def test_a_copy_that_is_read_too_early_is_nan(wait: str) -> None:
    x = words(32)

    launch = run(COPY + wait + GIVE_BACK, x, shared_bytes=128)

    assert kinds(launch) == [FaultKind.COPY_READ, FaultKind.COPY_LEFT]
    assert torch.equal(x, torch.full((32,), -1, dtype=torch.int32))


def test_a_copy_of_length_zero_writes_zeros_and_reads_nothing() -> None:
    x = words(32)
    body = COPY.replace("[%rd9], 4;", "[%rd9+4096], 4, %r2;").replace("cp.async", "mov.b32 %r2, 0; cp.async", 1)

    launch = run(body + "cp.async.commit_group; cp.async.wait_group 0;" + GIVE_BACK, x, shared_bytes=128)

    assert launch.faults == ()
    assert not x.any()


def test_a_copy_overwritten_on_its_way_is_found() -> None:
    launch = run(COPY + "st.shared.b32 [%r9], %r0; cp.async.wait_all;", words(32), shared_bytes=128)

    assert kinds(launch) == [FaultKind.COPY_OVERWRITTEN]


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EmulationError, match="sample has 3 parameters; it got 0"):
        execute(text("", pointers=3), (1, 1, 1), [])
    with pytest.raises(EmulationError, match=r"grid is \(1, 70000, 1\); each dimension must be"):
        execute(text("", pointers=0), (1, 70000, 1), [])
