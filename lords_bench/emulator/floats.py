"""Floating-point arithmetic and conversions, as `Operation`s by opcode.

Every result is that of exact arithmetic rounded once to nearest. So are `div.full`, `div.approx`, `rcp`, `ex2` and
`sqrt`, where the hardware is one or two units in the last place away.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import U32, U64, is_float, storage, to_bits, to_numbers, width
from lords_bench.emulator.integers import INTEGER_OPERATIONS, Builder
from lords_bench.emulator.opcode import Opcode, Operation

_SMALLEST_NORMAL = 2.0**-126
# Bits of a float64 behind those of each type, which its rounding cuts off.
_CUT_BITS: Final = {"f32": 29, "f16": 42, "bf16": 45}


def fused_multiply_add(a: Bits, b: Bits, c: Bits, kind: str) -> Bits:
    """a·b + c in float64, such that a rounding to `kind` gives the exact sum's nearest number.

    The product of two numbers of at most 24 bits is exact in float64, the sum need not be. Where it seems to lie half
    way between two numbers of `kind` and what was cut off says otherwise, it is moved off the middle.
    """
    product = a * b
    total = product + c
    cut = _CUT_BITS.get(kind.removesuffix("x2"))
    if cut is None:
        return total
    middle = (total.view(U64) & U64((1 << cut) - 1)) == U64(1 << (cut - 1))
    if middle.any():
        part = total - product
        error = (product - (total - part)) + (c - part)
        total = np.where(middle & (error != 0), np.nextafter(total, np.copysign(np.inf, error)), total)
    return total


def _flushed(values: Bits) -> Bits:
    return np.where(np.abs(values) < _SMALLEST_NORMAL, np.copysign(values.dtype.type(0), values), values)


def _calculate(function: Callable[..., Bits], kind: str, *, flush: bool = False) -> Callable[..., Bits]:
    """A function of numbers as one of register bits.

    Single operations are exact in float32 or followed by a rounding to 16 bits that cannot change the result, since 24
    bits are more than twice 11 (or 8) and two.
    """

    def calculate(*registers: Bits) -> Bits:
        numbers = [to_numbers(register, kind) for register in registers]
        if flush:
            numbers = [_flushed(number) for number in numbers]
        with np.errstate(all="ignore"):
            value = function(*numbers)
        return to_bits(_flushed(value) if flush else value, kind)

    return calculate


_SINGLE: Final[Mapping[str, tuple[int, Callable[..., Bits]]]] = {
    "add": (2, np.add), "sub": (2, np.subtract), "mul": (2, np.multiply), "div": (2, np.divide),
    "neg": (1, np.negative), "abs": (1, np.abs), "rcp": (1, np.reciprocal), "ex2": (1, np.exp2), "sqrt": (1, np.sqrt),
    "rsqrt": (1, lambda x: 1 / np.sqrt(x.astype(np.float64))), "lg2": (1, np.log2),
}  # fmt: skip
_FLAGS: Final = {
    "div": ("rn", "full", "approx", "ftz"), "rcp": ("rn", "approx", "ftz"), "sqrt": ("rn", "approx", "ftz"),
    "ex2": ("approx", "ftz"), "rsqrt": ("approx", "ftz"), "lg2": ("approx", "ftz"),
}  # fmt: skip


def _single(opcode: Opcode, count: int) -> Operation:
    opcode.allow(*_FLAGS.get(opcode.name, ("rn", "ftz")))
    operands, function = _SINGLE[opcode.name]
    if mixed := _mixed(opcode, count, function):
        return mixed
    flush = "ftz" in opcode.flags
    return Operation(kinds=(opcode.kind,) * operands, function=_calculate(function, opcode.kind, flush=flush))


def _fused(opcode: Opcode, count: int) -> Operation:
    opcode.allow("rn", "ftz")
    kind, result = opcode.kind, opcode.kinds[0]

    def function(a: Bits, b: Bits, c: Bits) -> Bits:
        return fused_multiply_add(a.astype(np.float64), b.astype(np.float64), c.astype(np.float64), result)

    if mixed := _mixed(opcode, count, function):
        return mixed
    return Operation(kinds=(kind,) * 3, function=_calculate(function, kind, flush="ftz" in opcode.flags))


def _mixed(opcode: Opcode, count: int, function: Callable[..., Bits]) -> Operation | None:
    """From sm_100 on: 16-bit operands, but the last one and the result in float32."""
    if len(opcode.kinds) < 2:
        return None
    narrow = opcode.kind
    if opcode.kinds[0] != "f32" or narrow not in ("f16", "bf16") or len(opcode.kinds) > 2:
        opcode.refuse()
    calculate = _calculate(function, "f32")

    def widened(*registers: Bits) -> Bits:
        return calculate(*(to_numbers(register, narrow).view(U32) for register in registers[:-1]), registers[-1])

    return Operation(kinds=(narrow,) * (count - 1) + ("f32",), function=widened)


def _extreme(opcode: Opcode, count: int) -> Operation:
    """`min` and `max` of two or (from sm_100 on) three numbers; NaN loses unless the opcode keeps it."""
    opcode.allow("ftz", "NaN")
    keep, largest = "NaN" in opcode.flags, opcode.name == "max"
    two = (np.maximum if keep else np.fmax) if largest else (np.minimum if keep else np.fmin)

    def function(*numbers: Bits) -> Bits:
        result = two(numbers[0], numbers[1])
        return two(result, numbers[2]) if len(numbers) == 3 else result

    return Operation(
        kinds=(opcode.kind,) * count, function=_calculate(function, opcode.kind, flush="ftz" in opcode.flags)
    )


_ROUNDINGS: Final[Mapping[str, Callable[[Bits], Bits]]] = {
    "rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil,
}  # fmt: skip


def _to_integer(values: Bits, kind: str) -> Bits:
    """NaN is 0, and what does not fit the nearest end."""
    bits = width(kind)
    low, high = (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    wide = np.where(np.isnan(values), 0.0, values.astype(np.float64))
    # The highest integer of 64 bits is none of float64, and its conversion would overflow.
    return to_bits(np.clip(wide, float(low), np.nextafter(float(high) + 1, 0.0) if bits == 64 else float(high)), kind)


def convert(opcode: Opcode, count: int) -> Operation:
    """`cvt`: between integers, floats and their pairs; a rounding to nearest or to an integer."""
    opcode.allow("rn", "rna", "ftz", "satfinite", *_ROUNDINGS)
    if len(opcode.kinds) != 2 or "satfinite" in opcode.flags or opcode.kinds[1].endswith("x2"):
        opcode.refuse()
    to, of = opcode.kinds
    if to == "tf32":
        return Operation(kinds=("f32",), function=lambda bits: (bits + U32(0x1000)) & U32(0xFFFFE000))
    if to.endswith("x2"):
        if of != "f32" or count != 2:
            opcode.refuse()
        return Operation(kinds=(of, of), function=lambda upper, lower: _packed(upper, lower, to))
    rounding = next((_ROUNDINGS[flag] for flag in opcode.flags if flag in _ROUNDINGS), None)
    flush = "ftz" in opcode.flags and of == "f32"
    if is_float(of) and not is_float(to) and rounding is None:
        opcode.refuse()

    def function(bits: Bits) -> Bits:
        # The register may be wider than the type that is read from it.
        value = to_numbers(bits.astype(storage(of), copy=False), of)
        if flush:
            value = _flushed(value)
        if rounding is not None:
            value = rounding(value)
        if is_float(to):
            return to_bits(value if is_float(of) else value.astype(np.float64), to)
        return _to_integer(value, to) if is_float(of) else to_bits(value, to)

    return Operation(kinds=(of,), function=function)


def _packed(upper: Bits, lower: Bits, to: str) -> Bits:
    pair = np.broadcast_arrays(to_numbers(lower, "f32"), to_numbers(upper, "f32"))
    return to_bits(np.stack(pair, 1), to)


FLOAT_OPERATIONS: Final[Mapping[str, Builder]] = MappingProxyType(
    {
        "add": _single,
        "sub": _single,
        "mul": _single,
        "div": _single,
        "neg": _single,
        "abs": _single,
        "rcp": _single,
        "ex2": _single,
        "sqrt": _single,
        "rsqrt": _single,
        "lg2": _single,
        "fma": _fused,
        "mad": _fused,
        "min": _extreme,
        "max": _extreme,
    }
)


def operation(text: str, count: int) -> Operation | None:
    """What an arithmetic opcode with `count` operands behind its destination does; None if it is none.

    Raises:
        EmulationError: a modifier or type that is not known.
    """
    opcode = Opcode.of(text)
    if opcode.name == "cvt":
        return convert(opcode, count)
    if opcode.kinds and is_float(opcode.kinds[-1]) and opcode.name in FLOAT_OPERATIONS:
        return FLOAT_OPERATIONS[opcode.name](opcode, count)
    if opcode.name in INTEGER_OPERATIONS:
        return INTEGER_OPERATIONS[opcode.name](opcode, count)
    return None
