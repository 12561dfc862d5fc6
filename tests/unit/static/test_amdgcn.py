"""AMD assembly: the main loop is found by the compiler's own comments, and occupancy follows registers and LDS."""

import pytest

from lords_bench.errors import RecordError
from lords_bench.static.amdgcn import parse_amdgcn, pipe_of, resident_waves
from lords_bench.static.sass import Pipe
from lords_bench.static.target import named_target

# A loop with one matrix instruction around a loop with two, whose latch lies before its header, as compilers put it.
LOOPS = """kernel:
	s_load_dwordx2 s[0:1], s[2:3], 0x0
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], 0
.LBB0_1:                                ; =>This Loop Header: Depth=1
                                        ;     Child Loop BB0_3 Depth 2
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], 0
	s_branch .LBB0_3
.LBB0_2:                                ;   in Loop: Header=BB0_3 Depth=2
	s_cbranch_scc0 .LBB0_4
.LBB0_3:                                ;   Parent Loop BB0_1 Depth=1
                                        ; =>  This Inner Loop Header: Depth=2
	global_load_dwordx4 v[4:7], v[8:9], off
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], 0
; %bb.5:                                ;   in Loop: Header=BB0_3 Depth=2
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], 0
	s_branch .LBB0_2
.LBB0_4:                                ;   in Loop: Header=BB0_1 Depth=1
	ds_write_b128 v0, v[4:7]
	s_cbranch_scc1 .LBB0_1
; %bb.6:
	global_store_dword v[8:9], v0, off
	s_endpgm
.Lfunc_end0:
"""
METADATA = """; Occupancy: 4
    .group_segment_fixed_size: 0
    .private_segment_fixed_size: 0
    .sgpr_spill_count: 0
    .vgpr_count:     100
    .vgpr_spill_count: 0
"""


def test_the_main_loop_is_the_innermost_one_with_the_most_matrix_instructions() -> None:
    facts = parse_amdgcn(LOOPS + METADATA)

    assert facts.loop == (
        "s_cbranch_scc0", "global_load_dwordx4", "v_mfma_f32_16x16x16_f16", "v_mfma_f32_16x16x16_f16", "s_branch",
    )  # fmt: skip
    assert (facts.matrix_opcodes, facts.load_bytes) == ({"v_mfma_f32_16x16x16_f16": 4}, ((16, 1),))
    assert facts.waves_per_simd == 4


def test_without_a_matrix_instruction_in_a_loop_the_whole_program_counts() -> None:
    facts = parse_amdgcn(LOOPS.replace("v_mfma_f32_16x16x16_f16", "v_add_f32") + METADATA)

    assert len(facts.loop) == 13
    assert facts.loop[-1] == "s_endpgm"


@pytest.mark.parametrize(
    ("left_out", "named"), [("; Occupancy: 4", "occupancy"), (".vgpr_count:     100", "vgpr_count")]
)
def test_assembly_that_does_not_say_what_is_needed_is_refused(left_out: str, named: str) -> None:
    with pytest.raises(RecordError, match=named):
        parse_amdgcn(LOOPS + METADATA.replace(left_out, ""))


@pytest.mark.parametrize(
    ("opcode", "pipe"),
    [
        ("v_mfma_f32_16x16x16_f16", Pipe.TENSOR),
        ("v_wmma_f32_16x16x16_f16", Pipe.TENSOR),
        ("v_perm_b32", Pipe.ALU),
        ("s_load_dwordx2", Pipe.UNIFORM),
        ("s_add_i32", Pipe.UNIFORM),
        ("s_waitcnt", Pipe.CONTROL),
        ("s_cbranch_scc0", Pipe.CONTROL),
        ("buffer_gl0_inv", Pipe.CONTROL),
        ("buffer_load_dwordx4", Pipe.GLOBAL),
        ("global_load_b128", Pipe.GLOBAL),
        ("ds_bpermute_b32", Pipe.SHARED),
        ("scratch_load_dword", Pipe.LOCAL),
        ("x_unheard_of", Pipe.UNKNOWN),
    ],
)
def test_each_instruction_has_its_pipe(opcode: str, pipe: Pipe) -> None:
    assert pipe_of(opcode) is pipe


@pytest.mark.parametrize(
    ("target", "waves_per_simd", "shared_bytes", "warps", "resident"),
    [
        ("gfx942", 4, 0, 4, 16),  # four SIMDs of four waves
        ("gfx942", 5, 0, 8, 16),  # two workgroups of eight waves, not two and a half
        ("gfx942", 8, 24 * 1024, 4, 8),  # 64 KiB hold two workgroups
        ("gfx950", 8, 24 * 1024, 4, 24),  # 160 KiB hold six
        ("gfx1100", 16, 24 * 1024, 4, 20),  # 128 KiB of a workgroup processor hold five
    ],
)
def test_waves_of_a_compute_unit_follow_from_registers_and_shared_memory(
    target: str, waves_per_simd: int, shared_bytes: int, warps: int, resident: int
) -> None:
    found = resident_waves(named_target(target), waves_per_simd=waves_per_simd, shared_bytes=shared_bytes, warps=warps)

    assert found == resident
