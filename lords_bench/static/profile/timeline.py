"""What a warp waits for, step by step along its path: results that are not there yet, and what hides the wait.

A warp is followed alone: each instruction costs the stall that the assembler wrote into it, a load's result is there a
latency after it was issued, and the assembler's scoreboards say which instruction waits for it. Its path is cut at
each wait for global memory. A stretch takes as long as the scheduler needs to issue it for all of its resident warps,
or as long as one warp needs alone, the wait included, whichever is longer: while one waits the others issue theirs.
What a stretch takes beyond its issue slots is exposed latency.
"""

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lords_bench.static.profile.flow import NOISE, Flow
from lords_bench.static.profile.machine import Scheduled

# A round figure for results of shared memory, shuffles, conversions and products that a scoreboard guards.
NEAR_CYCLES = 30
_LONGEST = 2_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """A path of the warps of a scheduler.

    Attributes:
        issue_cycles: issue slots of all of them.
        exposed_cycles: what one of them waits beyond that.
        waits: for global memory, along the path.
    """

    issue_cycles: float
    exposed_cycles: float
    waits: int

    @property
    def cycles(self) -> float:
        return self.issue_cycles + self.exposed_cycles


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Cycles from an instruction to its result.

    Attributes:
        far: of a load from device memory.
        cached: of one from the second-level cache.
        in_cache: places in the program of loads that find their data there.
        products: opcode of an asynchronous product to the cycles that it takes.
    """

    far: float
    cached: float
    in_cache: Container[int]
    products: Mapping[str, float]

    def of(self, place: int) -> float:
        return self.cached if place in self.in_cache else self.far


def common_path(flow: Flow) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Blocks along which most warps go, and the edges beside it that some take."""
    path = tuple(_walk(flow, 0, 1.0))
    taken = {*itertools.pairwise(path)}
    beside = [
        (source, to)
        for (source, to), times in flow.edges.items()
        if to is not None and source in path and (source, to) not in taken and to not in path and times > NOISE
    ]
    return path, tuple(beside)


def rare_paths(flow: Flow) -> tuple[tuple[int, ...], ...]:
    """Blocks that only some warps run: of each edge beside the common path, to the end."""
    _, beside = common_path(flow)
    return tuple(tuple(_walk(flow, to, flow.edges[source, to])) for source, to in beside)


def _walk(flow: Flow, start: int, scale: float) -> Iterator[int]:
    """Follow at each block the edge that has been taken least often of what it should be, per run of the start."""
    left = {edge: times / scale for edge, times in flow.edges.items()}
    block: int | None = start
    for _ in range(_LONGEST):
        if block is None:
            return
        yield block
        ways = [edge for edge in left if edge[0] == block]
        if not ways:
            return
        # Of equals not the end: a loop is left when it has been gone through.
        best = max(
            ways,
            key=lambda edge: (round(left[edge], 2), edge[1] is not None, edge[1] is not None and edge[1] <= edge[0]),
        )
        left[best] -= 1
        block = best[1]


def walk(
    program: Sequence[Scheduled], flow: Flow, path: Sequence[int], *, cycles_each: float, latency: Latency
) -> Walk:
    """Along a path of blocks.

    Args:
        program: the instructions.
        flow: whose blocks the path names.
        path: numbers of blocks.
        cycles_each: of the scheduler for one instruction of each of its resident warps.
        latency: of loads.
    """
    now = start = issue = exposed = 0.0
    issued = waits = 0
    board = _Scoreboards(latency)
    for number in path:
        for place in flow.blocks[number]:
            one = program[place]
            until, is_far = board.wait(one)
            if until > now:
                now = until
                if is_far:
                    waits += 1
                    now = start + max(now - start, issued * cycles_each)
                    issue += issued * cycles_each
                    exposed += now - start - issued * cycles_each
                    start, issued = now, 0
            board.issue(one, place, now)
            now += one.stall_cycles
            issued += 1
    issue += issued * cycles_each
    exposed += max(0.0, now - start - issued * cycles_each)
    return Walk(issue_cycles=issue, exposed_cycles=exposed, waits=waits)


class _Scoreboards:
    """When what a warp waits for is there, and whether it comes from global memory."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._ready: dict[int, tuple[float, bool]] = {}
        # Groups of copies, `cp.async`, in order, and the one that is open.
        self._groups: list[float] = []
        self._open = 0.0
        # When the products on their way are done; one after the other.
        self._products = 0.0

    def wait(self, one: Scheduled) -> tuple[float, bool]:
        """When an instruction may issue, and whether global memory decides that."""
        found = max((self._ready.pop(board, (0.0, False)) for board in one.waits), default=(0.0, False))
        if one.instruction.mnemonic == "DEPBAR" and self._groups:
            left = int(one.instruction.operands.rpartition(",")[2].strip() or "0", 0)
            behind = max(0, len(self._groups) - left)
            arrived, self._groups = self._groups[:behind], self._groups[behind:]
            found = max(found, (max(arrived, default=0.0), True))
        if one.instruction.opcode.startswith("WARPGROUP.DEPBAR"):
            found = max(found, (self._products, False))
        return found

    def issue(self, one: Scheduled, place: int, now: float) -> None:
        mnemonic = one.instruction.mnemonic
        if mnemonic == "LDGSTS":
            self._open = max(self._open, now + self._latency.of(place))
        elif mnemonic == "LDGDEPBAR":
            self._groups.append(self._open)
        elif one.instruction.opcode in self._latency.products:
            self._products = max(self._products, now) + self._latency.products[one.instruction.opcode]
        elif one.sets is not None:
            is_far = one.is_global_load
            arrives = now + (self._latency.of(place) if is_far else NEAR_CYCLES)
            self._ready[one.sets] = max(self._ready.get(one.sets, (0.0, False)), (arrives, is_far))
