"""Steps of instructions that reach memory: loads, stores, atomics, asynchronous copies, and moves of parameters."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import FIELDS, U64, storage, to_bits, to_numbers, width
from lords_bench.emulator.machine import Machine
from lords_bench.emulator.opcode import unknown
from lords_bench.emulator.parse import Instruction
from lords_bench.emulator.registers import Registers, memory_bits, single
from lords_bench.emulator.steps import Mask, Step
from lords_bench.errors import EmulationError

# What only says where a value is kept, or for how long: no meaning for a result.
_HINTS = frozenset({
    "ca", "cg", "cs", "lu", "cv", "nc", "wb", "wt", "weak", "L1::evict_first", "L1::evict_last", "L1::evict_normal",
    "L1::evict_unchanged", "L1::no_allocate", "L2::evict_first", "L2::evict_last", "L2::evict_normal",
    "L2::cache_hint", "L2::64B", "L2::128B", "L2::256B",
})  # fmt: skip
_SPACES = ("global", "shared", "shared::cta", "param")
_VECTORS = ("v2", "v4", "v8")

Builder = Callable[[Instruction, Registers], Step]


def is_shared(instruction: Instruction) -> bool:
    """Whether a load or store is of shared memory."""
    return instruction.modifiers[0] in ("shared", "shared::cta")


def _require_plain(instruction: Instruction) -> None:
    """Refuse spaces, orderings and vectors that are not known."""
    space, *others = instruction.modifiers[:-1]
    if space not in _SPACES or not set(others) <= _HINTS | set(_VECTORS):
        raise unknown(instruction.opcode)


def load(instruction: Instruction, registers: Registers) -> Step:
    """`ld`: one element or several side by side; narrow ones are extended to their register."""
    _require_plain(instruction)
    operand, source = instruction.operands[:2]
    targets = registers.numbers(operand)
    bits, signed = memory_bits(instruction), instruction.modifiers[-1].startswith("s")
    first = operand[0] if isinstance(operand, tuple) else operand
    whole = np.dtype(storage(f"b{registers.width_of(first, bits)}"))
    field: Any = FIELDS[bits // 8]

    def extended(value: Bits) -> Bits:
        if signed:
            return value.view(f"i{bits // 8}").astype(f"i{whole.itemsize}").view(whole)
        return value.astype(field, copy=False).astype(whole, copy=False)

    if instruction.modifiers[0] == "param":
        name = single(source).strip("[]")

        def run_parameter(machine: Machine, mask: Mask) -> None:
            machine.put(targets[0], extended(machine.setting.parameters[name]), mask)

        return Step(run=run_parameter, instruction=instruction, writes=frozenset(targets))
    base, offset = registers.address(source)
    shared, size, count = is_shared(instruction), bits // 8, len(targets)

    def run(machine: Machine, mask: Mask) -> None:
        who, addresses = machine.who(mask), machine.addresses(base, offset, mask)
        if shared:
            machine.counters.shared_access(instruction, addresses, who, size * count)
            values = machine.shared.load(addresses, size, count, who, instruction)
        else:
            machine.count_global(instruction, addresses, who, size * count)
            values = machine.memory.load(addresses, size, count, machine.cta_of[who], instruction)
        for target, value in zip(targets, values, strict=True):
            machine.put_lanes(target, extended(value), who, mask)

    return Step(run=run, instruction=instruction, reads=frozenset({base}), writes=frozenset(targets))


def store(instruction: Instruction, registers: Registers) -> Step:
    """`st`: one element or several side by side."""
    _require_plain(instruction)
    base, offset = registers.address(instruction.operands[0])
    bits, shared = memory_bits(instruction), is_shared(instruction)
    sources = registers.numbers(instruction.operands[1], f"b{max(bits, 16)}")
    field: Any = FIELDS[bits // 8]
    size = bits // 8

    def run(machine: Machine, mask: Mask) -> None:
        who, addresses = machine.who(mask), machine.addresses(base, offset, mask)
        values = np.stack([machine.lanes(source, mask).astype(field) for source in sources])
        if shared:
            machine.counters.shared_access(instruction, addresses, who, size * len(sources))
            machine.shared.store(addresses, values, size, who, instruction)
        else:
            machine.count_global(instruction, addresses, who, size * len(sources))
            machine.memory.store(addresses, values, size, machine.cta_of[who], machine.times(who), instruction)

    return Step(run=run, instruction=instruction, reads=frozenset({base, *sources}))


_UPDATES: Final[Mapping[str, Callable[[Bits, Bits], Bits]]] = {
    "add": np.add, "max": np.maximum, "min": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}  # fmt: skip
_ORDERINGS = ("relaxed", "acquire", "release", "acq_rel")
_SCOPES = ("gpu", "sys", "cta")


def _update_of(instruction: Instruction) -> str:
    """The action of an atomic, whose other modifiers are known."""
    parts = set(instruction.modifiers[:-1])
    actions = parts & {*_UPDATES, "exch", "cas"}
    known = {"global", *_ORDERINGS, *_SCOPES, *_VECTORS, *_HINTS, *actions, "noftz"}
    # An ordering within a CTA publishes nothing to others.
    ordered_in_cta = "cta" in parts and bool(parts & {"acquire", "release", "acq_rel"})
    if len(actions) != 1 or not parts <= known or ordered_in_cta:
        raise unknown(instruction.opcode)
    return actions.pop()


def atomic(instruction: Instruction, registers: Registers) -> Step:
    """`atom`: read, change and write back one element, thread after thread, and give the old one."""
    action, kind = _update_of(instruction), instruction.modifiers[-1]
    if isinstance(instruction.operands[0], tuple):
        return _vector_atomic(instruction, registers, action, kind)
    target = registers.number(instruction.operands[0])
    base, offset = registers.address(instruction.operands[1])
    values = [
        registers.number(single(operand), kind) for operand in instruction.operands[2 : 4 if action == "cas" else 3]
    ]
    acquire, release = _ordering(instruction)

    def changed(before: Bits, operands: list[Bits]) -> Bits:
        if action == "cas":
            return operands[1] if before[0] == operands[0][0] else before
        if action == "exch":
            return operands[0]
        with np.errstate(over="ignore"):
            return to_bits(_UPDATES[action](to_numbers(before, kind), to_numbers(operands[0], kind)), kind)

    def run(machine: Machine, mask: Mask) -> None:
        who, addresses = machine.who(mask), machine.addresses(base, offset, mask)
        operands = [machine.lanes(value, mask) for value in values]
        size, ctas, times = width(kind) // 8, machine.cta_of[who], machine.times(who)
        machine.count_global(instruction, addresses, who, size)
        found = np.zeros(len(who), FIELDS[size])
        for where, view, places in machine.memory.update(
            addresses, size, 1, ctas, times, instruction, synchronises=release
        ):
            for lane, place in zip(np.arange(len(who))[where].tolist(), places.tolist(), strict=True):
                found[lane] = view[place]
                view[place] = changed(found[lane : lane + 1], [operand[lane : lane + 1] for operand in operands])[0]
                machine.memory.synchronise(
                    int(addresses[lane]), int(ctas[lane]), int(times[lane]), acquire=acquire, release=release
                )
        machine.put_lanes(target, found, who, mask)

    return Step(run=run, instruction=instruction, reads=frozenset({base, *values}), writes=frozenset({target}))


def _vector_atomic(instruction: Instruction, registers: Registers, action: str, kind: str) -> Step:
    """`atom` of several elements side by side, each one's old value given; floats only, and relaxed."""
    targets, values = (registers.numbers(instruction.operands[place], kind) for place in (0, 2))
    base, offset = registers.address(instruction.operands[1])
    size, count = width(kind) // 8, len(targets)
    if any(_ordering(instruction)) or kind != "f32":
        raise unknown(instruction.opcode)
    function = _UPDATES[action]

    def run(machine: Machine, mask: Mask) -> None:
        who, addresses = machine.who(mask), machine.addresses(base, offset, mask)
        machine.count_global(instruction, addresses, who, size * count)
        given = np.stack([machine.lanes(value, mask) for value in values])
        found = np.zeros((count, len(who)), FIELDS[size])
        for where, view, places in machine.memory.update(
            addresses, size, count, machine.cta_of[who], machine.times(who), instruction, synchronises=False
        ):
            for lane, place in zip(np.arange(len(who))[where].tolist(), places.tolist(), strict=True):
                fields = view[place : place + count]
                found[:, lane] = fields
                numbers = function(to_numbers(fields, kind), to_numbers(given[:, lane], kind))
                fields[:] = to_bits(numbers, kind)
        for target, value in zip(targets, found, strict=True):
            machine.put_lanes(target, value, who, mask)

    return Step(run=run, instruction=instruction, reads=frozenset({base, *values}), writes=frozenset(targets))


