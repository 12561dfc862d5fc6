"""Every arithmetic instruction gives what the PTX ISA says, bit for bit, of values worked out by hand or by numpy."""

from contextlib import suppress

import numpy as np
import pytest

from lords_bench.emulator.floats import operation
from lords_bench.emulator.formats import immediate, storage, to_bits, to_numbers
from lords_bench.errors import EmulationError

F32 = "f32"


def calculated(opcode: str, *operands: int) -> int:
    """The result's bits, of operands as bits."""
    found = operation(opcode, len(operands))
    assert found is not None
    registers = [np.array([bits], storage(kind)) for bits, kind in zip(operands, found.kinds, strict=True)]
    return int(found.function(*registers)[0])


def bits_of(value: float, kind: str) -> int:
    return int(to_bits(np.array([value]), kind)[0])


@pytest.mark.parametrize(
    ("opcode", "operands", "expected"),
    [
        ("add.s32", (0xFFFFFFFF, 2), 1),
        ("sub.u16", (1, 2), 0xFFFF),
        ("mul.lo.s32", (0x10001, 0x10001), 0x20001),
        ("mul.hi.u32", (0x80000000, 6), 3),
        ("mul.hi.s32", (0xFFFFFFFF, 2), 0xFFFFFFFF),
        ("mul.wide.s32", (0xFFFFFFFF, 5), 0xFFFFFFFFFFFFFFFB),
        ("mul.wide.u16", (0xFFFF, 0xFFFF), 0xFFFE0001),
        ("mad.lo.s64", (3, 5, 0xFFFFFFFFFFFFFFFF), 14),
        ("mad.wide.u32", (0xFFFFFFFF, 2, 5), 0x200000003),
        ("div.s32", (0xFFFFFFF9, 2), 0xFFFFFFFD),
        ("rem.s32", (0xFFFFFFF9, 2), 0xFFFFFFFF),
        ("div.u32", (7, 0), 0xFFFFFFFF),
        ("min.s32", (0xFFFFFFFF, 1), 0xFFFFFFFF),
        ("min.u32", (0xFFFFFFFF, 1), 1),
        ("neg.s32", (5,), 0xFFFFFFFB),
        ("abs.s32", (0xFFFFFFFB,), 5),
        ("shl.b32", (1, 32), 0),
        ("shl.b32", (3, 31), 0x80000000),
        ("shr.u32", (0x80000000, 40), 0),
        ("shr.s32", (0x80000000, 40), 0xFFFFFFFF),
        ("shf.l.wrap.b32", (0x80000001, 2, 33), 5),
        ("shf.r.clamp.b32", (1, 2, 32), 2),
        ("prmt.b32", (0x33221100, 0x77665544, 0x7531), 0x77553311),
        ("prmt.b32", (0x00008000, 0, 0x0009), 0x000000FF),
        ("lop3.b32", (0b1100, 0b1010, 0b0110, 0xEA), 0b1110),
        ("bfe.u32", (0xABCD1234, 8, 8), 0x12),
        ("bfe.s32", (0x00008000, 8, 8), 0xFFFFFF80),
        ("bfi.b32", (0xF, 0, 4, 4), 0xF0),
        ("dp4a.s32.s32", (0x01020304, 0xFF010101, 10), 10 + 4 + 3 + 2 - 1),
        ("popc.b32", (0xF0F0,), 8),
        ("not.b16", (0xFF00,), 0x00FF),
        ("xor.pred", (1, 1), 0),
        ("setp.lt.s32", (0xFFFFFFFF, 0), 1),
        ("setp.lt.u32", (0xFFFFFFFF, 0), 0),
        ("setp.ne.and.s32", (1, 0, 0), 0),
        ("selp.b32", (7, 8, 0), 8),
        ("cvt.s64.s32", (0xFFFFFFFE,), 0xFFFFFFFFFFFFFFFE),
        ("cvt.u64.u32", (0xFFFFFFFE,), 0xFFFFFFFE),
        ("cvt.u16.u32", (0x12345678,), 0x5678),
        ("cvt.s16.s8", (0x80,), 0xFF80),
    ],
)  # fmt: skip
def test_an_integer_instruction_gives_its_bits(opcode: str, operands: tuple[int, ...], expected: int) -> None:
    assert calculated(opcode, *operands) == expected


