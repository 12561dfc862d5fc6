"""Integer arithmetic, logic, bytes and bit fields, comparisons and selections, as `Operation`s by opcode."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import U32, U64, is_float, storage, to_bits, to_numbers
from lords_bench.emulator.opcode import Opcode, Operation

_WIDER: Final = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
_NUMBERS: Final[Mapping[str, Any]] = {"s32": np.int32, "u32": U32, "s64": np.int64, "u64": U64}


def _shift_left(value: Bits, amount: Bits) -> Bits:
    bits = U32(8 * value.dtype.itemsize)
    within = np.minimum(amount, bits - U32(1)).astype(value.dtype)
    shifted: Bits = np.where(amount < bits, value << within, value.dtype.type(0))
    return shifted


def _shift_right(value: Bits, amount: Bits, kind: str) -> Bits:
    bits = U32(8 * value.dtype.itemsize)
    within = np.minimum(amount, bits - U32(1)).astype(value.dtype)
    if kind.startswith("s"):
        signed = to_numbers(value, kind)
        filled: Bits = (signed >> within.view(signed.dtype)).view(value.dtype)
        return filled
    shifted: Bits = np.where(amount < bits, value >> within, value.dtype.type(0))
    return shifted


def _funnel_shift(low: Bits, high: Bits, amount: Bits, *, left: bool, wrap: bool) -> Bits:
    amount = (amount & U32(31) if wrap else np.minimum(amount, U32(32))).astype(U64)
    both = low.astype(U64) | (high.astype(U64) << U64(32))
    return ((both << amount) >> U64(32) if left else both >> amount).astype(U32)


def permute_bytes(low: Bits, high: Bits, selector: Bits) -> Bits:
    """`prmt.b32`: byte i of the result is byte (nibble i mod 8) of {high, low}, or its sign if the nibble is ≥ 8."""
    both = low.astype(U64) | (high.astype(U64) << U64(32))
    result: Bits = np.zeros(1, U32)
    for place in range(4):
        nibble = (selector >> U32(4 * place)) & U32(15)
        byte = (both >> (U64(8) * (nibble & U32(7)).astype(U64))).astype(U32) & U32(0xFF)
        sign = (byte >> U32(7)) * U32(0xFF)
        result = result | (np.where(nibble >= 8, sign, byte) << U32(8 * place))
    return result


def _three_input_logic(a: Bits, b: Bits, c: Bits, table: Bits) -> Bits:
    """`lop3.b32`: bit (4a + 2b + c) of the table, bit by bit."""
    result: Bits = np.zeros(1, U32)
    for minterm in range(8):
        if int(table[0]) >> minterm & 1:
            result = result | ((a if minterm & 4 else ~a) & (b if minterm & 2 else ~b) & (c if minterm & 1 else ~c))
    return result


def _extract_field(value: Bits, first: Bits, length: Bits, kind: str) -> Bits:
    first, length = first & U32(255), length & U32(255)
    kept = np.minimum(length, U32(32))
    mask = ((U64(1) << kept.astype(U64)) - U64(1)).astype(U32)
    field: Bits = _shift_right(value, first, kind) & mask
    if kind == "s32":
        top = np.minimum(first + length - U32(1), U32(31))
        negative = (length > 0) & ((value >> top) & U32(1) != 0)
        field = np.where(negative, field | ~mask, field)
    return field


def _insert_field(field: Bits, value: Bits, first: Bits, length: Bits) -> Bits:
    first, length = first & U32(255), np.minimum(length & U32(255), U32(32))
    mask = (((U64(1) << length.astype(U64)) - U64(1)) << np.minimum(first, U32(63)).astype(U64)).astype(U32)
    result: Bits = (value & ~mask) | (_shift_left(field, first) & mask)
    return result


def _dot_of_bytes(a: Bits, b: Bits, total: Bits, kinds: tuple[str, ...]) -> Bits:
    for place in range(4):
        factors = [((word >> U32(8 * place)) & U32(255)).astype(np.uint8) for word in (a, b)]
        signed = [byte.view(np.int8) if kind == "s32" else byte for byte, kind in zip(factors, kinds, strict=True)]
        total = total + (signed[0].astype(np.int32) * signed[1].astype(np.int32)).view(U32)
    return total


def _wide_product(a: Bits, b: Bits, kind: str) -> Bits:
    wide = _WIDER[kind]
    product: Bits = to_numbers(a, kind).astype(_NUMBERS[wide]) * to_numbers(b, kind).astype(_NUMBERS[wide])
    return product.view(storage(wide))


def _high_product(a: Bits, b: Bits, kind: str) -> Bits:
    wide = np.int64 if kind == "s32" else U64
    product: Bits = to_numbers(a, kind).astype(wide) * to_numbers(b, kind).astype(wide)
    return (product >> wide(32)).astype(U64).astype(U32)


def _quotient(a: Bits, b: Bits) -> Bits:
    """Truncated toward zero; by zero it is all ones."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    whole = a // safe if a.dtype.kind == "u" else np.sign(a) * np.sign(safe) * (np.abs(a) // np.abs(safe))
    quotient: Bits = np.where(b == 0, ~b.dtype.type(0), whole)
    return quotient


