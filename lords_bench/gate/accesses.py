"""Accesses of memory against pinned ones: loads that are no longer coalesced, and bank conflicts that appeared.

What is compared is how many sectors or passes an access takes over the fewest for its bytes, per tensor and kind. That
share does not depend on the size of a problem or a tile, but on which lane reads what.
"""

from collections.abc import Sequence

from lords_bench.gate.finding import Finding, LayerResult, Level, Located, finished
from lords_bench.records.accesses import KernelAccesses, MemoryUse
from lords_bench.records.status import Status

LAYER = "accesses"
PIN_COMMAND = "lords-bench gate --static --pin"
# Counts are exact; ragged edges of another tile move their share by less.
MORE = 0.02
_WORDS = {"global": "sectors", "shared": "passes through the banks"}
_FAULTS = {"global": "uncoalesced", "shared": "bank conflicts"}


def compare_accesses(
    pins: Sequence[Located[KernelAccesses]],
    head: Sequence[KernelAccesses],
    *,
    unusable: Sequence[Finding] = (),
) -> LayerResult:
    """Findings of the head's accesses against the pins, of the same selection of kernels and targets.

    Args:
        pins: the committed counts.
        head: counted in this tree.
        unusable: findings about pins that could not be read; they stay in the result.
    """
    pinned = {pin.record.name: pin for pin in pins}
    found: list[Finding] = list(unusable)
    same = 0
    for one in head:
        pin = pinned.pop(one.name, None)
        new = _of_kernel(pin, one)
        found += new
        same += not new
    found += (
        Finding(
            benchmark=name, level=Level.REGRESSION, record=pin.place,
            what=f"vanished: its accesses are pinned, but no such kernel is counted; if on purpose, {PIN_COMMAND}",
        )
        for name, pin in pinned.items()
    )  # fmt: skip
    return finished(
        LayerResult(
            layer=LAYER,
            facts=(
                f"{len(head)} kernels × targets compiled and executed in an emulator, {len(pins)} pinned",
                f"sectors and passes over the fewest fail from {MORE:+.0%}",
            ),
            benchmarks=tuple(sorted({*(one.name for one in head), *(pin.record.name for pin in pins)})),
            same=same,
            findings=tuple(found),
        )
    )


def access_changes(pins: Sequence[KernelAccesses], head: Sequence[KernelAccesses]) -> tuple[str, ...]:
    """What pinning the head would change, as lines to read before committing it."""
    pinned = {pin.name: pin for pin in pins}
    lines = []
    for one in head:
        pin = pinned.pop(one.name, None)
        if pin is None:
            lines.append(f"+ accesses of {one.name}: new")
        elif pin != one:
            lines.append(f"~ accesses of {one.name}")
            lines += (f"    {what}" for _, what in _moved(pin, one))
    lines += (f"- accesses of {name}: gone" for name in pinned)
    return tuple(lines)


def _of_kernel(pin: Located[KernelAccesses] | None, head: KernelAccesses) -> list[Finding]:
    place = None if pin is None else pin.place

    def finding(level: Level, what: str) -> Finding:
        return Finding(benchmark=head.name, level=level, what=what, record=place)

    if head.status is not Status.OK:
        return [finding(Level.REGRESSION, f"{head.problem} in the emulator: {head.status}: {head.reason}")]
    if pin is None:
        return [finding(Level.NO_BASELINE, f"its accesses are not pinned; {PIN_COMMAND}")]
    if pin.record.triton != head.triton:
        here = f"pins are of triton {pin.record.triton}, this machine has {head.triton}"
        return [finding(Level.INVALID, f"{here}: install triton=={pin.record.triton}, or re-pin with {PIN_COMMAND}")]
    return [finding(level, what) for level, what in _moved(pin.record, head)]


def _moved(pin: KernelAccesses, head: KernelAccesses) -> list[tuple[Level, str]]:
    before = {use.what: use for use in pin.uses}
    found = []
    for use in head.uses:
        old = before.get(use.what)
        was = 1.0 if old is None else old.excess
        text = f"{use.what}: {_share(old)} → {_share(use)}"
        if use.excess > was * (1 + MORE):
            found.append((Level.REGRESSION, f"{_FAULTS[use.space]}: {text}"))
        elif use.excess < was * (1 - MORE):
            found.append((Level.IMPROVEMENT, text))
    return found


def _share(use: MemoryUse | None) -> str:
    if use is None:
        return "none"
    return f"{use.units} {_WORDS[use.space]} where {use.fewest_units} would do ({use.excess:.2f})"