@pytest.mark.parametrize(
    ("opcode", "kind", "operands", "expected"),
    [
        ("add.f32", F32, (1.0, 2.0**-24), 1.0),
        ("add.f32", F32, (1.0, 2.0**-23 * 1.5), 1.0 + 2.0**-22),
        ("mul.ftz.f32", F32, (2.0**-70, 2.0**-70), 0.0),
        ("mul.f32", F32, (2.0**-70, 2.0**-70), 2.0**-140),
        ("max.f32", F32, (float("nan"), 3.0), 3.0),
        ("max.NaN.f32", F32, (float("nan"), 3.0), float("nan")),
        ("min.f32", F32, (3.0, 2.0, 1.0), 1.0),
        ("div.full.f32", F32, (1.0, 0.0), float("inf")),
        ("ex2.approx.ftz.f32", F32, (3.0,), 8.0),
        ("neg.f16", "f16", (1.5,), -1.5),
        ("fma.rn.bf16", "bf16", (3.0, 1.0, 2.0**-9), 3.0),
        # The product is half way between two numbers of bfloat16; what float64 cannot hold decides.
        ("fma.rn.bf16", "bf16", (1.0 + 2.0**-7, 1.0 + 2.0**-1, 2.0**-60), 1.515625),
        ("fma.rn.bf16", "bf16", (1.0 + 2.0**-7, 1.0 + 2.0**-1, -(2.0**-60)), 1.5078125),
        ("cvt.rmi.ftz.f32.f32", F32, (-0.5,), -1.0),
        ("cvt.rn.bf16.f32", F32, (1.0 + 2.0**-8 + 2.0**-20,), 1.0 + 2.0**-7),
    ],
)  # fmt: skip
def test_a_float_instruction_rounds_once(opcode: str, kind: str, operands: tuple[float, ...], expected: float) -> None:
    found = calculated(opcode, *(bits_of(value, kind) for value in operands))

    result = "bf16" if "bf16" in opcode else kind
    value = to_numbers(np.array([found], storage(result)), result)[0]
    np.testing.assert_equal(float(value), expected)


def test_a_pair_is_computed_half_by_half() -> None:
    pair = bits_of(2.0, "bf16") << 16 | bits_of(3.0, "bf16")
    one = bits_of(1.0, "bf16") << 16 | bits_of(1.0, "bf16")

    found = calculated("fma.rn.bf16x2", pair, pair, one)

    assert (found >> 16, found & 0xFFFF) == (bits_of(5.0, "bf16"), bits_of(10.0, "bf16"))


def test_a_pair_of_conversions_has_its_first_operand_above() -> None:
    found = calculated("cvt.rn.f16x2.f32", bits_of(1.0, F32), bits_of(2.0, F32))

    assert (found >> 16, found & 0xFFFF) == (bits_of(1.0, "f16"), bits_of(2.0, "f16"))


@pytest.mark.parametrize(
    ("value", "expected"), [(float("nan"), 0), (1e20, 2**31 - 1), (-1e20, 2**31), (-1.5, 2**32 - 1)]
)
def test_a_float_becomes_the_integer_at_its_end_of_the_range(value: float, expected: int) -> None:
    assert calculated("cvt.rzi.s32.f32", bits_of(value, F32)) == expected


def test_fused_multiply_add_of_float32_is_exact_before_its_one_rounding() -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.integers(1 << 23, 1 << 24, 5000) for _ in range(2))
    # A sum that lies within 2^-60 of the middle between two numbers of float32: exact in integers only.
    total = [int(x) * int(y) for x, y in zip(a, b, strict=True)]
    middle = [((value >> 24) << 24) + (1 << 23) - value for value in total]

    found = operation("fma.rn.f32", 3)
    assert found is not None
    registers = [np.array(values, np.float32).view(np.uint32) for values in (a, b, middle)]
    result = found.function(*registers).view(np.float32)

    # Ties go to the even neighbour, which numpy's integer arithmetic finds without rounding.
    sums = [value + int(np.float32(m)) for value, m in zip(total, middle, strict=True)]
    expected = [nearest_float32(value) for value in sums]
    assert result.tolist() == expected


def nearest_float32(value: int) -> float:
    """The nearest float32 of an integer, ties to even."""
    cut = max(0, value.bit_length() - 24)
    quotient, rest = value >> cut, value & ((1 << cut) - 1)
    half = 1 << cut >> 1
    quotient += rest > half or (rest == half and cut > 0 and quotient & 1)
    return float(quotient << cut)


@pytest.mark.parametrize(
    "opcode",
    ["add.sat.f32", "add.rz.f32", "fma.rn.relu.f16", "add.cc.u32", "cvt.rn.satfinite.e4m3x2.f32", "cvt.rz.f16.f32",
     "mul24.lo.s32", "sin.approx.f32", "testp.nan.f32", "bfe.u64", "min.xorsign.abs.f32", "cvt.f16.f32x2"],
)  # fmt: skip
def test_what_is_not_known_exactly_is_refused_by_name(opcode: str) -> None:
    with suppress(EmulationError):
        assert operation(opcode, 2) is None


@pytest.mark.parametrize(
    ("literal", "kind", "expected"),
    [("0f3F800000", F32, 0x3F800000), ("-1", "s32", 0xFFFFFFFF), ("0x10", "b16", 16), ("1.0", F32, 0x3F800000),
     ("0d3FF0000000000000", "f64", 0x3FF0000000000000)],
)  # fmt: skip
def test_a_literal_is_its_bits(literal: str, kind: str, expected: int) -> None:
    value = immediate(literal, kind)

    assert value is not None
    assert int(value[0]) == expected
