"""Finds the entry of the tuned tables that serves a problem: exact, else nearest of the same architecture, else none.

Pure functions of entries and a key: total, deterministic, and without a device.

*Exact*: every field of the key agrees. *Nearest*: the kernel's source, the M bucket, bits, the kind of scale (rank, or
block and zero points), dtypes and decoder agree and the compute capability does; GPU, driver, Triton, N and K may
differ, but N and K must lie within the tuned ones of such entries: outside that hull, and between tuned M buckets,
nothing was measured that speaks for a choice.
An entry of a kernel that has changed since serves nobody.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from lords_bench.records.tuned import ROUTE, Choice, TunedEntry, TunedKey

Origin = Literal["exact", "nearest", "formula"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One field of a key that does not agree: what the entry has, and what is asked for."""

    field: str
    entry: Any
    asked: Any

    def __str__(self) -> str:
        return f"{self.field} {_shown(self.entry)} → {_shown(self.asked)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What serves a problem.

    Attributes:
        choice: kernel and settings; of the formula where no entry holds.
        origin: where the choice comes from.
        entry: its evidence; None for the formula.
        differences: why the nearest entry is not exact.
    """

    choice: Choice
    origin: Origin
    entry: TunedEntry | None = None
    differences: tuple[Difference, ...] = ()


class Entries:
    """Entries by key; a later one replaces an earlier one with the same key."""

    def __init__(self, entries: Iterable[TunedEntry]) -> None:
        self._exact = {entry.key: entry for entry in entries}
        self._alike: dict[object, list[TunedEntry]] = {}
        for entry in self._exact.values():
            self._alike.setdefault(_agreed(entry.key), []).append(entry)

    def all(self) -> tuple[TunedEntry, ...]:
        return tuple(self._exact.values())

    def exact(self, key: TunedKey) -> TunedEntry | None:
        return self._exact.get(key)

    def nearest(self, key: TunedKey) -> TunedEntry | None:
        """The entry for the most similar shape and machine, if the shape lies within the tuned ones."""
        alike = self._alike.get(_agreed(key), [])
        shapes = [(entry.key.problem.n, entry.key.problem.k) for entry in alike]
        if not shapes:
            return None
        for value, tuned in zip((key.problem.n, key.problem.k), zip(*shapes, strict=True), strict=True):
            if not min(tuned) <= value <= max(tuned):
                return None
        return min(alike, key=lambda entry: _distance(entry.key, key))

    def find(self, key: TunedKey) -> Found | None:
        """The entry that serves the key, exact before nearest, as an answer."""
        entry = self.exact(key)
        if entry is not None:
            return Found(choice=entry.choice, origin="exact", entry=entry)
        entry = self.nearest(key)
        if entry is None:
            return None
        return Found(choice=entry.choice, origin="nearest", entry=entry, differences=differences(entry.key, key))


def choose(
    entries: Entries, formula: Choice, *, key_of: Callable[[str], TunedKey], takes: Callable[[str], bool]
) -> Found:
    """What serves a problem: the tuned route, else the tuned configuration of the formula's kernel, else the formula.

    Args:
        entries: of the tuned tables.
        formula: the kernel that the formula picks, and its settings.
        key_of: a kernel's name, or `ROUTE`, to its key for the problem and machine asked about.
        takes: whether a kernel takes the problem; a route to one that does not serves nobody.
    """
    found = entries.find(key_of(ROUTE))
    if found is not None and takes(found.choice.kernel):
        return found
    return entries.find(key_of(formula.kernel)) or Found(choice=formula, origin="formula")


def differences(entry: TunedKey, asked: TunedKey) -> tuple[Difference, ...]:
    """The fields in which two keys do not agree, in the order of the key."""
    return tuple(_differences(entry, asked))


def closest(entries: Entries, key: TunedKey) -> TunedEntry | None:
    """The entry that differs from the key in the fewest fields, to say why none holds; None if there is no entry."""
    candidates = [entry for entry in entries.all() if entry.key.kernel == key.kernel]
    return min(
        candidates,
        key=lambda entry: (len(differences(entry.key, key)), _distance(entry.key, key)),
        default=None,
    )


def _differences(entry: Any, asked: Any) -> Iterable[Difference]:
    for field in fields(entry):
        ours, theirs = getattr(entry, field.name), getattr(asked, field.name)
        if is_dataclass(ours):
            yield from _differences(ours, theirs)
        elif ours != theirs:
            yield Difference(field=field.name, entry=ours, asked=theirs)


def _agreed(key: TunedKey) -> object:
    """What an answer must agree in with the question."""
    problem = key.problem
    return (
        key.kernel, key.source_sha256, problem.m_bucket, problem.bits, problem.rank, problem.block, problem.zero_points,
        problem.x_dtype, problem.scale_dtype, problem.decoder, key.machine.capability,
    )  # fmt: skip


def _distance(entry: TunedKey, asked: TunedKey) -> tuple[Any, ...]:
    """Shape first, then the machine; the text of the key breaks ties, so that the order of entries does not."""
    shape = abs(math.log2(entry.problem.n / asked.problem.n)) + abs(math.log2(entry.problem.k / asked.problem.k))
    ours, theirs = entry.machine, asked.machine
    return (
        shape,
        ours.gpu != theirs.gpu,
        abs(ours.multiprocessors - theirs.multiprocessors),
        ours.triton != theirs.triton,
        ours.driver != theirs.driver,
        repr(entry),
    )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ".".join(map(str, value))
    text = "unknown" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 else text
