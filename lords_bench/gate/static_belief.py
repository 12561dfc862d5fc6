"""What a fingerprint cannot be: facts that contradict each other, and gains that no change of a kernel explains.

Facts are read off assembly text, so a reader that loses its way shows as a kernel that became better: no registers, no
instructions, no loads. Borders are said beside the rules, with what the committed pins of nine targets have.
"""

from collections.abc import Iterator, Sequence

from lords_bench.gate.finding import Finding, Level, Located
from lords_bench.gate.machine_code import FEWER_INSTRUCTIONS
from lords_bench.records.fingerprint import Fingerprint, MachineCode

# Pinned kernels have 36 to 256; a thread needs some for addresses and the loop alone.
LEAST_REGISTERS = 16
# A warp's instruction does at most two half-precision operations for each of its 32 lanes. Pinned are 1.05 and more.
LEAST_INSTRUCTIONS = 0.5
# NVIDIA, of a multiprocessor, for every architecture since Volta: 32-bit registers, and the most shared memory of any.
REGISTERS = 65536
MOST_SHARED_BYTES = 228 * 1024
_AMD = "gfx"


def contradictions(fingerprint: Fingerprint) -> Iterator[str]:
    """Why the facts of a fingerprint cannot all be true, one line for each rule."""
    code = fingerprint.code
    if code is None:
        return
    instructions = sum(count for _, count in code.loop_opcodes)
    if not instructions:
        yield "its loop has no instruction"
    by_pipe = sum(count for _, count in code.pipes)
    if by_pipe != instructions:
        yield f"its loop has {instructions} instructions by opcode and {by_pipe} by pipe"
    if code.registers < LEAST_REGISTERS:
        yield f"{code.registers} registers per thread are too few for any kernel"
    warps = dict(fingerprint.config).get("num_warps")
    if warps is not None and warps != str(code.warps):
        yield f"a block has {code.warps} warps and was launched with {warps}"
    rate = code.instructions_per_32_weights
    if rate is not None and rate < LEAST_INSTRUCTIONS:
        yield f"{rate:.3f} instructions per 32 weights are fewer than the weights need"
    yield from _loads(fingerprint, code)
    yield from _residence(code, is_amd=fingerprint.target.startswith(_AMD))
    if not fingerprint.target.startswith(_AMD):
        # On AMD these are counted over the whole program, not over the loop.
        in_loop = dict(code.loop_opcodes)
        wrong = [opcode for opcode, count in code.matrix_opcodes if in_loop.get(opcode) != count]
        if wrong:
            counts = f"{dict(code.matrix_opcodes)[wrong[0]]} among tensor cores, {in_loop.get(wrong[0], 0)} in the loop"
            yield f"{wrong[0]} is counted differently: {counts}"


def unexplained(pin: Fingerprint, head: Fingerprint) -> Iterator[str]:
    """What no change of a kernel explains between two fingerprints of one name, one line for each rule."""
    if pin.bits_per_weight != head.bits_per_weight:
        yield f"bits per weight {pin.bits_per_weight} → {head.bits_per_weight} under one name"
    if pin.toolchain != head.toolchain:
        yield f"compiled by {pin.toolchain.label} → {head.toolchain.label}"
    if pin.code is None and head.code is None:
        yield f"neither the pin nor this tree compiles: {head.reason}"
    if pin.code is None or head.code is None:
        return
    old, new = pin.code, head.code
    is_same = old.sha256 == new.sha256 and pin.config == head.config
    if is_same and old != new:
        yield f"the same instructions with other facts: {'; '.join(_facts(old, new))}"
    for what, before, after in (
        ("resident warps", old.resident_warps, new.resident_warps),
        ("weights per turn", old.loop_units, new.loop_units),
    ):
        if before is not None and after is None:
            yield f"{what} were {before:g} and are not known any more"
    if pin.config == head.config and None not in (old.loop_units, new.loop_units) and old.loop_units != new.loop_units:
        yield f"a turn of the loop decodes {old.loop_units} → {new.loop_units} × 32 weights with the same block sizes"
    before, after = old.instructions_per_32_weights, new.instructions_per_32_weights
    if before is not None and after is not None and after < before * (1 - FEWER_INSTRUCTIONS):
        yield (
            f"instructions per 32 weights {before:.3f} → {after:.3f} ({after / before - 1:+.0%}), a gain of more than "
            f"{FEWER_INSTRUCTIONS:.0%}"
        )


def unbelievable(
    pins: Sequence[Located[Fingerprint]], head: Sequence[Fingerprint], *, remedy: str
) -> Iterator[Finding]:
    """One INVALID for each rule that a fingerprint of either side breaks by itself, and for a pin that is there twice.

    Args:
        pins: the committed fingerprints.
        head: what this tree compiles to.
        remedy: the command that renews pins.
    """
    for pin in pins:
        for what in contradictions(pin.record):
            text = f"the pin cannot be true: {what}; restore it from git, or renew it with {remedy}"
            yield Finding(benchmark=pin.record.name, level=Level.INVALID, what=text, record=pin.place)
    for fingerprint in head:
        for what in contradictions(fingerprint):
            text = f"what this tree compiles to cannot be true: {what}; mend what reads the assembly"
            yield Finding(benchmark=fingerprint.name, level=Level.INVALID, what=text)
    seen: dict[str, Located[Fingerprint]] = {}
    for pin in pins:
        other = seen.setdefault(pin.record.name, pin)
        if other.record != pin.record:
            text = f"is pinned twice, differently; the other is {other.place}; renew both with {remedy}"
            yield Finding(benchmark=pin.record.name, level=Level.INVALID, what=text, record=pin.place)


def _loads(fingerprint: Fingerprint, code: MachineCode) -> Iterator[str]:
    """A loop that decodes weights reads them: at the least, and for some pinned kernels exactly, their stored bits."""
    if code.loop_units is None or fingerprint.bits_per_weight is None:
        return
    read = sum(width * count for width, count in code.load_bytes)
    due = code.loop_units * fingerprint.bits_per_weight / 8
    if read < 0.99 * due:
        yield f"a thread reads {read} bytes in a turn and decodes {due:g}"


def _residence(code: MachineCode, *, is_amd: bool) -> Iterator[str]:
    if code.resident_warps is None:
        return
    if code.warps < 1 or code.resident_warps < code.warps or code.resident_warps % code.warps:
        yield f"{code.resident_warps} resident warps are no whole number of blocks of {code.warps}"
        return
    if is_amd:
        return
    blocks = code.resident_warps // code.warps
    if 32 * code.registers * code.resident_warps > REGISTERS:
        yield f"{code.resident_warps} warps of {code.registers} registers a thread are more than {REGISTERS}"
    if blocks * code.shared_bytes > MOST_SHARED_BYTES:
        yield f"{blocks} blocks of {code.shared_bytes} B of shared memory are more than any multiprocessor has"


def _facts(old: MachineCode, new: MachineCode) -> Iterator[str]:
    for name in MachineCode.__dataclass_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name} {before} → {after}" if not isinstance(before, tuple) else f"{name} differ"
