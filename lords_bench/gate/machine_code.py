"""Two fingerprints of one kernel: what is worse, and in which facts they differ. The rules of the static layer.

Hard: spills, a lost tensor-core instruction, narrower global loads, fewer resident warps. Each of them costs time on
every GPU of the architecture. Soft: more instructions per weight, which cost time only where they are what bounds the
kernel.
"""

import re
from collections.abc import Iterator
from types import MappingProxyType

from lords_bench.gate.finding import Level
from lords_bench.records.fingerprint import Counts, Fingerprint, MachineCode

MORE_INSTRUCTIONS = 0.05
# A third of a loop's instructions does not go by a change of code: the work would have to go with them.
FEWER_INSTRUCTIONS = 1 / 3
# Registers that the compiler moves about change a load's width here and there; a kernel whose loads were narrowed
# moves most of its bytes in smaller pieces.
NARROWER_LOADS = 0.10
# Multiply-adds of tensor cores per weight do not change with scheduling: any loss is a product that is gone.
LESS_MATRIX_WORK = 0.01

_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
_MNEMONIC_SHAPES = MappingProxyType(
    {
        "16864": 16 * 8 * 64,
        "16832": 16 * 8 * 32,
        "16816": 16 * 8 * 16,
        "1688": 16 * 8 * 8,
        "8832": 8 * 8 * 32,
        "8816": 8 * 8 * 16,
        "884": 8 * 8 * 4,
    }
)


def worse_facts(pin: Fingerprint, head: Fingerprint) -> Iterator[tuple[Level, str]]:
    """(level, one line) of each rule that the head breaks against the pin; nothing where the code is the same."""
    if pin.code is None or head.code is None:
        if pin.code is not None:
            yield Level.REGRESSION, f"does not compile any more: {head.status}: {head.reason}"
        return
    old, new = pin.code, head.code
    if old == new:
        return
    if new.spills > old.spills or new.stack_bytes > old.stack_bytes:
        accesses, stack = f"{old.spills} → {new.spills}", f"{old.stack_bytes} → {new.stack_bytes}"
        what = f"spills appeared: {accesses} accesses of local memory, {stack} B of stack per thread"
        yield Level.REGRESSION, f"{what}, at {old.registers} → {new.registers} registers"
    # AMD counts are of the whole program: what is peeled off its loop depends on the block sizes.
    by_weight = not pin.target.startswith("gfx")
    yield from _matrix(old, new, same_config=pin.config == head.config, by_weight=by_weight)
    yield from _loads(old, new)
    if old.resident_warps is not None and new.resident_warps is not None and new.resident_warps < old.resident_warps:
        what = f"occupancy stepped down: {old.resident_warps} → {new.resident_warps} warps per multiprocessor"
        shared = f"shared memory {old.shared_bytes} → {new.shared_bytes} B"
        yield Level.REGRESSION, f"{what} (registers {old.registers} → {new.registers}, {shared})"
    yield from _instructions(old, new)


def is_better(pin: Fingerprint, head: Fingerprint) -> bool:
    """Whether swapping the two would break a hard rule."""
    return any(level is Level.REGRESSION for level, _ in worse_facts(head, pin))


def differences(pin: Fingerprint, head: Fingerprint) -> Iterator[str]:
    """Every fact in which they differ, one line each, the telling ones first; for people."""
    if pin.status is not head.status:
        yield f"{pin.status} → {head.status}" + (f" ({head.reason})" if head.reason else "")
    if pin.toolchain != head.toolchain:
        yield f"compiled by {pin.toolchain.label} → {head.toolchain.label}"
    changed = _changed(dict(pin.config), dict(head.config))
    if changed:
        yield f"config: {changed}"
    if pin.bits_per_weight != head.bits_per_weight:
        yield f"bits per weight {pin.bits_per_weight} → {head.bits_per_weight}"
    if pin.code is not None and head.code is not None and pin.code != head.code:
        yield from _code_differences(pin.code, head.code)


def matrix_work(code: MachineCode) -> float:
    """Multiply-adds of the loop's tensor-core instructions per 32 weights, or per turn where that is unknown."""
    return sum(_multiply_adds(opcode) * count for opcode, count in code.matrix_opcodes) / (code.loop_units or 1)


