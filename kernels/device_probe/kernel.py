"""Clock stamps and a reader. Inline PTX: the interpreter cannot run them."""

import triton
import triton.language as tl


@triton.jit
def read_globaltimer():
    """%globaltimer: nanoseconds, common to the whole chip, in steps that depend on the chip."""
    return tl.inline_asm_elementwise("mov.u64 $0, %globaltimer;", "=l", [], dtype=tl.int64, is_pure=False, pack=1)


@triton.jit
def stamp_kernel(stamps_ptr, MULTIPROCESSORS: tl.constexpr):
    """Write (globaltimer, clock64) of the multiprocessor that this program runs on to its place in the table.

    Grid: one program per multiprocessor. Which one a program lands on is the scheduler's choice, so each writes where
    its %smid says; places that nobody came to keep what they held.
    """
    sm = tl.inline_asm_elementwise("mov.u32 $0, %smid;", "=r", [], dtype=tl.int32, is_pure=False, pack=1)
    cycles = tl.inline_asm_elementwise("mov.u64 $0, %clock64;", "=l", [], dtype=tl.int64, is_pure=False, pack=1)
    nanoseconds = read_globaltimer()
    inside = sm < MULTIPROCESSORS
    tl.store(stamps_ptr + 2 * sm, nanoseconds, mask=inside)
    tl.store(stamps_ptr + 2 * sm + 1, cycles, mask=inside)


@triton.jit
def timer_steps_kernel(times_ptr, COUNT: tl.constexpr):
    """Read %globaltimer COUNT times in a row. Grid: one program."""
    for index in range(COUNT):
        tl.store(times_ptr + index, read_globaltimer())


@triton.jit
def read_kernel(x_ptr, sums_ptr, tiles, BLOCK: tl.constexpr):
    """Sum of `tiles` blocks of BLOCK floats, a grid apart, per program: as little beside loading as a kernel can do."""
    program = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for tile in range(tiles):
        start = (tile.to(tl.int64) * tl.num_programs(0) + program) * BLOCK
        total += tl.load(x_ptr + start + tl.arange(0, BLOCK))
    tl.store(sums_ptr + program, tl.sum(total, axis=0))
