"""The flow through machine code is the one that executes what the emulator did."""

import pytest

from lords_bench.errors import RecordError
from lords_bench.static.profile.flow import Flow, flow_of, ptx_kind, sass_kind
from lords_bench.static.profile.machine import scheduled
from lords_bench.static.sass import Instruction
from sass_texts import Line, assembly, line

MMA = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
HMMA = "HMMA.16816.F32.BF16 R4, R8, R12, R4"


def flow(executed: dict[str, float], *lines: Line) -> Flow:
    return flow_of(scheduled(assembly(*lines)), executed)


def test_control_fields_are_read_as_they_were_written() -> None:
    first, second = scheduled(
        assembly(line("LDG.E R4, [R2.64]", stall=5, sets=3), line("@!P0 IADD3 R1, R4, R4, RZ", stall=2, waits=(3, 5)))
    )

    assert (first.stall_cycles, first.sets, first.waits, first.is_guarded) == (5, 3, (), False)
    assert (second.stall_cycles, second.sets, second.waits, second.is_guarded) == (2, None, (3, 5), True)
    assert first.is_global_load


def test_text_without_encodings_is_refused() -> None:
    with pytest.raises(RecordError, match="without its encodings"):
        scheduled("        /*0000*/    EXIT ;")


def test_an_unrolled_loop_runs_as_often_as_its_products_say() -> None:
    found = flow({MMA: 32.0}, line("MOV R0, R1"), *[line(HMMA)] * 4, line("@P0 BRA 0x10"), line("EXIT"))

    assert [round(times, 6) for times in found.times] == [1, 8, 1]
    assert found.misfit < 1e-6


def test_the_last_of_sixteen_goes_on_where_others_end() -> None:
    found = flow(
        {"bar.sync": 1.0, "st.global.b32": 1 / 16, "ld.global.v4.b32": 1 / 16 * 8},
        line("BAR.SYNC.DEFER_BLOCKING 0x0"), line("@P0 EXIT"), line("STG.E [R2.64], R0"),
        line("@P2 BRA 0x40"), line("LDG.E.128 R4, [R2.64]"), line("@P1 BRA 0x40"), line("EXIT"),
    )  # fmt: skip

    assert found.times == pytest.approx((1, 1 / 16, 1 / 2, 1 / 16))


def test_a_loop_that_runs_is_entered_though_a_branch_could_end_the_warp_before() -> None:
    found = flow(
        {"shfl.sync.bfly.b32": 8.0},
        line("MOV R0, R1"), line("@P0 EXIT"), line("MOV R0, R1"), line("SHFL.BFLY PT, R4, R4, 0x1, 0x1f"),
        line("@P1 BRA 0x30"), line("EXIT"),
    )  # fmt: skip

    assert found.times == pytest.approx((1, 1, 8, 1))


def test_what_the_assembler_left_out_is_said_and_does_not_bend_the_flow() -> None:
    found = flow(
        {MMA: 9.0, "st.shared.b32": 2.0},
        line("STS [R1], R2"), *[line(HMMA)] * 3, line("@P0 BRA 0x10"), line("EXIT"),
    )  # fmt: skip

    assert found.times == pytest.approx((1, 3, 1))
    assert found.misfit == pytest.approx(1 / 11)


def test_the_branch_to_itself_behind_a_program_does_not_run() -> None:
    assert flow({}, line("EXIT"), line("BRA 0x10")).times == (1, 0)


@pytest.mark.parametrize(
    ("opcode", "sass"),
    [
        ("ld.global.v4.b32", "LDG.E.128"),
        ("ld.global.nc.b16", "LDG.E.U16"),
        ("st.global.b8", "STG.E.U8"),
        ("st.shared.v2.b32", "STS.64"),
        ("st.shared::cta.b32", "STS"),
        ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", "LDSM.16.M88.4"),
        ("cp.async.cg.shared.global", "LDGSTS.E.BYPASS.128"),
        ("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16", "HGMMA.64x64x16.F32.BF16"),
        ("barrier.sync", "BAR.SYNC.DEFER_BLOCKING"),
        ("red.global.add.f32", "REDG.E.ADD.F32.FTZ.RN.STRONG.GPU"),
    ],
)
def test_kinds_meet_in_ptx_and_sass(opcode: str, sass: str) -> None:
    kind = ptx_kind(opcode)

    assert kind is not None
    assert kind == sass_kind(Instruction(address=0, opcode=sass, operands=""))


@pytest.mark.parametrize(
    "opcode", ["cp.async.commit_group", "wgmma.wait_group.sync.aligned", "ld.param.b64", "add.s32"]
)
def test_what_has_no_counterpart_has_no_kind(opcode: str) -> None:
    assert ptx_kind(opcode) is None
