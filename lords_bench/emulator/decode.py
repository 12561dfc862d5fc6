"""A program to an `Executable`: numbers for registers, a step for each instruction, basic blocks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.floats import operation
from lords_bench.emulator.formats import storage
from lords_bench.emulator.machine import Machine
from lords_bench.emulator.memory_steps import MEMORY_STEPS, Builder, narrowest
from lords_bench.emulator.opcode import unknown
from lords_bench.emulator.parse import Instruction, Program, parse
from lords_bench.emulator.product_steps import PRODUCT_STEPS, watched_registers
from lords_bench.emulator.registers import Registers, single
from lords_bench.emulator.steps import Executable, Mask, Step
from lords_bench.emulator.warp_steps import WARP_STEPS

STEPS: Final[Mapping[str, Builder]] = {**MEMORY_STEPS, **WARP_STEPS, **PRODUCT_STEPS}
_ENDS_BLOCK = ("bra", "ret", "exit", "bar", "barrier")
_KEPT_PROGRAMS = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedKernel:
    """A program, what runs it, and what its launches need to know.

    Attributes:
        program: the text's.
        executable: its steps.
        shared_cell, global_granule: bytes of the narrowest access of shared memory, and write of global memory.
    """

    program: Program
    executable: Executable
    shared_cell: int
    global_granule: int


@lru_cache(maxsize=_KEPT_PROGRAMS)
def decode(ptx: str) -> DecodedKernel:
    """The kernel of a PTX text, decoded once.

    Raises:
        EmulationError: an instruction that the emulator does not know, by its name.
    """
    program = parse(ptx)
    registers = Registers.of(program)
    steps = [make_step(instruction, registers) for instruction in program.instructions]
    watched = frozenset[int]().union(*(watched_registers(i, registers) for i in program.instructions))
    if watched:
        steps = [replace(step, watched=(step.reads | step.writes) & watched) for step in steps]
    return DecodedKernel(
        program=program,
        executable=Executable(
            steps=tuple(steps),
            blocks=_blocks(program),
            registers=registers.names,
            constants=registers.constants,
            specials=registers.specials,
            threads=program.threads,
        ),
        shared_cell=narrowest(program.instructions, shared=True),
        global_granule=narrowest(program.instructions, shared=False),
    )


def _blocks(program: Program) -> dict[int, int]:
    """First step of each basic block, to the one behind its last."""
    count = len(program.instructions)
    behind = (place + 1 for place, found in enumerate(program.instructions) if found.name in _ENDS_BLOCK)
    starts = sorted({0, *program.labels.values(), *behind} - {count})
    return dict(zip(starts, [*starts[1:], count], strict=True))


def make_step(instruction: Instruction, registers: Registers) -> Step:
    """The step of an instruction, under its predicate if it has one.

    Raises:
        EmulationError: it is not known.
    """
    if instruction.name in STEPS:
        step = STEPS[instruction.name](instruction, registers)
    elif instruction.name == "mov" and any(isinstance(operand, tuple) for operand in instruction.operands):
        step = _parts_step(instruction, registers)
    else:
        step = _arithmetic_step(instruction, registers)
    return step if instruction.guard is None else _guarded(step, instruction.guard, registers)


def _guarded(step: Step, guard: str, registers: Registers) -> Step:
    number, negated, run = registers.number(guard.lstrip("!"), "pred"), guard.startswith("!"), step.run

    def run_some(machine: Machine, mask: Mask) -> None:
        predicate = machine.registers[number]
        taken = ~predicate if negated else predicate
        if mask is not None:
            taken = mask & taken
        if taken.all():
            run(machine, None)
        elif taken.any():
            run(machine, taken)

    return replace(step, run=run_some, reads=step.reads | {number})


def _arithmetic_step(instruction: Instruction, registers: Registers) -> Step:
    if not instruction.operands:
        raise unknown(instruction.opcode)
    destination, *sources = map(single, instruction.operands)
    found = operation(instruction.opcode, len(sources))
    if found is None or len(found.kinds) != len(sources) or "|" in destination:
        raise unknown(instruction.opcode)
    target, function = registers.number(destination), found.function
    numbers = []
    for source, kind in zip(sources, found.kinds, strict=True):
        if source.startswith("!"):
            raise unknown(f"{instruction.opcode} with {source}")
        numbers.append(registers.number(source, kind))
    return Step(
        run=_runner(function, target, numbers),
        instruction=instruction,
        reads=frozenset(numbers),
        writes=frozenset({target}),
    )


def _runner(function: Callable[..., Bits], target: int, numbers: list[int]) -> Callable[[Machine, Mask], None]:
    """Closures for one, two and three operands: this is where most of the time goes."""
    if len(numbers) == 1:
        only = numbers[0]
        return lambda machine, mask: machine.put(target, function(machine.registers[only]), mask)
    if len(numbers) == 2:
        first, second = numbers

        def run_two(machine: Machine, mask: Mask) -> None:
            registers = machine.registers
            machine.put(target, function(registers[first], registers[second]), mask)

        return run_two

    def run_all(machine: Machine, mask: Mask) -> None:
        machine.put(target, function(*[machine.registers[number] for number in numbers]), mask)

    return run_all


def _parts_step(instruction: Instruction, registers: Registers) -> Step:
    """`mov.b32 %r1, {%rs1, %rs2}` and back."""
    target, source = instruction.operands
    parts = target if isinstance(target, tuple) else source
    whole: Any = np.dtype(storage(instruction.modifiers[-1]))
    if len(instruction.modifiers) != 1 or whole.itemsize % len(parts) or whole.itemsize == len(parts):
        raise unknown(instruction.opcode)
    part = np.dtype(f"u{whole.itemsize // len(parts)}")
    kind, count = f"b{8 * part.itemsize}", len(parts)
    if isinstance(target, tuple):
        origin = registers.number(single(source), instruction.modifiers[-1])
        targets = {place: registers.number(name) for place, name in enumerate(target) if name != "_"}

        def split(machine: Machine, mask: Mask) -> None:
            pieces = np.ascontiguousarray(machine.registers[origin]).view(part).reshape(-1, count)
            for place, number in targets.items():
                machine.put(number, np.ascontiguousarray(pieces[:, place]), mask)

        return Step(run=split, instruction=instruction, reads=frozenset({origin}), writes=frozenset(targets.values()))
    destination, sources = registers.number(single(target)), registers.numbers(source, kind)

    def join(machine: Machine, mask: Mask) -> None:
        pieces = np.broadcast_arrays(*(machine.registers[number].astype(part) for number in sources))
        machine.put(destination, np.ascontiguousarray(np.stack(pieces, 1)).view(whole)[:, 0], mask)

    return Step(run=join, instruction=instruction, reads=frozenset(sources), writes=frozenset({destination}))
