"""Tensor-core layouts: which element of a matrix lies in which register of which lane, or where in shared memory.

From the figures of the PTX ISA. With g = lane div 4 and t = lane mod 4, and p elements in a 32-bit register: register i
of a left operand holds p elements of row g + 8·(i mod 2), beginning at column p·t + 4p·(i div 2); register i of a right
operand those of column g, beginning at row p·t + 4p·i; and result elements come in pairs, of row g and of row g + 8,
for each eight columns.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import U32, to_bits, to_numbers

# Bytes of an element of an operand.
ELEMENT_BYTES: Final = {"f16": 2, "bf16": 2, "tf32": 4, "s8": 1, "u8": 1}

_GROUP, _TURN = np.arange(32) // 4, np.arange(32) % 4
Order = NDArray[np.int64]
Matrices = NDArray[np.float64]


def elements(registers: Sequence[Bits], kind: str) -> Matrices:
    """[warps, 32, elements of a lane] numbers, in the order in which the registers hold them."""
    words = np.stack(registers, 1)
    if ELEMENT_BYTES.get(kind) == 2:
        found = to_numbers(words.view(np.uint16), kind)
    elif kind in ("s8", "u8"):
        found = words.view(np.int8 if kind == "s8" else np.uint8)
    else:
        found = to_numbers(words, kind)
    return found.reshape(len(words) // 32, 32, -1).astype(np.float64)


def _order(rows: Order, columns: Order, shape: tuple[int, int]) -> Order:
    """Matrix elements, row by row, to their places among lanes and registers."""
    order = np.zeros(shape, np.int64)
    order[rows.ravel(), columns.ravel()] = np.arange(rows.size)
    return order.ravel()


@cache
def left_order(registers: int, per_register: int) -> Order:
    """Of a left operand, 16 × (2 · per_register · registers)."""
    i, j = np.arange(registers)[None, :, None], np.arange(per_register)
    rows, columns = np.broadcast_arrays(
        _GROUP[:, None, None] + 8 * (i % 2),
        per_register * _TURN[:, None, None] + 4 * per_register * (i // 2) + j,
    )
    return _order(rows, columns, (16, 2 * per_register * registers))


@cache
def right_order(registers: int, per_register: int) -> Order:
    """Of a right operand, (4 · per_register · registers) × 8."""
    i, j = np.arange(registers)[None, :, None], np.arange(per_register)
    rows, columns = np.broadcast_arrays(
        per_register * _TURN[:, None, None] + 4 * per_register * i + j, _GROUP[:, None, None]
    )
    return _order(rows, columns, (4 * per_register * registers, 8))


@cache
def result_order(columns: int) -> Order:
    """Of a result, 16 × columns."""
    i = np.arange(columns // 2)
    rows, places = np.broadcast_arrays(_GROUP[:, None] + 8 * (i // 2 % 2), 2 * _TURN[:, None] + i % 2 + 8 * (i // 4))
    return _order(rows, places, (16, columns))


def to_matrices(values: Matrices, order: Order, shape: tuple[int, int]) -> Matrices:
    """[warps, 32, elements] to [warps, rows, columns]."""
    return values.reshape(len(values), -1)[:, order].reshape(len(values), *shape)


def to_lanes(matrices: Matrices, order: Order) -> Matrices:
    """[warps, rows, columns] to [warps, 32, elements]."""
    flat = np.empty((len(matrices), order.size))
    flat[:, order] = matrices.reshape(len(matrices), -1)
    return flat.reshape(len(matrices), 32, -1)


def rounded(total: Matrices, kind: str, *, truncate: bool) -> Matrices:
    """Exact sums as the tensor core leaves them: integers saturate; float32 sums may be cut off, not rounded."""
    if kind == "s32":
        return np.clip(total, -(2.0**31), 2.0**31 - 1)
    if truncate and kind == "f32":
        narrow = total.astype(np.float32)
        above = np.abs(narrow.astype(np.float64)) > np.abs(total)
        return np.where(above, np.nextafter(narrow, np.float32(0)), narrow).astype(np.float64)
    return total


def to_registers(values: Matrices, kind: str, registers: int) -> list[Bits]:
    """[warps, 32, elements] as registers, one array of threads each."""
    flat = values.reshape(values.shape[0] * 32, -1)
    if kind == "f16":
        return list(np.ascontiguousarray(to_bits(flat, "f16")).view(U32).T)
    return [to_bits(np.ascontiguousarray(flat[:, i]), kind) for i in range(registers)]


def product(
    a: Sequence[Bits], b: Sequence[Bits], c: Sequence[Bits], kinds: tuple[str, str, str, str], *, truncate: bool
) -> list[Bits]:
    """Registers of A·B + C for every warp, each sum exact and rounded once.

    Args:
        a: registers of A, arrays of threads.
        b: of B.
        c: of C.
        kinds: of the result, A, B and C.
        truncate: cut float32 sums off.
    """
    per_register = 4 // ELEMENT_BYTES[kinds[1]]
    k = 2 * per_register * len(a)
    left = to_matrices(elements(a, kinds[1]), left_order(len(a), per_register), (16, k))
    right = to_matrices(elements(b, kinds[2]), right_order(len(b), per_register), (k, 8))
    start = to_matrices(elements(c, kinds[3]), result_order(8), (16, 8))
    with np.errstate(invalid="ignore", over="ignore"):
        total = rounded(left @ right + start, kinds[0], truncate=truncate)
    return to_registers(to_lanes(total, result_order(8)), kinds[0], len(c))


def rows_to_registers(rows: NDArray[np.uint16], *, transposed: bool) -> list[Bits]:
    """`ldmatrix`: [warps, matrices, 8 rows, 8] elements to one register per matrix."""
    if transposed:
        rows = np.swapaxes(rows, 2, 3)
    words = np.ascontiguousarray(rows).view(U32)
    return [words[:, i].reshape(-1) for i in range(words.shape[1])]


def registers_to_rows(registers: Sequence[Bits], *, transposed: bool) -> NDArray[np.uint16]:
    """`stmatrix`, the inverse."""
    words = np.stack([register.reshape(-1, 8, 4) for register in registers], 1)
    rows = np.ascontiguousarray(words).view(np.uint16)
    return np.ascontiguousarray(np.swapaxes(rows, 2, 3)) if transposed else rows


# Units of 16 bytes that are exchanged with each other, as a power of two, by the descriptor's code for the swizzle.
_SWIZZLES = {0: 0, 1: 3, 2: 2, 3: 1}


@cache
def operand_addresses(descriptor: int, rows: int, k: int, element_bytes: int, *, k_major: bool) -> Order | None:
    """Shared addresses of the elements [rows · k] of a `wgmma` operand; None for a descriptor with a base offset.

    A descriptor holds the start address, two strides (all in units of 16 bytes) and the swizzle. The layouts are the
    canonical ones of the PTX ISA. The swizzle exchanges units of 16 bytes by address bits 7 to 9.
    """

    def field(first: int) -> int:
        return ((descriptor >> first) & 0x3FFF) << 4

    if (descriptor >> 49) & 7:
        return None
    start, leading, stride = field(0), field(16), field(32)
    swizzle = _SWIZZLES[descriptor >> 62]
    per_unit, units = 16 // element_bytes, 1 << swizzle
    row, column = np.arange(rows)[:, None], np.arange(k)[None, :]
    if k_major:
        offset = (row % 8) * 16 * units + (row // 8) * stride + (column % per_unit) * element_bytes
        offset = offset + (column // per_unit) * (16 if swizzle else leading)
    else:
        unit = row // per_unit
        offset = (row % per_unit) * element_bytes + (column % 8) * 16 * units
        if swizzle:
            offset = offset + (unit % units) * 16 + (unit // units) * leading + (column // 8) * stride
        else:
            offset = offset + unit * stride + (column // 8) * leading
    address = start + offset
    return (address ^ (((address >> 7) & (units - 1)) << 4)).ravel()