def _ordering(instruction: Instruction) -> tuple[bool, bool]:
    """Whether an atomic acquires, and whether it releases."""
    parts = set(instruction.modifiers)
    return bool(parts & {"acquire", "acq_rel"}), bool(parts & {"release", "acq_rel"})


def reduction(instruction: Instruction, registers: Registers) -> Step:
    """`red`: as an atomic, but without a result or an order; of one element or several side by side."""
    action, kind = _update_of(instruction), instruction.modifiers[-1]
    base, offset = registers.address(instruction.operands[0])
    values = registers.numbers(instruction.operands[1], kind)
    if action in ("exch", "cas") or any(_ordering(instruction)) or kind.endswith("x2"):
        raise unknown(instruction.opcode)
    size = width(kind) // 8
    function: Any = _UPDATES[action]

    def run(machine: Machine, mask: Mask) -> None:
        who, addresses = machine.who(mask), machine.addresses(base, offset, mask)
        machine.count_global(instruction, addresses, who, size * len(values))
        for where, view, places in machine.memory.update(
            addresses, size, len(values), machine.cta_of[who], machine.times(who), instruction, synchronises=False
        ):
            for field, value in enumerate(values):
                given = to_numbers(machine.lanes(value, mask)[where], kind)
                if size == 2:
                    # Numbers of 16 bits are computed in float32, so each sum is rounded.
                    for place, number in zip((places + field).tolist(), given, strict=True):
                        before = to_numbers(view[place : place + 1], kind)
                        view[place : place + 1] = to_bits(function(before, number), kind)
                else:
                    function.at(to_numbers(view, kind), places + field, given)

    return Step(run=run, instruction=instruction, reads=frozenset({base, *values}))


