"""PTX text of the decoders: packed codes to tensor-core operands without a load, a branch or a conversion.

Every decoder has two steps.

1. *Selectors*: registers that hold eight codes as nibbles, the low 16 bits from one 16-bit lane of the packed row and
   the high 16 bits from the next lane. At 4 bits the packed word is one already; at 3 and 2 bits even and odd fields
   are masked apart, and 3 bits add the high bit from plane 2.
2. *Look-up*. `prmt.b32 d, a, b, s` picks four bytes out of eight by the low four nibbles of s, so it is a look-up of
   four codes. A nibble of 8 or more replicates the sign bit of the byte, which is zero for table bytes below 0x80:
   with levels on a 7-bit grid, `prmt(t0, t1, s) | prmt(t2, t3, s ^ 0x8888…)` is a look-up in 16 bytes with no mask.
   - `grid7`: bytes b in 0…127, decoded to (b - 64)/64 in bfloat16 and (b - 64)/512 in fp16, both exact. A PRMT puts a
     zero above each byte; one packed fused multiply-add turns that denormal into the number. (The largest power of
     two of fp16 is 2^15, hence 512.)
   - `table16`: any 16-bit levels, in a table of low bytes and one of high bytes.
   - `uniform`: the code itself, minus half the number of levels; a bit mask and a magic exponent, no table. For the
     integer path the bytes are the codes: shifts and masks.

A 32-bit register of a 16-bit tile is {lane 1, lane 0}; all 16-bit decoders are elementwise in the lane, so they are
right in whatever layout the compiler picks. So are the byte decoders of `uniform` in the byte at 4 and 2 bits; those of
`grid7` need four consecutive bytes of a row in one register.

Cost in ALU instructions per code (grid7): bytes 1.1, 0.8, 0.6 at 4, 3, 2 bits; 16-bit operands 1.6, 1.3, 1.1. Bytes of
`uniform`: 0.4, 0.8, 0.4.
"""

import inspect
import struct
import sys
import zlib
from typing import Literal

import triton
import triton.language as tl

Decoder = Literal["grid7", "table16", "uniform", "table"]

# Triton's cache knows of a `constexpr_function` its own text, not that of the plain functions it calls: without this
# number, which kernels refer to, a kernel compiled before a change of these would be run after it. Triton reads the
# text of its own functions in the same way, when they are decorated.
PTX_SOURCE = tl.constexpr(zlib.crc32(inspect.getsource(sys.modules[__name__]).encode()))

_MASK_3_BIT_FIELDS = "0x33333333"
_FOURTH_BITS = "0x44444444"
_A_AND_B_OR_C = "0xea"


