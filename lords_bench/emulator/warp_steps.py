"""Steps of instructions that involve more than one thread: shuffles, barriers, branches, and matrices of a warp."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from lords_bench.emulator import fragments
from lords_bench.emulator.counters import WARP
from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import to_bits, to_numbers
from lords_bench.emulator.machine import Machine
from lords_bench.emulator.memory_steps import Builder
from lords_bench.emulator.opcode import unknown
from lords_bench.emulator.parse import Instruction
from lords_bench.emulator.registers import Registers, single
from lords_bench.emulator.steps import Mask, Step

_LANES = np.arange(WARP)
_SOURCES: Final[Mapping[str, Callable[[Bits], Bits]]] = {
    "bfly": lambda by: _LANES ^ by,
    "up": lambda by: _LANES - by,
    "down": lambda by: _LANES + by,
}


def _by_warp(machine: Machine, number: int, mask: Mask) -> Bits:
    return machine.lanes(number, mask).reshape(-1, WARP)


def _shuffled(values: Bits, by: Bits, limit: Bits, mode: str) -> tuple[Bits, Bits]:
    """[warps, 32] values of the lanes that each lane asks for, and whether it got one."""
    by, limit = by.astype(np.int64), limit.astype(np.int64)
    segment = (limit >> 8) & 31
    lowest = _LANES & segment
    highest = lowest | (~segment & limit & 31)
    source = lowest | (by & 31 & ~segment) if mode == "idx" else _SOURCES[mode](by)
    inside = source >= highest if mode == "up" else source <= highest
    found = np.take_along_axis(values, np.where(inside, source, _LANES), 1)
    return found, np.broadcast_to(inside, found.shape)


def shuffle(instruction: Instruction, registers: Registers) -> Step:
    """`shfl.sync`: a register of another lane."""
    if instruction.modifiers[0] != "sync" or instruction.modifiers[1] not in (*_SOURCES, "idx"):
        raise unknown(instruction.opcode)
    mode = instruction.modifiers[1]
    target, *valid = (
        registers.number(name, kind)
        for name, kind in zip(single(instruction.operands[0]).split("|"), ("b32", "pred"), strict=False)
    )
    value, by, limit = (registers.number(single(operand)) for operand in instruction.operands[1:4])

    def run(machine: Machine, mask: Mask) -> None:
        machine.require_warps(mask, instruction)
        who = machine.who(mask)
        values, amounts, limits = (_by_warp(machine, number, mask) for number in (value, by, limit))
        found, inside = _shuffled(values, amounts, limits, mode)
        machine.put_lanes(target, found.reshape(-1), who, mask)
        for number in valid:
            machine.put_lanes(number, inside.reshape(-1), who, mask)

    return Step(
        run=run, instruction=instruction, reads=frozenset({value, by, limit}), writes=frozenset({target, *valid})
    )


_REDUCTIONS: Final[Mapping[str, np.ufunc]] = {
    "add": np.add, "max": np.fmax, "min": np.fmin, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


def warp_reduction(instruction: Instruction, registers: Registers) -> Step:
    """`redux.sync`: over the lanes that a mask names, for each of them."""
    sync, name, *flags, kind = instruction.modifiers
    if sync != "sync" or name not in _REDUCTIONS or not set(flags) <= {"abs"}:
        raise unknown(instruction.opcode)
    target, value, members = (registers.number(single(operand)) for operand in instruction.operands)
    function = _REDUCTIONS[name]

    def run(machine: Machine, mask: Mask) -> None:
        machine.require_warps(mask, instruction)
        numbers = to_numbers(machine.lanes(value, mask), kind).reshape(-1, WARP)
        if "abs" in flags:
            numbers = np.abs(numbers)
        masks = _by_warp(machine, members, mask)
        result = np.zeros_like(numbers)
        for group in np.unique(masks):
            lanes = (int(group) >> _LANES & 1).astype(np.bool_)
            total = function.reduce(numbers[:, lanes], axis=1, dtype=numbers.dtype)
            result = np.where(masks == group, total[:, None], result)
        machine.put_lanes(target, to_bits(result.reshape(-1), kind), machine.who(mask), mask)

    return Step(run=run, instruction=instruction, reads=frozenset({value, members}), writes=frozenset({target}))


def barrier(instruction: Instruction, _registers: Registers) -> Step:
    """`bar.sync 0` and `barrier.sync 0` of a whole CTA, and `bar.warp.sync`."""
    if instruction.modifiers == ("warp", "sync"):
        return Step(run=lambda machine, mask: machine.warp_barrier(mask, instruction), instruction=instruction)
    if instruction.modifiers not in (("sync",), ("sync", "aligned")) or instruction.operands != ("0",):
        raise unknown(f"{instruction.opcode} {', '.join(map(str, instruction.operands))}")
    return Step(run=lambda machine, mask: machine.arrive(mask, instruction), instruction=instruction)


def fence(instruction: Instruction, _registers: Registers) -> Step:
    """`fence.proxy.async`: shared memory goes over to asynchronous products."""
    if instruction.modifiers not in (("proxy", "async"), ("proxy", "async", "shared::cta")):
        raise unknown(instruction.opcode)
    return Step(run=lambda machine, mask: machine.shared.hand_over(machine.who(mask)), instruction=instruction)


def branch(instruction: Instruction, registers: Registers) -> Step:
    """`bra`, to a label."""
    label = single(instruction.operands[0])
    if label not in registers.labels:
        raise unknown(f"{instruction.opcode} {label}")
    place = registers.labels[label]
    return Step(run=lambda machine, mask: machine.jump(place, mask), instruction=instruction)


def leave(instruction: Instruction, _registers: Registers) -> Step:
    """`ret` and `exit`."""
    return Step(run=lambda machine, mask: machine.leave(mask), instruction=instruction)


def load_matrix(instruction: Instruction, registers: Registers) -> Step:
    """`ldmatrix`: one to four matrices of 8 × 8 elements of 16 bits, whose rows' addresses the lanes give."""
    transposed = _is_transposed(instruction)
    targets, (base, offset) = registers.numbers(instruction.operands[0]), registers.address(instruction.operands[1])

    def run(machine: Machine, mask: Mask) -> None:
        machine.require_warps(mask, instruction)
        who = machine.who(mask)
        addresses, lanes = _row_lanes(machine.addresses(base, offset, mask), who, len(targets))
        machine.counters.shared_access(instruction, addresses, lanes, 16)
        rows = machine.shared.load_rows(addresses, lanes, instruction)
        matrices = rows.reshape(-1, len(targets), 8, 8)
        for target, value in zip(targets, fragments.rows_to_registers(matrices, transposed=transposed), strict=True):
            machine.put_lanes(target, value, who, mask)

    return Step(run=run, instruction=instruction, reads=frozenset({base}), writes=frozenset(targets))