def copy(instruction: Instruction, registers: Registers) -> Step:
    """`cp.async`: a copy from global to shared memory, the closing of a group of them, and the wait."""
    parts = instruction.modifiers
    if parts == ("async", "commit_group"):
        return Step(run=lambda machine, mask: machine.shared.commit(machine.who(mask)), instruction=instruction)
    if parts in (("async", "wait_group"), ("async", "wait_all")):
        left = int(single(instruction.operands[0]), 0) if parts[1] == "wait_group" else -1
        return Step(run=lambda machine, mask: machine.shared.wait(machine.who(mask), left), instruction=instruction)
    if parts[1:3] not in (("ca", "shared"), ("cg", "shared"), ("ca", "shared::cta"), ("cg", "shared::cta")):
        raise unknown(instruction.opcode)
    if parts[3] != "global" or not set(parts[4:]) <= _HINTS:
        raise unknown(instruction.opcode)
    (to, to_offset), (of, of_offset) = map(registers.address, instruction.operands[:2])
    size = int(single(instruction.operands[2]), 0)
    has_length = len(instruction.operands) > 3 and "L2::cache_hint" not in parts
    filled = registers.number(single(instruction.operands[3])) if has_length else None
    field = min(size, 8)

    def run(machine: Machine, mask: Mask) -> None:
        who, addresses = machine.who(mask), machine.addresses(to, to_offset, mask)
        sources = machine.addresses(of, of_offset, mask)
        data = np.zeros((len(who), size), np.uint8)
        # A copy of length 0 reads nothing and writes zeros, so its address may be anywhere.
        lengths = np.full(len(who), size) if filled is None else machine.lanes(filled, mask).astype(np.int64)
        some = lengths > 0
        if (lengths[some] != size).any():
            raise EmulationError(f"a copy that fills up with zeros from the middle is not emulated: {instruction}")
        machine.count_global(instruction, sources[some], who[some], size)
        machine.counters.shared_access(instruction, addresses, who, size)
        fields = machine.memory.load(sources[some], field, size // field, machine.cta_of[who[some]], instruction)
        data[some] = np.ascontiguousarray(fields.T).view(np.uint8)
        machine.shared.copy(addresses, data, who, instruction)

    return Step(run=run, instruction=instruction, reads=frozenset({to, of} if filled is None else {to, of, filled}))


def policy(instruction: Instruction, registers: Registers) -> Step:
    """`createpolicy`: a hint for caches, which has no value that matters."""
    target = registers.number(single(instruction.operands[0]))
    nothing = np.zeros(1, U64)
    return Step(
        run=lambda machine, mask: machine.put(target, nothing, mask),
        instruction=instruction,
        writes=frozenset({target}),
    )


def narrowest(instructions: tuple[Instruction, ...], *, shared: bool) -> int:
    """Bytes of the narrowest access of shared memory, or of the narrowest write of global memory; at most 4 or 8."""
    sizes = [4 if shared else 8]
    for instruction in instructions:
        name = instruction.name
        if name in ("ld", "st") and is_shared(instruction) and shared:
            operand = instruction.operands[0 if name == "ld" else 1]
            sizes.append(memory_bits(instruction) // 8 * (len(operand) if isinstance(operand, tuple) else 1))
        elif name == "st" and not shared and not is_shared(instruction):
            sizes.append(memory_bits(instruction) // 8)
        elif name in ("atom", "red") and not shared:
            sizes.append(width(instruction.modifiers[-1]) // 8)
    return min(sizes)


MEMORY_STEPS: Final[Mapping[str, Builder]] = MappingProxyType(
    {
        "ld": load, "st": store, "atom": atomic, "red": reduction, "cp": copy, "createpolicy": policy,
    }
)  # fmt: skip
