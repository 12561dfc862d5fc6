"""Numbers in register bits and back: integers, float32, float64, fp16, bfloat16, tf32, and pairs of them.

A register is an array of unsigned integers of its width (a predicate: of booleans), one element per thread, or a single
one where every thread holds the same. 8-bit types live in 16-bit registers.
"""

import re
from typing import Any, Final

import numpy as np

from lords_bench.emulator.faults import Bits

U16, U32, U64 = np.uint16, np.uint32, np.uint64

_STORAGE: Final = {8: np.uint16, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED: Final = {"s16": np.int16, "s32": np.int32, "s64": np.int64}
_KIND = re.compile(r"[usfb](8|16|32|64)(x2)?|bf16(x2)?|tf32|pred")
_HEX_FLOAT = re.compile(r"0[fF][0-9a-fA-F]{8}")
_HEX_DOUBLE = re.compile(r"0[dD][0-9a-fA-F]{16}")
_INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]+|\d+)U?")
_DECIMAL = re.compile(r"-?\d*\.\d+([eE][-+]?\d+)?")
_TF32_MASK = np.uint32(0xFFFFE000)


def is_kind(text: str) -> bool:
    """Whether a modifier of an opcode is a type."""
    return _KIND.fullmatch(text) is not None


def is_float(kind: str) -> bool:
    """Whether the numbers of a type (or of its pairs) are floating-point."""
    return "f" in kind


def width(kind: str) -> int:
    """Bits of a register of a type; 1 of a predicate."""
    if kind == "pred":
        return 1
    if kind.endswith("x2"):
        return 2 * width(kind.removesuffix("x2"))
    return int(kind.lstrip("abcdefghijklmnopqrstuvwxyz"))


def storage(kind: str) -> Any:
    """The numpy type that holds a register of a type."""
    return np.bool_ if kind == "pred" else _STORAGE[width(kind)]


def bfloat16_to_float32(bits: Bits) -> Bits:
    """Values of bfloat16 bit patterns."""
    values: Bits = (bits.astype(U32) << U32(16)).view(np.float32)
    return values


def float32_to_bfloat16(values: Bits) -> Bits:
    """Bit patterns of the nearest bfloat16, ties to even; every NaN is the canonical one."""
    narrow = np.ascontiguousarray(values, np.float32)
    bits = narrow.view(U32)
    rounded = (bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)
    return np.where(np.isnan(narrow), U32(0x7FFF), rounded).astype(U16)


def to_float32(values: Bits) -> Bits:
    """Float64 rounded to float32; float32 as it is."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return values.astype(np.float32)


def _to_odd_float32(values: Bits) -> Bits:
    """Float64 to float32, where what is cut off sets the last bit: the rounding that a second one cannot spoil."""
    narrow = to_float32(values)
    bits = narrow.view(U32)
    wide = narrow.astype(np.float64)
    inexact = (wide != values) & np.isfinite(narrow)
    away = inexact & (np.abs(wide) > np.abs(values))
    odd: Bits = np.where(away, bits - U32(1), bits) | inexact.astype(U32)
    return odd.view(np.float32)


def to_numbers(bits: Bits, kind: str) -> Bits:
    """Register bits as numbers that numpy calculates with; 16-bit floats as float32, pairs as [threads, 2]."""
    if kind == "f32":
        return bits.view(np.float32)
    if kind == "f64":
        return bits.view(np.float64)
    if kind == "tf32":
        whole: Bits = (bits & _TF32_MASK).view(np.float32)
        return whole
    if kind == "f16":
        return bits.view(np.float16).astype(np.float32)
    if kind == "bf16":
        return bfloat16_to_float32(bits)
    if kind.endswith("x2"):
        single = kind.removesuffix("x2")
        return to_numbers(np.ascontiguousarray(bits).view(storage(single)).reshape(-1, 2), single)
    if kind in ("s8", "u8"):
        return bits.astype(np.int8 if kind == "s8" else np.uint8)
    return bits.view(_SIGNED[kind]) if kind in _SIGNED else bits


def to_bits(values: Bits, kind: str) -> Bits:
    """Numbers as register bits; floating-point ones are rounded once, to nearest with ties to even."""
    if kind == "f32":
        return to_float32(values).view(U32)
    if kind == "f64":
        return values.astype(np.float64).view(U64)
    if kind == "f16":
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return values.astype(np.float16).view(U16)
    if kind == "bf16":
        return float32_to_bfloat16(_to_odd_float32(values) if values.dtype == np.float64 else values)
    if kind.endswith("x2"):
        whole: Bits = np.ascontiguousarray(to_bits(values, kind.removesuffix("x2"))).view(storage(kind))
        return whole[:, 0]
    if kind == "s8":
        return values.astype(np.int16).view(U16)
    if kind in _SIGNED:
        signed: Bits = values.astype(_SIGNED[kind]).view(storage(kind))
        return signed
    return values if kind == "pred" else values.astype(storage(kind))


def immediate(text: str, kind: str) -> Bits | None:
    """A literal operand as a register of one element; None if the text is no literal."""
    if _HEX_FLOAT.fullmatch(text):
        return np.array([int("0x" + text[2:], 0)], U32)
    if _HEX_DOUBLE.fullmatch(text):
        return np.array([int("0x" + text[2:], 0)], U64)
    if _INTEGER.fullmatch(text):
        if kind == "pred":
            return np.array([int(text, 0) != 0])
        bits = 8 * np.dtype(storage(kind)).itemsize
        return np.array([int(text.rstrip("U"), 0) & ((1 << bits) - 1)], storage(kind))
    if _DECIMAL.fullmatch(text):
        return to_bits(np.array([float(text)]), kind)
    return None


# The type of an array of one 8-, 16-, 32- or 64-bit field per element in memory, by bytes.
FIELDS: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
