"""Accesses of memory as part of the static layer: counted in this tree, and pinned below `<out>/static/accesses`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lords_bench.gate.accesses import LAYER, PIN_COMMAND, access_changes, compare_accesses
from lords_bench.gate.finding import Finding, LayerResult, Located, located, rejected_findings
from lords_bench.gate_cli.output import write
from lords_bench.records.accesses import KernelAccesses
from lords_bench.records.codec import encode_line
from lords_bench.records.store import read_nouns

FOLDER = Path("static") / "accesses"


def results(arguments: argparse.Namespace) -> list[LayerResult]:
    """The comparison; none where neither a kernel nor a pin is selected.

    Raises:
        DeviceError: a process that counts was lost.
        StoreError: the cache's folder refuses.
    """
    pins, unusable = _pins(arguments)
    head = collect(arguments)
    return [compare_accesses(pins, head, unusable=unusable)] if pins or head or unusable else []


def renew(arguments: argparse.Namespace, head: Sequence[KernelAccesses]) -> list[str]:
    """Put the head's accesses in the place of the selection's pins; gives what that changes, in words.

    Raises:
        StoreError: the disk refuses.
    """
    pins, unusable = _pins(arguments)
    changes = access_changes([pin.record for pin in pins], head)
    for target in _targets(arguments):
        kept = [one for one in _read(arguments, target) if arguments.only not in one.kernel]
        members = sorted((*kept, *(one for one in head if one.target == target)), key=lambda one: one.kernel)
        if members:
            text = "".join(f"{encode_line(one)}\n" for one in members)
            write(arguments.out / FOLDER / f"{target}.jsonl", text)
    return [*(f"replaced: {finding.what}" for finding in unusable), *changes]


def collect(arguments: argparse.Namespace) -> tuple[KernelAccesses, ...]:
    """Accesses of the selection, counted or from the cache.

    Raises:
        DeviceError: a process that counts was lost.
        StoreError: the cache's folder refuses.
    """
    from lords_bench.static.compile import default_cache_dir
    from lords_bench.static.profile.accesses import kernel_accesses

    return kernel_accesses(
        _targets(arguments), cache_dir=arguments.cache or default_cache_dir(), only=arguments.only,
        workers=arguments.workers,
    )  # fmt: skip


def _targets(arguments: argparse.Namespace) -> tuple[str, ...]:
    from lords_bench.static.profile.accesses import TARGETS

    return tuple(target for target in TARGETS if not arguments.targets or target in arguments.targets)


def _read(arguments: argparse.Namespace, target: str) -> tuple[KernelAccesses, ...]:
    path = arguments.out / FOLDER / f"{target}.jsonl"
    return read_nouns(path, KernelAccesses).records if path.exists() else ()


def _pins(arguments: argparse.Namespace) -> tuple[list[Located[KernelAccesses]], list[Finding]]:
    pins: list[Located[KernelAccesses]] = []
    unusable: list[Finding] = []
    for target in _targets(arguments):
        path = arguments.out / FOLDER / f"{target}.jsonl"
        if path.exists():
            file = read_nouns(path, KernelAccesses)
            pins += (pin for pin in located(file) if arguments.only in pin.record.kernel)
            unusable += rejected_findings(LAYER, file, f"restore the file from git, or re-pin with {PIN_COMMAND}")
    return pins, unusable