class _Block:
    """Instructions in the order they are emitted, each into a fresh register."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._constants: dict[str, str] = {}
        self._registers = 0

    def _fresh(self) -> str:
        self._registers += 1
        return f"t{self._registers}"

    def emit(self, opcode: str, *operands: str) -> str:
        register = self._fresh()
        self._lines.append(f"{opcode} {register}, {', '.join(operands)};")
        return register

    def constant(self, value: int) -> str:
        """A register holding `value`: packed floating-point instructions take no immediates."""
        text = f"{value:#010x}"
        if text not in self._constants:
            self._constants[text] = self._fresh()
        return self._constants[text]

    def text(self, outputs: list[str]) -> str:
        moves = [f"mov.b32 {register}, {text};" for text, register in self._constants.items()]
        results = [f"mov.b32 ${i}, {register};" for i, register in enumerate(outputs)]
        return "\n".join(["{", f".reg .b32 t<{self._registers + 1}>;", *moves, *self._lines, *results, "}"])


def _selectors(block: _Block, words: list[str], bits: int) -> list[str]:
    """Registers of eight codes each, as nibbles; their order fixes `k_of_column` and `_positions`."""
    if bits == 4:
        return list(words)
    selectors = []
    for plane, word in enumerate(words[:2]):
        for odd in range(2):
            shifted = block.emit("shr.u32", word, "2") if odd else word
            low_bits = block.emit("and.b32", shifted, _MASK_3_BIT_FIELDS)
            if bits == 3:
                left_shift = 2 - (2 * plane + odd)
                high = words[2]
                if left_shift:
                    direction = "shl.b32" if left_shift > 0 else "shr.u32"
                    high = block.emit(direction, high, str(abs(left_shift)))
                low_bits = block.emit("lop3.b32", high, _FOURTH_BITS, low_bits, _A_AND_B_OR_C)
            selectors.append(low_bits)
    return selectors


def _positions(selector: int, bits: int) -> list[int]:
    """Positions (of the words given to one decoder call) that the four nibbles of a half selector hold."""
    if bits == 4:
        return [4 * selector + field for field in range(4)]
    plane, odd = divmod(selector, 2)
    return [8 * plane + 2 * field + odd for field in range(4)]


def _look_up_bytes(block: _Block, selector: str, table: list[str], bits: int) -> list[str]:
    """Two registers of four grid7 bytes: for the low and for the high 16 bits of the selector."""
    if bits == 4:
        flipped = block.emit("xor.b32", selector, "0x88888888")
        results = []
        for high in range(2):
            first = block.emit("shr.u32", selector, "16") if high else selector
            second = block.emit("shr.u32", flipped, "16") if high else flipped
            low_half = block.emit("prmt.b32", table[0], table[1], first)
            high_half = block.emit("prmt.b32", table[2], table[3], second)
            results.append(block.emit("or.b32", low_half, high_half))
        return results
    upper = table[1] if bits == 3 else table[0]
    shifted = block.emit("shr.u32", selector, "16")
    return [block.emit("prmt.b32", table[0], upper, half) for half in (selector, shifted)]


def _packed_pair(value: float, dtype: str) -> int:
    """`value` twice in one 32-bit word; it must be exact in `dtype`."""
    if dtype == "bf16":
        half = struct.unpack("<I", struct.pack("<f", value))[0] >> 16
    else:
        half = struct.unpack("<H", struct.pack("<e", value))[0]
    return half << 16 | half


def _grid7_operands(block: _Block, selector: str, table: list[str], bits: int, dtype: str) -> list[str]:
    """Four registers {lane 1, lane 0} of the exact values (b - 64)/64, or (b - 64)/512 for fp16."""
    lane0, lane1 = _look_up_bytes(block, selector, table, bits)
    # A byte in the low bits of a 16-bit float is the denormal b·2^-133 (bfloat16) or b·2^-24 (fp16).
    factor, zero = (2.0**127, -1.0) if dtype == "bf16" else (2.0**15, -0.125)
    opcode = "fma.rn.bf16x2" if dtype == "bf16" else "fma.rn.f16x2"
    scale, offset = block.constant(_packed_pair(factor, dtype)), block.constant(_packed_pair(zero, dtype))
    operands = []
    for field in range(4):
        zero_extend = field | (8 | field) << 4 | (4 + field) << 8 | (8 | 4 + field) << 12
        denormal = block.emit("prmt.b32", lane0, lane1, f"{zero_extend:#06x}")
        operands.append(block.emit(opcode, denormal, scale, offset))
    return operands


def _table16_operands(block: _Block, selector: str, table: list[str], bits: int) -> list[str]:
    """Four registers {lane 1, lane 0} of 16-bit levels; `table` is the low bytes, then the high bytes."""
    half_table = len(table) // 2
    # Nibbles in the order lane 0: fields 0, 1; lane 1: fields 0, 1; lane 0: fields 2, 3; lane 1: fields 2, 3.
    ordered = block.emit("prmt.b32", selector, selector, "0x3120")
    pick = block.emit("and.b32", ordered, "0x77777777") if bits == 4 else ordered
    if bits == 4:
        above = block.emit("shr.u32", ordered, "1")
        above = block.emit("lop3.b32", above, _FOURTH_BITS, "0x32103210", _A_AND_B_OR_C)
    operands = []
    for high in range(2):
        pick_half = block.emit("shr.u32", pick, "16") if high else pick
        planes = []
        for first in (0, half_table):
            entries = table[first : first + half_table]
            found = block.emit("prmt.b32", entries[0], entries[min(1, half_table - 1)], pick_half)
            if bits == 4:
                above_half = block.emit("shr.u32", above, "16") if high else above
                found_above = block.emit("prmt.b32", entries[2], entries[3], pick_half)
                found = block.emit("prmt.b32", found, found_above, above_half)
            planes.append(found)
        operands += [block.emit("prmt.b32", *planes, pair) for pair in ("0x6240", "0x7351")]
    return operands


def _uniform_operands(block: _Block, selector: str, bits: int, dtype: str) -> list[str]:
    """Four registers {lane 1, lane 0} of code - 2^(bits - 1): the code under an exponent with unit spacing."""
    exponent, start, opcode = ("0x43004300", 128.0, "fma.rn.bf16x2")
    if dtype == "fp16":
        exponent, start, opcode = ("0x64006400", 1024.0, "fma.rn.f16x2")
    one = block.constant(_packed_pair(1.0, dtype))
    offset = block.constant(_packed_pair(-(start + 2 ** (bits - 1)), dtype))
    operands = []
    for field in range(4):
        shifted = block.emit("shr.u32", selector, str(4 * field)) if field else selector
        biased = block.emit("lop3.b32", shifted, "0x000f000f", exponent, _A_AND_B_OR_C)
        operands.append(block.emit(opcode, biased, one, offset))
    return operands


@triton.constexpr_function
def words_per_call(bits: int) -> int:
    """Planes that one call of a 16-bit decoder takes: 3 bits need all three, the others go plane by plane."""
    return 3 if bits == 3 else 1


@triton.constexpr_function
def operands_per_call(bits: int) -> int:
    """Position tiles that one call of a 16-bit decoder returns."""
    return {4: 4, 3: 16, 2: 8}[bits]


@triton.constexpr_function
def table_word_count(bits: int, decoder: str) -> int:
    """32-bit table registers that a decoder takes."""
    grid7 = {4: 4, 3: 2, 2: 1}[bits]
    return {"grid7": grid7, "table16": 2 * grid7, "uniform": 0, "table": 0}[decoder]


def _operand_asm(bits: int, decoder: str, dtype: str) -> str:
    """Body of a 16-bit decoder for `inline_asm_elementwise` with pack=2 on int16 lanes; dtype "bf16" or "fp16".

    Operands: `operands_per_call` outputs, `words_per_call` words, then the table, each word repeated (a [1, 1] tensor
    of 32-bit words fills two registers at pack=2).
    """
    block = _Block()
    outputs, inputs = operands_per_call(bits), words_per_call(bits)
    words = [f"${outputs + i}" for i in range(inputs)]
    table = [f"${outputs + inputs + 2 * i}" for i in range(table_word_count(bits, decoder))]
    results = [""] * outputs
    for number, selector in enumerate(_selectors(block, words, bits)):
        if decoder == "grid7":
            operands = _grid7_operands(block, selector, table, bits, dtype)
        elif decoder == "table16":
            operands = _table16_operands(block, selector, table, bits)
        else:
            operands = _uniform_operands(block, selector, bits, dtype)
        for position, operand in zip(_positions(number, bits), operands, strict=True):
            results[position] = operand
    return block.text(results)


@triton.constexpr_function
def operand_constraints(bits: int, decoder: str) -> str:
    """Constraint string that goes with `operand_asm`."""
    inputs = words_per_call(bits) + 2 * table_word_count(bits, decoder)
    return ",".join(["=r"] * operands_per_call(bits) + ["r"] * inputs)


def _code_bytes(block: _Block, words: list[str], bits: int) -> list[str]:
    """Registers of four codes each, one per byte; their order and bytes are those of `k_of_column` for `uniform`."""
    if bits == 2:
        shifted = [words[0], *(block.emit("shr.u32", words[0], str(2 * field)) for field in (1, 2, 3))]
        return [block.emit("and.b32", register, "0x03030303") for register in shifted]
    results = []
    selectors = _selectors(block, words, bits)
    for first in range(0, len(selectors), 2):
        pair = selectors[first : first + 2]
        results += [block.emit("and.b32", selector, "0x0f0f0f0f") for selector in pair]
        high = [block.emit("shr.u32", selector, "4") for selector in pair]
        results += [block.emit("and.b32", register, "0x0f0f0f0f") for register in high]
    return results


def _byte_asm(bits: int, decoder: str) -> str:
    """Body of the integer decoder for `inline_asm_elementwise` with pack=4 on int8.

    Bytes are levels b in 0…127 of the 7-bit grid (`grid7`), or the codes themselves (`uniform`).
    """
    block = _Block()
    inputs, outputs = words_per_call(bits), {4: 2, 3: 8, 2: 4}[bits]
    words = [f"${outputs + i}" for i in range(inputs)]
    if decoder == "uniform":
        return block.text(_code_bytes(block, words, bits))
    table = [f"${outputs + inputs + 4 * i}" for i in range(table_word_count(bits, "grid7"))]
    results = []
    for selector in _selectors(block, words, bits):
        results += _look_up_bytes(block, selector, table, bits)
    return block.text(results)


@triton.constexpr_function
def byte_constraints(bits: int, decoder: str) -> str:
    """Constraint string that goes with `byte_asm`."""
    outputs = {4: 2, 3: 8, 2: 4}[bits]
    inputs = words_per_call(bits) + 4 * table_word_count(bits, decoder)
    return ",".join(["=r"] * outputs + ["r"] * inputs)


# Triton lets a function that runs while compiling refer to plain values only, so the texts are made here.
_OPERAND_ASM = {
    (bits, decoder, dtype): _operand_asm(bits, decoder, dtype)
    for bits in (4, 3, 2)
    for decoder in ("grid7", "table16", "uniform")
    for dtype in ("bf16", "fp16")
}
_BYTE_ASM = {(bits, decoder): _byte_asm(bits, decoder) for bits in (4, 3, 2) for decoder in ("grid7", "uniform")}


@triton.constexpr_function
def operand_asm(bits: int, decoder: str, dtype: str) -> str:
    """Body of a 16-bit decoder, see `_operand_asm`."""
    return _OPERAND_ASM[(bits, decoder, dtype)]


@triton.constexpr_function
def byte_asm(bits: int, decoder: str) -> str:
    """Body of the integer decoder, see `_byte_asm`."""
    return _BYTE_ASM[(bits, decoder)]
