"""`Seat`s: who is sampled in every round, on which buffers, and how often it is launched for a sample.

Everybody has the same chances: as many launches per sample as the quickest needs, and as many layouts, each allocated
apart. The last seat is the baseline once more, on layouts of its own, so that it differs from itself by all that two
equal candidates differ by. Round after round the seats go on to their next layout, all of them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lords_bench.records.status import Status
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.device import CandidateError, Need, Session
from lords_bench.timing.failure import failure_of

# Of the memory that is free, what layouts may take: results, scratch matrices and graphs come on top.
MEMORY_SHARE = 0.5
# A sample of the slowest candidate is not made longer than this by what the quickest needs.
LONGEST_SAMPLE_NS = 50e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """One sample of every round.

    Attributes:
        candidate: what is sampled.
        launches: per sample.
        layouts: numbers of its layouts; equal numbers of one candidate are the same memory.
        prepared: what the session calls the candidate on each of them.
    """

    candidate: Candidate
    launches: int
    layouts: tuple[int, ...]
    prepared: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seating:
    """Seats, the baseline's second one last if it has one; why others have none; and what a reader should know."""

    seats: tuple[Seat, ...]
    failures: dict[str, tuple[Status, str]]
    notes: tuple[str, ...]


def take_seats(session: Session, candidates: Sequence[Candidate], *, baseline: str, layouts: int) -> Seating:
    """Prepare candidates that have passed their check.

    Args:
        session: where they are sampled.
        candidates: in the order of their seats.
        baseline: name of the one that gets two seats.
        layouts: wanted of each.
    """
    return _Usher(session, baseline, layouts).seat(candidates)


class _Usher:
    def __init__(self, session: Session, baseline: str, layouts: int) -> None:
        self._session, self._baseline, self._wanted = session, baseline, layouts
        self._count = 0
        self._failures: dict[str, tuple[Status, str]] = {}
        self._notes: list[str] = []

    def seat(self, candidates: Sequence[Candidate]) -> Seating:
        needs: list[tuple[Candidate, Need]] = []
        for candidate in candidates:
            try:
                needs.append((candidate, self._session.need(candidate)))
            except CandidateError as error:
                self._fail(candidate, error)
        batch = _batch([need for _, need in needs])
        # Candidate, number of the first of its layouts, launches per sample, and its numbers in the session.
        rows: list[tuple[Candidate, int, int, list[int]]] = []
        for candidate, _ in needs:
            try:
                launches, number = self._prepare(candidate, batch)
                rows.append((candidate, 0, launches, [number]))
            except CandidateError as error:
                self._fail(candidate, error)
        if len({launches for _, _, launches, _ in rows}) > 1:
            shown = ", ".join(f"{candidate.name} {launches}" for candidate, _, launches, _ in rows)
            self._notes.append(f"launches per sample differ, because one of them cannot be batched: {shown}")
        base = next((row for row in rows if row[0].name == self._baseline), None)
        wanted = self._that_fit([row[0] for row in rows], None if base is None else base[0])
        if base is not None:
            rows.append((base[0], wanted, base[2], []))
        count = self._lay_out(rows, wanted)
        if base is not None and not rows[-1][3]:
            # No memory for buffers of its own: the baseline itself, whose single layout says so.
            rows[-1] = (base[0], 0, base[2], base[3])
        seats = [
            Seat(
                candidate=candidate,
                launches=launches,
                layouts=tuple(range(first, first + len(numbers[:count]))),
                prepared=tuple(numbers[:count]),
            )
            for candidate, first, launches, numbers in rows
            if candidate.name not in self._failures
        ]
        return Seating(seats=tuple(seats), failures=self._failures, notes=tuple(self._notes))

    def _lay_out(self, rows: Sequence[tuple[Candidate, int, int, list[int]]], wanted: int) -> int:
        """Prepare everybody on `wanted` layouts, as far as memory goes; how many all of them have."""
        for layout in range(wanted):
            for candidate, first, launches, numbers in rows:
                if len(numbers) > layout or candidate.name in self._failures or candidate.launch_on is None:
                    continue
                try:
                    numbers.append(self._on_layout(candidate, first + layout, launches))
                except CandidateError as error:
                    if error.status is Status.OUT_OF_MEMORY:
                        self._notes.append(_few(max(1, layout), self._wanted))
                        return max(1, layout)
                    self._fail(candidate, error)
        return wanted

    def _on_layout(self, candidate: Candidate, layout: int, launches: int) -> int:
        assert candidate.launch_on is not None
        try:
            moved = replace(candidate, launch=candidate.launch_on(layout))
        # Whatever a candidate raises is its outcome.
        except Exception as error:
            raise failure_of(error) from error
        return self._prepare(moved, launches)[1]

    def _prepare(self, candidate: Candidate, launches: int) -> tuple[int, int]:
        launches = self._session.prepare(candidate, launches)
        self._count += 1
        return launches, self._count - 1

    def _that_fit(self, candidates: Sequence[Candidate], base: Candidate | None) -> int:
        """Layouts that memory has room for, of which everybody holds one and the baseline's second seat none."""
        fixed = [candidate.name for candidate in candidates if candidate.launch_on is None]
        if fixed:
            self._notes.append(
                f"{', '.join(fixed)}: one layout of buffers, so what stays with it was not seen; no difference from "
                "it below 2 % is called one"
            )
        if base is None or base.launch_on is None:
            return 1
        movable = [candidate.layout_bytes or 0 for candidate in candidates if candidate.launch_on is not None]
        each, free = sum(movable), self._session.free_bytes()
        if free is None or not each:
            return self._wanted
        count = int((MEMORY_SHARE * free + each) / (each + (base.layout_bytes or 0)))
        if count >= self._wanted:
            return self._wanted
        self._notes.append(_few(max(1, count), self._wanted))
        return max(1, count)

    def _fail(self, candidate: Candidate, error: CandidateError) -> None:
        self._failures[candidate.name] = (error.status, error.reason)


def _batch(needs: Sequence[Need]) -> int:
    """Launches per sample of everybody."""
    if not needs:
        return 1
    slowest = max(need.launch_ns for need in needs)
    return max(1, min(max(need.launches for need in needs), int(LONGEST_SAMPLE_NS / max(slowest, 1.0))))


def _few(count: int, wanted: int) -> str:
    found = f"memory has room for {count} of {wanted} layouts of everybody's buffers: "
    if count == 1:
        return f"{found}what stays with a layout was not seen, and no difference below 2 % is called one"
    return f"{found}intervals are wider"