def store_matrix(instruction: Instruction, registers: Registers) -> Step:
    """`stmatrix`, the inverse of `ldmatrix`."""
    transposed = _is_transposed(instruction)
    (base, offset), sources = registers.address(instruction.operands[0]), registers.numbers(instruction.operands[1])

    def run(machine: Machine, mask: Mask) -> None:
        machine.require_warps(mask, instruction)
        addresses, lanes = _row_lanes(machine.addresses(base, offset, mask), machine.who(mask), len(sources))
        machine.counters.shared_access(instruction, addresses, lanes, 16)
        rows = fragments.registers_to_rows([machine.lanes(source, mask) for source in sources], transposed=transposed)
        machine.shared.store_rows(addresses, rows.reshape(-1, 8), lanes, instruction)

    return Step(run=run, instruction=instruction, reads=frozenset({base, *sources}))


def _is_transposed(instruction: Instruction) -> bool:
    known = {"sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", "shared", "shared::cta", "b16"}
    if not set(instruction.modifiers) <= known:
        raise unknown(instruction.opcode)
    return "trans" in instruction.modifiers


def _row_lanes(addresses: Bits, who: Bits, matrices: int) -> tuple[Bits, Bits]:
    """Addresses of rows, and the lanes that give them: the first 8 of a warp for each matrix."""
    first, lanes = (values.reshape(-1, WARP)[:, : 8 * matrices].reshape(-1) for values in (addresses, who))
    return first, lanes


WARP_STEPS: Final[Mapping[str, Builder]] = MappingProxyType(
    {
        "shfl": shuffle, "redux": warp_reduction, "bar": barrier, "barrier": barrier, "fence": fence, "bra": branch,
        "ret": leave, "exit": leave, "ldmatrix": load_matrix, "stmatrix": store_matrix,
    }
)  # fmt: skip
