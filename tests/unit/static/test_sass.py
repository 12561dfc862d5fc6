"""Reading SASS: what counts as an instruction, a loop, the main loop, a pipe and a width."""

import pytest

from lords_bench.errors import RecordError
from lords_bench.static.sass import (
    Instruction,
    LoopCounts,
    Pipe,
    loops,
    main_loop,
    parse_resources,
    parse_sass,
)

# Hand-written in cuobjdump's form: a copy loop, then a loop with one HMMA that encloses a loop with two.
LISTING = """
	code for sm_80
		Function : sample
        /*0000*/                   MOV R1, c[0x0][0x28] ;                       /* 0x00000a0000017a02 */
                                                                                /* 0x000fe20000000f00 */
        /*0010*/                   LDG.E.128 R4, [R2.64] ;                      /* 0x0000000402047981 */
        /*0020*/              @P0  BRA 0x10 ;                                   /* 0xffffffd000000947 */
        /*0030*/                   HMMA.16816.F32 R4, R8, R10, R4 ;             /* 0x0000000a0804723c */
        /*0040*/                   LDSM.16.M88.4 R8, [R20] ;                    /* 0x000000001408783b */
        /*0050*/                   HMMA.16816.F32 R4, R8, R10, R4 ;             /* 0x0000000a0804723c */
        /*0060*/                   HMMA.16816.F32 R4, R8, R12, R4 ;             /* 0x0000000c0804723c */
        /*0070*/             @!P1  BRA 0x40 ;                                   /* 0xffffffc000000947 */
        /*0080*/                   BRA `(.L_x_1) ;                              /* 0x0000000000007947 */
        /*0090*/             @!P2  BRA 0x30 ;                                   /* 0xffffff9000000947 */
        /*00a0*/                   EXIT ;                                       /* 0x000000000000794d */
        /*00b0*/                   BRA 0xb0;                                    /* 0xfffffff000007947 */
        /*00c0*/                   NOP;                                         /* 0x0000000000007918 */
"""


def instruction(opcode: str) -> Instruction:
    return Instruction(address=0, opcode=opcode, operands="")


def test_every_instruction_line_is_read_and_encoding_lines_are_not() -> None:
    found = parse_sass(LISTING)

    assert [i.address for i in found] == list(range(0, 0xD0, 0x10))
    assert found[1].opcode == "LDG.E.128"
    assert found[2].operands == "0x10"


def test_text_without_instructions_is_refused() -> None:
    with pytest.raises(RecordError, match="no SASS instruction in 12 characters"):
        parse_sass("cuobjdump: x")


def test_loops_are_backward_branches_but_not_the_branch_to_itself_at_the_end() -> None:
    assert loops(parse_sass(LISTING)) == (range(1, 3), range(4, 8), range(3, 10))


def test_main_loop_is_the_innermost_loop_with_tensor_instructions() -> None:
    found = main_loop(parse_sass(LISTING))

    assert [i.address for i in found] == [0x40, 0x50, 0x60, 0x70]


def test_without_a_tensor_loop_the_whole_program_counts() -> None:
    program = parse_sass(LISTING)[:3]

    assert main_loop(program) == program


@pytest.mark.parametrize(
    ("opcode", "pipe"),
    [
        ("IMMA.16832.U8.S8.SAT", Pipe.TENSOR),
        ("HGMMA.64x128x16.F32.BF16", Pipe.TENSOR),
        ("WARPGROUP.ARRIVE", Pipe.CONTROL),
        ("PRMT", Pipe.ALU),
        ("HFMA2.MMA.BF16_V2", Pipe.FMA),
        ("I2F.S32", Pipe.CONVERT),
        ("LDSM.16.M88.4", Pipe.SHARED),
        ("LDGSTS.E.BYPASS.LTC128B.128", Pipe.GLOBAL),
        ("STL.64", Pipe.LOCAL),
        ("UIADD3", Pipe.UNIFORM),
        ("FROBNICATE", Pipe.UNKNOWN),
    ],
)
def test_pipe_follows_from_the_mnemonic(opcode: str, pipe: Pipe) -> None:
    assert instruction(opcode).pipe is pipe


@pytest.mark.parametrize(
    ("opcode", "width"),
    [
        ("LDG.E.128.CONSTANT", 16),
        ("LDG.E.64", 8),
        ("LDG.E", 4),
        ("LDG.E.U16", 2),
        ("LDG.E.U8", 1),
        ("LDGSTS.E.BYPASS.LTC128B.128", 16),
        ("LDSM.16.MT88.2", 8),
        ("LDSM.16.M88", 4),
    ],
)
def test_access_width_is_read_from_the_suffix(opcode: str, width: int) -> None:
    assert instruction(opcode).bytes_per_thread == width


def test_counts_are_per_32_weights_of_a_warp() -> None:
    body = tuple(map(instruction, ("PRMT", "PRMT", "HMMA.16816.F32", "STS.128", "LDG.E.64", "LDG.E.128")))

    counts = LoopCounts(instructions=body, units=4)

    assert counts.instructions_per_32_weights == 1.5
    assert counts.pipe_per_32_weights()[Pipe.ALU] == 0.5
    assert counts.shared_store_bytes_per_weight == 4
    assert counts.tensor_opcodes == ("HMMA.16816.F32",)
    assert counts.global_load_widths() == {8: 1, 16: 1}


def test_resources_are_read_from_the_usage_line() -> None:
    found = parse_resources(" Function k:\n  REG:168 STACK:8 SHARED:1024 LOCAL:16 CONSTANT[0]:424 TEXTURE:0")

    assert (found.registers, found.stack_bytes, found.static_shared_bytes, found.local_bytes) == (168, 8, 1024, 16)


def test_missing_resource_line_is_refused() -> None:
    with pytest.raises(RecordError, match="no REG/STACK/SHARED/LOCAL"):
        parse_resources("nothing")
