"""A small emulator of the PTX that the decoders use, on arrays of 32-bit registers.

Only the instructions that occur are known; anything else raises. Floating-point results are exact sums and products
rounded once to the 16-bit format (computed in float64, where they are exact for the operands of the decoders).
"""

import re

import numpy as np
from numpy.typing import NDArray

Register = NDArray[np.uint32]

_BYTE = np.uint32(0xFF)


def _permute_bytes(low: Register, high: Register, selector: Register) -> Register:
    """`prmt.b32`: byte i of the result is byte (nibble i mod 8) of {high, low}, or its sign if the nibble is ≥ 8."""
    low, high, selector = np.broadcast_arrays(low, high, selector)
    source = np.stack([(word >> np.uint32(8 * i)) & _BYTE for word in (low, high) for i in range(4)])
    result = np.zeros(selector.shape, np.uint32)
    for i in range(4):
        nibble = (selector >> np.uint32(4 * i)) & np.uint32(15)
        byte = np.take_along_axis(source, (nibble & np.uint32(7)).astype(np.int64)[None], axis=0)[0]
        sign = np.where(byte & np.uint32(0x80), _BYTE, np.uint32(0))
        result |= np.where(nibble & np.uint32(8), sign, byte) << np.uint32(8 * i)
    return result


def _three_input_logic(a: Register, b: Register, c: Register, table: int) -> Register:
    """`lop3.b32`: bit (4a + 2b + c) of the immediate, bit by bit."""
    result = np.zeros(np.broadcast(a, b, c).shape, np.uint32)
    for minterm in range(8):
        if table >> minterm & 1:
            result |= (a if minterm & 4 else ~a) & (b if minterm & 2 else ~b) & (c if minterm & 1 else ~c)
    return result


def bfloat16_to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Values of bfloat16 bit patterns."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float32_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bit patterns of the nearest bfloat16, ties to even, NaN kept."""
    values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _halves(register: Register) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    return (register & np.uint32(0xFFFF)).astype(np.uint16), (register >> np.uint32(16)).astype(np.uint16)


def _multiply_add(a: Register, b: Register, c: Register, kind: str) -> Register:
    """`fma.rn.bf16x2` and `fma.rn.f16x2`."""
    results = []
    for low, mid, high in zip(_halves(a), _halves(b), _halves(c), strict=True):
        if kind == "bf16x2":
            x, y, z = (bfloat16_to_float32(half).astype(np.float64) for half in (low, mid, high))
            results.append(float32_to_bfloat16((x * y + z).astype(np.float32)))
        else:
            x, y, z = (half.view(np.float16).astype(np.float64) for half in (low, mid, high))
            results.append((x * y + z).astype(np.float16).view(np.uint16))
    return results[0].astype(np.uint32) | (results[1].astype(np.uint32) << np.uint32(16))


def _execute(opcode: str, values: list[Register], names: list[str]) -> Register:
    """The result of one instruction."""
    bitwise = {"and.b32": np.bitwise_and, "or.b32": np.bitwise_or, "xor.b32": np.bitwise_xor}
    if opcode == "prmt.b32":
        return _permute_bytes(*values)
    if opcode == "lop3.b32":
        return _three_input_logic(*values[:3], int(names[3], 0))
    if opcode.startswith("fma.rn."):
        return _multiply_add(*np.broadcast_arrays(*values), opcode.removeprefix("fma.rn."))
    if opcode in ("shr.u32", "shl.b32"):
        return values[0] >> values[1] if opcode == "shr.u32" else values[0] << values[1]
    if opcode in bitwise:
        return bitwise[opcode](*values)
    if opcode in ("mov.b32", "mov.u32"):
        return values[0]
    raise NotImplementedError(f"PTX instruction {opcode!r} with operands {', '.join(names)}")


def run(asm: str, inputs: list[Register], outputs: int) -> list[Register]:
    """Registers `$0` … after the block, given the registers `$outputs`, `$outputs + 1`, … before it.

    Raises:
        NotImplementedError: an instruction the emulator does not know.
    """
    registers: dict[str, Register] = {f"${outputs + i}": register for i, register in enumerate(inputs)}

    def operand(text: str) -> Register:
        if text == "%laneid":
            return np.zeros(1, np.uint32)
        return registers[text] if text in registers else np.array([int(text, 0)], np.uint32)

    for line in re.split(r"[;{}]", asm):
        statement = line.strip()
        if not statement or statement.startswith(".reg"):
            continue
        opcode, rest = statement.split(None, 1)
        target, *names = [part.strip() for part in rest.split(",")]
        values = [operand(name) for name in names]
        result = _execute(opcode, values, names)
        registers[target] = np.asarray(result, np.uint32)
    return [registers[f"${i}"] for i in range(outputs)]
