"""Steps of tensor-core products: `mma.sync` of a warp, `wgmma` of a warp group with operands in shared memory."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lords_bench.emulator import fragments
from lords_bench.emulator.formats import to_numbers
from lords_bench.emulator.machine import Machine
from lords_bench.emulator.memory_steps import Builder
from lords_bench.emulator.opcode import unknown
from lords_bench.emulator.parse import Instruction
from lords_bench.emulator.products import GROUP_THREADS
from lords_bench.emulator.registers import Registers, single
from lords_bench.emulator.shared_memory import Ints
from lords_bench.emulator.steps import Mask, Step, Threads
from lords_bench.errors import EmulationError

_WARP_SHAPE = re.compile(r"m16n8k(\d+)")
_GROUP_SHAPE = re.compile(r"m64n(\d+)k(\d+)")
_RESULTS = ("f32", "f16", "s32")
_GROUP_ROWS = 64


def warp_product(instruction: Instruction, registers: Registers) -> Step:
    """`mma.sync`: D = A·B + C of a warp, all in registers."""
    opcode, parts = instruction.opcode, instruction.modifiers
    prefix, rest = parts[:5], [part for part in parts[5:] if part != "satfinite"]
    shape = _WARP_SHAPE.fullmatch(parts[2]) if len(parts) > 4 else None
    if shape is None or len(rest) != 4 or prefix[:2] != ("sync", "aligned") or prefix[3:] != ("row", "col"):
        raise unknown(opcode)
    kinds = (rest[0], rest[1], rest[2], rest[3])
    d, a, b, c = (registers.numbers(operand) for operand in instruction.operands)
    element = fragments.ELEMENT_BYTES.get(kinds[1])
    if kinds[0] not in _RESULTS or kinds[3] != kinds[0] or element is None:
        raise unknown(opcode)
    if not int(shape[1]) == 8 // element * len(a) == 16 // element * len(b):
        raise unknown(opcode)

    def run(machine: Machine, mask: Mask) -> None:
        machine.require_warps(mask, instruction)
        who = machine.who(mask)
        operands = [[machine.lanes(number, mask) for number in numbers] for numbers in (a, b, c)]
        result = fragments.product(operands[0], operands[1], operands[2], kinds, truncate=machine.setting.truncate)
        for target, value in zip(d, result, strict=True):
            machine.put_lanes(target, value, who, mask)

    return Step(run=run, instruction=instruction, reads=frozenset({*a, *b, *c}), writes=frozenset(d))


def group_product(instruction: Instruction, registers: Registers) -> Step:
    """`wgmma`: a product of 64 rows, its fence, the closing of a group of products, and their wait."""
    parts = instruction.modifiers
    if parts == ("fence", "sync", "aligned"):
        return Step(run=lambda machine, mask: machine.products.fence(machine.who(mask)), instruction=instruction)
    if parts == ("commit_group", "sync", "aligned"):
        return Step(run=lambda machine, mask: machine.products.commit(machine.who(mask)), instruction=instruction)
    if parts == ("wait_group", "sync", "aligned"):
        left = int(single(instruction.operands[0]), 0)
        return Step(run=lambda machine, mask: machine.products.wait(machine.who(mask), left), instruction=instruction)
    if parts[:3] != ("mma_async", "sync", "aligned"):
        raise unknown(instruction.opcode)
    return _GroupProduct(instruction, registers).step()


class _GroupProduct:
    """One `wgmma.mma_async`."""

    def __init__(self, instruction: Instruction, registers: Registers) -> None:
        self._instruction = instruction
        rest = [part for part in instruction.modifiers[3:] if part != "satfinite"]
        shape = _GROUP_SHAPE.fullmatch(rest[0])
        if shape is None or len(rest) != 4 or rest[1] not in _RESULTS or rest[2] not in fragments.ELEMENT_BYTES:
            raise unknown(instruction.opcode)
        self._n, self._k = int(shape[1]), int(shape[2])
        self._kind_d, self._kind_a, self._kind_b = rest[1:]
        self._element = fragments.ELEMENT_BYTES[self._kind_a]
        d, a, b, scale, *signs = instruction.operands
        self._d = registers.numbers(d)
        self._a_in_registers = isinstance(a, tuple)
        self._a = registers.numbers(a, "b64")
        self._b, self._scale = registers.number(single(b), "b64"), registers.number(single(scale), "pred")
        # Of integers there are neither signs nor transposed operands, and a left operand in registers has no order.
        numbers = [int(single(sign), 0) for sign in signs] or [1, 1]
        self._sign = numbers[0] * numbers[1]
        self._a_major = not (numbers[2:3] == [1] and not self._a_in_registers)
        self._b_major = not (len(numbers) > 2 and numbers[-1] == 1)

    def step(self) -> Step:
        """The step; its accumulators and left operand's registers are watched from its issue to its wait."""
        in_memory = [] if self._a_in_registers else self._a
        return Step(run=self._run, instruction=self._instruction, reads=frozenset({self._b, self._scale, *in_memory}))

    @property
    def registers(self) -> frozenset[int]:
        """That are watched."""
        return frozenset({*self._d, *(self._a if self._a_in_registers else [])})

    def _run(self, machine: Machine, mask: Mask) -> None:
        instruction, n = self._instruction, self._n
        machine.require_warps(mask, instruction)
        who = machine.who(mask)
        groups = who.reshape(-1, GROUP_THREADS)
        if (groups[:, -1] // GROUP_THREADS != groups[:, 0] // GROUP_THREADS).any():
            raise EmulationError(f"a warp group has parted, but all its warps are needed by {instruction}")
        cells: list[list[Ints]] = [[] for _ in groups]
        if self._a_in_registers:
            per_register = 4 // self._element
            numbers = fragments.elements([machine.lanes(number, mask) for number in self._a], self._kind_a)
            order = fragments.left_order(len(self._a), per_register)
            left = fragments.to_matrices(numbers, order, (16, self._k)).reshape(-1, _GROUP_ROWS, self._k)
        else:
            left = self._operands(machine, self._a[0], groups, _GROUP_ROWS, self._kind_a, self._a_major, cells)
        right = self._operands(machine, self._b, groups, n, self._kind_b, self._b_major, cells)
        order = fragments.result_order(n)
        kept = machine.lanes(self._scale, mask).reshape(-1, GROUP_THREADS)[:, 0, None, None]
        start: NDArray[np.float64] = np.zeros(1)
        if kept.any():
            before = fragments.elements([machine.lanes(number, mask) for number in self._d], self._kind_d)
            start = fragments.to_matrices(before, order, (16, n)).reshape(-1, _GROUP_ROWS, n)
            start = np.where(kept, start, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            total = self._sign * (left @ right.swapaxes(1, 2)) + start
        total = fragments.rounded(total, self._kind_d, truncate=machine.setting.truncate)
        values = fragments.to_lanes(total.reshape(-1, 16, n), order)
        for target, value in zip(self._d, fragments.to_registers(values, self._kind_d, len(self._d)), strict=True):
            machine.put_lanes(target, value, who, mask)
        in_registers = frozenset(self._a) if self._a_in_registers else frozenset()
        machine.products.start(instruction, frozenset(self._d), in_registers, who, cells)

    def _operands(
        self, machine: Machine, register: int, groups: Threads, rows: int, kind: str, k_major: bool,
        cells: list[list[Ints]],
    ) -> NDArray[np.float64]:  # fmt: skip
        """[groups, rows, k] elements in shared memory; the cells that they lie in are added to those of their group."""
        descriptors = np.broadcast_to(machine.registers[register], machine.threads)[groups]
        if (descriptors != descriptors[:, :1]).any():
            raise EmulationError(f"a descriptor differs within a warp group: {self._instruction}")
        found = []
        for place, group in enumerate(groups):
            addresses = fragments.operand_addresses(
                int(descriptors[place, 0]), rows, self._k, self._element, k_major=k_major
            )
            if addresses is None:
                raise EmulationError(f"a descriptor with a base offset is not emulated: {self._instruction}")
            bits, busy = machine.shared.product_operand(addresses, self._element, group, self._instruction)
            cells[place].append(busy)
            found.append(to_numbers(bits, kind).astype(np.float64).reshape(rows, self._k))
        return np.stack(found)


def watched_registers(instruction: Instruction, registers: Registers) -> frozenset[int]:
    """Registers that a product uses while it is on its way; none of any other instruction."""
    if not instruction.opcode.startswith("wgmma.mma_async"):
        return frozenset()
    vectors = [operand for operand in instruction.operands[:2] if isinstance(operand, tuple)]
    return frozenset(number for operand in vectors for number in registers.numbers(operand, "b64"))


PRODUCT_STEPS: Final[Mapping[str, Builder]] = MappingProxyType({"mma": warp_product, "wgmma": group_product})
