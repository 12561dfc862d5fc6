"""The static layer: fingerprints of the head against pinned ones, and what a new set of pins would change.

A fingerprint that contradicts itself and a change that no kernel explains (`static_belief`) are INVALID, not gains.
"""

from collections.abc import Sequence

from lords_bench.gate.finding import Finding, LayerResult, Level, Located, finished
from lords_bench.gate.machine_code import FEWER_INSTRUCTIONS, MORE_INSTRUCTIONS, differences, is_better, worse_facts
from lords_bench.gate.static_belief import unbelievable, unexplained
from lords_bench.records.fingerprint import Fingerprint

LAYER = "static"
PIN_COMMAND = "lords-bench gate --static --pin"


def compare_static(
    pins: Sequence[Located[Fingerprint]],
    head: Sequence[Fingerprint],
    *,
    unusable: Sequence[Finding] = (),
) -> LayerResult:
    """Findings of the head's machine code against the pins.

    Args:
        pins: the committed fingerprints, of the same selection of kernels and targets as the head.
        head: what this tree compiles to.
        unusable: findings about pins that could not be read; they stay in the result.
    """
    pinned = {pin.record.name: pin for pin in pins}
    found = [*unusable, *unbelievable(pins, head, remedy=PIN_COMMAND)]
    suspect = {finding.benchmark for finding in found}
    same = 0
    foreign = _foreign_toolchains(pins, head)
    for fingerprint in head:
        pin = pinned.pop(fingerprint.name, None)
        if pin is None:
            found.append(_unpinned(fingerprint, any_pins=bool(pins) or bool(unusable)))
        elif fingerprint.target not in foreign:
            one = _compare(pin, fingerprint)
            same += not one and fingerprint.name not in suspect
            # An impossible kernel is no gain; what is worse beside it is still said.
            found += (f for f in one if fingerprint.name not in suspect or f.level is not Level.IMPROVEMENT)
    found += foreign.values()
    found += (
        Finding(
            benchmark=name,
            level=Level.REGRESSION,
            what=f"vanished: it is pinned, but this tree has no such case; if removed on purpose, {PIN_COMMAND}",
            record=pin.place,
        )
        for name, pin in pinned.items()
    )
    labels = sorted({f"{f.target}: {f.toolchain.label}" for f in head})
    return finished(
        LayerResult(
            layer=LAYER,
            facts=(
                f"{len(head)} kernels × configurations × targets compiled, {len(pins)} pinned",
                f"instructions per weight are a warning from {MORE_INSTRUCTIONS:+.0%}",
                f"instructions per weight are not believed below {-FEWER_INSTRUCTIONS:+.0%}",
                *labels,
            ),
            benchmarks=tuple(sorted({*(f.name for f in head), *pinned})),
            same=same,
            findings=tuple(found),
        )
    )


def pin_changes(pins: Sequence[Fingerprint], head: Sequence[Fingerprint]) -> tuple[str, ...]:
    """What pinning the head would change, as lines to read before committing it."""
    pinned = {pin.name: pin for pin in pins}
    lines = []
    for fingerprint in head:
        pin = pinned.pop(fingerprint.name, None)
        if pin is None:
            lines.append(f"+ {fingerprint.name}: new")
        elif pin != fingerprint:
            lines.append(f"~ {fingerprint.name}")
            lines += (f"    worse: {what}" for _, what in worse_facts(pin, fingerprint))
            lines += (f"    {line}" for line in differences(pin, fingerprint))
    lines += (f"- {name}: gone" for name in pinned)
    return tuple(lines)


def _compare(pin: Located[Fingerprint], head: Fingerprint) -> list[Finding]:
    old = pin.record
    source = f"kernels/{head.kernel}/kernel.py"

    def finding(level: Level, what: str, detail: tuple[str, ...] = ()) -> Finding:
        return Finding(benchmark=head.name, level=level, what=what, detail=detail, source=source, record=pin.place)

    doubts = [
        finding(Level.INVALID, f"{what}; look for what broke, and where it is meant, renew the pin with {PIN_COMMAND}")
        for what in unexplained(old, head)
    ]
    if old.code == head.code:
        return doubts
    detail = tuple(differences(old, head))
    worse = [finding(level, what, detail) for level, what in worse_facts(old, head)]
    if worse or doubts:
        return [*doubts, *worse]
    level = Level.IMPROVEMENT if old.code is None or is_better(old, head) else Level.NOTE
    return [finding(level, "; ".join(detail) or "compiles now")]


def _unpinned(head: Fingerprint, *, any_pins: bool) -> Finding:
    if head.code is None:
        what, level = f"is not pinned and does not compile: {head.status}: {head.reason}", Level.REGRESSION
    else:
        what, level = f"is not pinned{'' if any_pins else ', nor is anything else'}; {PIN_COMMAND}", Level.NO_BASELINE
    return Finding(benchmark=head.name, level=level, what=what, source=f"kernels/{head.kernel}/kernel.py")


def _foreign_toolchains(pins: Sequence[Located[Fingerprint]], head: Sequence[Fingerprint]) -> dict[str, Finding]:
    """Target → one INVALID, where the pins were compiled by other programs than the head."""
    here = {fingerprint.target: fingerprint.toolchain for fingerprint in head}
    found: dict[str, Finding] = {}
    for pin in pins:
        target, chain = pin.record.target, pin.record.toolchain
        if target in here and chain != here[target] and target not in found:
            found[target] = Finding(
                benchmark=f"all of {target}",
                level=Level.INVALID,
                what=(
                    f"pins are of {chain.label}, this machine has {here[target].label}: "
                    f"install triton=={chain.triton}, or re-pin on purpose with {PIN_COMMAND}"
                ),
                record=pin.place,
            )
    return found
