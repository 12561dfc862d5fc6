"""Branches, masks, barriers and registers: threads that part meet again, and what cannot go on is said."""

import pytest
import torch

from lords_bench.emulator import EmulationOptions, FaultKind
from lords_bench.emulator.decode import decode
from lords_bench.errors import EmulationError
from ptx_texts import OWN_WORD, kinds, run, text

STORE = "st.global.b32 [%rd9], %r3;"


def result(body: str, *, threads: int = 32, ctas: int = 1, count: int = 32) -> list[int]:
    x = torch.zeros(count, dtype=torch.int32)
    launch = run(OWN_WORD + body, x, threads=threads, ctas=ctas)
    assert launch.faults == ()
    return x.tolist()


def test_threads_that_part_meet_again() -> None:
    body = """
	setp.lt.s32 %p1, %r0, 10;
	@%p1 bra $L_few;
	mov.b32 %r3, 2;
	bra.uni $L_end;
$L_few:
	mov.b32 %r3, 1;
$L_end:
	add.s32 %r3, %r3, 10;
	shfl.sync.idx.b32 %r3, %r3, 0, 31, -1;
"""
    assert result(body + STORE) == [11] * 32


def test_each_thread_leaves_a_loop_by_itself() -> None:
    body = """
	mov.b32 %r3, 0;
$L_loop:
	add.s32 %r3, %r3, 2;
	setp.lt.s32 %p1, %r3, %r0;
	@%p1 bra $L_loop;
"""
    assert result(body + STORE) == [max(2, 2 * -(-thread // 2)) for thread in range(32)]


def test_a_predicate_holds_back_an_instruction() -> None:
    body = "mov.b32 %r3, 5; setp.eq.s32 %p1, %r0, 3; @%p1 mov.b32 %r3, 6; @!%p1 add.s32 %r3, %r3, 1;"

    assert result(body + STORE) == [6] * 32


def test_threads_that_returned_are_not_waited_for() -> None:
    body = "setp.gt.s32 %p1, %r0, 31; @%p1 ret; mov.b32 %r3, 1; bar.sync 0;"

    assert result(body + STORE, threads=64) == [1] * 32


def test_barriers_at_two_places_are_found() -> None:
    body = "setp.gt.s32 %p1, %r0, 31; @%p1 bra $L_other; bar.sync 0; ret; $L_other: bar.sync 0;"

    assert kinds(run(body, torch.zeros(1), threads=64)) == [FaultKind.BARRIERS]


@pytest.mark.parametrize(
    ("shuffle", "expected"),
    [
        ("shfl.sync.bfly.b32 %r3, %r0, 1, 31, -1;", [lane ^ 1 for lane in range(32)]),
        ("shfl.sync.up.b32 %r3, %r0, 4, 0, -1;", [max(lane - 4, lane if lane < 4 else 0) for lane in range(32)]),
        ("shfl.sync.down.b32 %r3, %r0, 4, 31, -1;", [lane + 4 if lane < 28 else lane for lane in range(32)]),
        ("shfl.sync.idx.b32 %r3, %r0, 9, 6175, -1;", [lane // 8 * 8 + 1 for lane in range(32)]),
        ("redux.sync.add.s32 %r3, %r0, -1;", [496] * 32),
        ("redux.sync.max.s32 %r3, %r0, 0xff;", None),
    ],
)
def test_lanes_exchange_values(shuffle: str, expected: list[int] | None) -> None:
    found = result("mov.b32 %r3, 0;" + shuffle + STORE)

    assert found == expected or (expected is None and found[:8] == [7] * 8)


def test_a_shuffle_needs_its_whole_warp() -> None:
    with pytest.raises(EmulationError, match=r"a warp has parted, but all its lanes are needed by .*shfl"):
        result("setp.lt.s32 %p1, %r0, 9; @%p1 shfl.sync.bfly.b32 %r3, %r0, 1, 31, -1;")


def test_each_cta_knows_its_place_in_the_grid() -> None:
    x = torch.zeros(12, dtype=torch.int32)
    body = """
	mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ctaid.y; mov.u32 %r5, %nctaid.x;
	mad.lo.s32 %r6, %r4, %r5, %r3; mul.wide.u32 %rd8, %r6, 4; add.s64 %rd9, %rd0, %rd8;
	setp.eq.s32 %p1, %r0, 0; add.s32 %r6, %r6, 100; @%p1 st.global.b32 [%rd9], %r6;
"""
    from lords_bench.emulator import execute

    launch = execute(text(body), (4, 3, 1), [("x", x)], options=EmulationOptions(shuffle=1, batch_threads=64))

    assert launch.faults == ()
    assert x.tolist() == list(range(100, 112))


def test_a_register_that_was_never_written_is_named() -> None:
    with pytest.raises(EmulationError, match=r"%r44 was never written, and is read by ptx:\d+ add"):
        result("add.s32 %r3, %r44, 1;")


def test_a_kernel_that_waits_for_another_cta_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lords_bench.emulator.machine.MOST_BLOCKS", 500)
    x = torch.zeros(1, dtype=torch.int32)

    with pytest.raises(EmulationError, match="has not ended after 500 blocks; it may wait for a CTA"):
        run("$L: ld.global.b32 %r3, [%rd0]; setp.eq.s32 %p1, %r3, 0; @%p1 bra $L;", x)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r1], 128;", "tensor memory of Blackwell"),
        ("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier [%r1], [%rd0];", "TMA, bulk copies"),
        ("mbarrier.init.shared::cta.b64 [%r1], 1;", "transaction barriers"),
        ("griddepcontrol.wait;", "programmatic dependent launch"),
        ("ld.acquire.gpu.global.b32 %r3, [%rd0];", "ld.acquire.gpu.global.b32"),
        ("bar.sync 1, 64;", "bar.sync 1, 64"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.e4m3.e4m3.f32 {%r1}, {%r1}, {%r1}, {%r1};", "e4m3"),
        ("add.s32 %r3, %clock, 1;", None),
    ],
)
def test_what_is_missing_is_refused_by_name(statement: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(EmulationError, match="special register %clock is not emulated"):
            run(statement, torch.zeros(1))
        return
    with pytest.raises(EmulationError, match="is not emulated") as caught:
        decode(text(statement))
    assert name in str(caught.value)


def test_a_block_of_inline_assembly_has_registers_of_its_own() -> None:
    body = """
	mov.b32 %r3, 1;
	{ .reg .b32 t<3>;
	mov.b32 t1, 5;
	{ .reg .b32 t1;
	mov.b32 t1, 7; }
	add.s32 %r3, %r3, t1; }
"""
    assert result(body + STORE) == [6] * 32


def test_where_a_fault_lies_is_said_in_the_source() -> None:
    body = ".loc 1 7 3 // kernel.py:7:3\n\tld.global.b32 %r3, [%rd0+4096];"

    (fault,) = run(body, torch.zeros(1)).faults

    assert (fault.source, fault.instruction) == ("kernel.py:7:3", "ld.global.b32 %r3, [%rd0+4096]")
    assert text(body, pointers=1).splitlines()[fault.line - 1].strip() == "ld.global.b32 %r3, [%rd0+4096];"