def _code_differences(old: MachineCode, new: MachineCode) -> Iterator[str]:
    for name, before, after in (
        ("registers", old.registers, new.registers),
        ("local memory accesses", old.spills, new.spills),
        ("stack bytes", old.stack_bytes, new.stack_bytes),
        ("shared bytes", old.shared_bytes, new.shared_bytes),
        ("resident warps", old.resident_warps, new.resident_warps),
    ):
        if before != after:
            yield f"{name} {before} → {after}"
    if old.load_bytes != new.load_bytes:
        yield f"global loads {_loads_text(old)} → {_loads_text(new)}"
    before_rate, after_rate = old.instructions_per_32_weights, new.instructions_per_32_weights
    if before_rate != after_rate and before_rate is not None and after_rate is not None:
        yield f"instructions per 32 weights {before_rate:.3f} → {after_rate:.3f} ({after_rate / before_rate - 1:+.1%})"
    opcodes = _changed(_plain(old.matrix_opcodes), _plain(new.matrix_opcodes))
    if opcodes:
        yield f"tensor core: {opcodes}"
    others = _changed(_plain(old.loop_opcodes), _plain(new.loop_opcodes), most=8)
    yield f"main loop: {others}" if others else "main loop: the same instructions, in another order or outside of it"


def _matrix(old: MachineCode, new: MachineCode, *, same_config: bool, by_weight: bool) -> Iterator[tuple[Level, str]]:
    gone = sorted({_mnemonic(o) for o, _ in old.matrix_opcodes} - {_mnemonic(o) for o, _ in new.matrix_opcodes})
    shown = f"{_counts_text(old.matrix_opcodes)} → {_counts_text(new.matrix_opcodes)}"
    if gone:
        yield Level.REGRESSION, f"tensor-core instruction gone: {', '.join(gone)} ({shown})"
        return
    # A turn whose weights are not known can only be compared with one of the same block sizes.
    if not same_config and not (by_weight and old.loop_units is not None and new.loop_units is not None):
        return
    before, after = matrix_work(old), matrix_work(new)
    if before and after < before * (1 - LESS_MATRIX_WORK):
        yield Level.REGRESSION, f"tensor-core work lost: {after / before - 1:+.0%} multiply-adds per weight ({shown})"
    elif before and after > before * (1 + LESS_MATRIX_WORK):
        yield Level.WARNING, f"tensor-core work grew: {after / before - 1:+.0%} multiply-adds per weight ({shown})"


def _loads(old: MachineCode, new: MachineCode) -> Iterator[tuple[Level, str]]:
    before, after = old.mean_load_bytes, new.mean_load_bytes
    if before is None:
        return
    if after is None:
        yield Level.REGRESSION, f"global loads gone: {_loads_text(old)} → none"
        return
    if after < before * (1 - NARROWER_LOADS) or new.load_bytes[0][0] < old.load_bytes[0][0]:
        yield Level.REGRESSION, f"global loads narrowed: {_loads_text(old)} → {_loads_text(new)}"


def _instructions(old: MachineCode, new: MachineCode) -> Iterator[tuple[Level, str]]:
    before, after = old.instructions_per_32_weights, new.instructions_per_32_weights
    if before is None or after is None or after <= before * (1 + MORE_INSTRUCTIONS):
        return
    assert old.loop_units is not None
    assert new.loop_units is not None
    was, now = dict(old.pipes), dict(new.pipes)
    moved = ", ".join(
        f"{pipe} {was.get(pipe, 0) / old.loop_units:.2f} → {now.get(pipe, 0) / new.loop_units:.2f}"
        for pipe in sorted({*was, *now})
        if abs(was.get(pipe, 0) / old.loop_units - now.get(pipe, 0) / new.loop_units) >= 0.005
    )
    yield (
        Level.WARNING,
        f"instructions per 32 weights {before:.3f} → {after:.3f} ({after / before - 1:+.1%}), by pipe: {moved}",
    )


def _multiply_adds(opcode: str) -> int:
    match = _SHAPE.search(opcode)
    if match:
        return int(match[1]) * int(match[2]) * int(match[3])
    return next((_MNEMONIC_SHAPES[part] for part in opcode.split(".") if part in _MNEMONIC_SHAPES), 1)


def _mnemonic(opcode: str) -> str:
    """`HMMA` of `HMMA.16816.F32`; `v_mfma` of `v_mfma_f32_32x32x8_f16`."""
    return "_".join(opcode.split("_")[:2]) if opcode.startswith("v_") else opcode.partition(".")[0]


def _loads_text(code: MachineCode) -> str:
    return ", ".join(f"{count} of {width} B" for width, count in code.load_bytes) or "none"


def _counts_text(counts: Counts) -> str:
    return ", ".join(f"{count} {opcode}" for opcode, count in counts) or "none"


def _plain(counts: Counts) -> dict[str, str]:
    return {opcode: str(count) for opcode, count in counts}


def _changed(before: dict[str, str], after: dict[str, str], most: int | None = None) -> str:
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if most is not None and len(names) > most:

        def size(name: str) -> int:
            return -abs(int(after.get(name, "0")) - int(before.get(name, "0")))

        names = sorted(names, key=lambda name: (size(name), name))
        rest = f", and {len(names) - most} more"
        names = names[:most]
    else:
        rest = ""
    return ", ".join(f"{name} {before.get(name, '0')} → {after.get(name, '0')}" for name in names) + rest