_SUMS: Final[Mapping[str, tuple[int, Callable[..., Bits]]]] = {
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "div": (2, _quotient),
    "rem": (2, lambda a, b: a - _quotient(a, b) * b),
    "neg": (1, np.negative),
    "abs": (1, np.abs),
}


def _number_operation(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    kind = opcode.kind
    operands, function = _SUMS[opcode.name]

    def calculate(*registers: Bits) -> Bits:
        with np.errstate(over="ignore"):
            return to_bits(function(*(to_numbers(register, kind) for register in registers)), kind)

    return Operation(kinds=(kind,) * operands, function=calculate)


def _product(opcode: Opcode, _count: int) -> Operation:
    """`mul` and `mad`: the low half, the high half, or all of the product."""
    opcode.allow("lo", "hi", "wide")
    kind, with_sum = opcode.kind, opcode.name == "mad"
    wide = "wide" in opcode.flags
    if (wide and kind not in _WIDER) or ("hi" in opcode.flags and kind not in ("s32", "u32")):
        opcode.refuse()

    def product(a: Bits, b: Bits) -> Bits:
        if wide:
            return _wide_product(a, b, kind)
        if "hi" in opcode.flags:
            return _high_product(a, b, kind)
        with np.errstate(over="ignore"):
            # The low half of a product has no sign.
            return a * b

    if with_sum:
        total_kind = _WIDER[kind] if wide else kind
        return Operation(kinds=(kind, kind, total_kind), function=lambda a, b, c: product(a, b) + c)
    return Operation(kinds=(kind, kind), function=product)


_COMPARISONS: Final[Mapping[str, Callable[[Bits, Bits], Bits]]] = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
_UNORDERED: Final = ("equ", "neu", "ltu", "leu", "gtu", "geu")
_JOINTS: Final[Mapping[str, Callable[[Bits, Bits], Bits]]] = {
    "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor,
}  # fmt: skip


def comparison(name: str, kind: str) -> Callable[[Bits, Bits], Bits]:
    """A comparison of registers; those of floats that end in `u` hold where either is NaN, the others do not."""

    def compare(a: Bits, b: Bits) -> Bits:
        x, y = to_numbers(a, kind), to_numbers(b, kind)
        if not is_float(kind):
            return _COMPARISONS[name](x, y)
        unordered = np.isnan(x) | np.isnan(y)
        if name in ("num", "nan"):
            return unordered if name == "nan" else ~unordered
        if name in _UNORDERED:
            return _COMPARISONS[name[:-1]](x, y) | unordered
        return _COMPARISONS[name](x, y) & ~unordered

    return compare


def _set_predicate(opcode: Opcode, _count: int) -> Operation:
    name, *joints = opcode.flags or ("",)
    if name not in (*_COMPARISONS, *_UNORDERED, "num", "nan") or len(joints) > 1 or not set(joints) <= set(_JOINTS):
        opcode.refuse()
    kind = opcode.kind
    compare = comparison(name, kind)
    if not joints:
        return Operation(kinds=(kind, kind), function=compare)
    join = _JOINTS[joints[0]]
    return Operation(kinds=(kind, kind, "pred"), function=lambda a, b, before: join(compare(a, b), before))


def _logic(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    kind = opcode.kind
    two: Mapping[str, Callable[..., Bits]] = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    if opcode.name == "not":
        return Operation(kinds=(kind,), function=np.invert)
    return Operation(kinds=(kind, kind), function=two[opcode.name])


def _shift(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    kind = opcode.kind
    if opcode.name == "shl":
        return Operation(kinds=(kind, "u32"), function=_shift_left)
    return Operation(kinds=(kind, "u32"), function=lambda value, amount: _shift_right(value, amount, kind))


def _funnel(opcode: Opcode, _count: int) -> Operation:
    opcode.allow("l", "r", "wrap", "clamp")
    left, wrap = "l" in opcode.flags, "wrap" in opcode.flags
    return Operation(
        kinds=("b32",) * 2 + ("u32",),
        function=lambda low, high, amount: _funnel_shift(low, high, amount, left=left, wrap=wrap),
    )


def _fixed(kinds: tuple[str, ...], function: Callable[..., Bits]) -> Callable[[Opcode, int], Operation]:
    def build(opcode: Opcode, _count: int) -> Operation:
        opcode.allow()
        if opcode.kind not in ("b32", "u32"):
            opcode.refuse()
        return Operation(kinds=kinds, function=function)

    return build


def _field(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    kind = opcode.kind
    if storage(kind) is not U32:
        opcode.refuse()
    if opcode.name == "bfi":
        return Operation(kinds=(kind, kind, "u32", "u32"), function=_insert_field)
    return Operation(
        kinds=(kind, "u32", "u32"), function=lambda value, first, length: _extract_field(value, first, length, kind)
    )


def _byte_dot(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    kinds = opcode.kinds
    return Operation(kinds=("b32",) * 3, function=lambda a, b, total: _dot_of_bytes(a, b, total, kinds))


def _population(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    return Operation(kinds=(opcode.kind,), function=lambda value: np.bitwise_count(value).astype(U32))


def _move(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    return Operation(kinds=(opcode.kind,), function=lambda value: value)


def _select(opcode: Opcode, _count: int) -> Operation:
    opcode.allow()
    by = "pred" if opcode.name == "selp" else opcode.kind

    def choose(a: Bits, b: Bits, which: Bits) -> Bits:
        return np.where(which if by == "pred" else to_numbers(which, by) >= 0, a, b)

    return Operation(kinds=(opcode.kinds[0], opcode.kinds[0], by), function=choose)


Builder = Callable[[Opcode, int], Operation]

INTEGER_OPERATIONS: Final[Mapping[str, Builder]] = MappingProxyType(
    {
        "add": _number_operation,
        "sub": _number_operation,
        "min": _number_operation,
        "max": _number_operation,
        "div": _number_operation,
        "rem": _number_operation,
        "neg": _number_operation,
        "abs": _number_operation,
        "mul": _product,
        "mad": _product,
        "and": _logic,
        "or": _logic,
        "xor": _logic,
        "not": _logic,
        "shl": _shift,
        "shr": _shift,
        "shf": _funnel,
        "bfe": _field,
        "bfi": _field,
        "selp": _select,
        "slct": _select,
        "setp": _set_predicate,
        "prmt": _fixed(("b32", "b32", "b32"), permute_bytes),
        "lop3": _fixed(("b32", "b32", "b32", "u32"), _three_input_logic),
        "dp4a": _byte_dot,
        "popc": _population,
        "mov": _move,
    }
)
