"""Counts and machine code of a launch to the parts of a predicted time. Predicted, never measured.

    time of a launch = launch gap + max(issue + exposed latency, memory + one latency, L2, shared memory, pipes) + tail

Issue and exposed latency are those of the multiprocessor with the most CTAs, one round of resident CTAs after the
other (`timeline.py`). The tail is what only some CTAs do after the others, such as the last one of a split-K group that
sums. The launches of a product follow each other, each with its gap.

The constants are round figures for data-centre GPUs, argued for and not fitted; docs/profile.md says what they stand
for. What is left out: caches but for first reads of what the product itself wrote, contention, and clocks that move.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from lords_bench.errors import UsageError
from lords_bench.static.bounds import GPU_MODELS, GpuModel, PredictedBound, predict
from lords_bench.static.fingerprint import resident_warps
from lords_bench.static.profile.flow import Flow, flow_of, ptx_kind, sass_kind
from lords_bench.static.profile.machine import Scheduled, scheduled
from lords_bench.static.profile.measure import Product, Profiled
from lords_bench.static.profile.timeline import Latency, Walk, common_path, rare_paths, walk
from lords_bench.static.sass import Instruction, LoopCounts, Pipe
from lords_bench.static.target import named_target

LAUNCH_US = 1.2
# From a load to its result, from device memory and from the second-level cache, both under load.
LATENCY_US = 0.8
CACHE_LATENCY_US = 0.3
# Of the one instruction that a scheduler may issue in a cycle.
ISSUED_PER_CYCLE = 0.65
# Clock under load as a share of the boost clock: an H200 keeps about 1.83 of 1.98 GHz.
SUSTAINED_CLOCK = 1.83 / 1.98
_PARTITIONS = 4
# CUDA C++ Programming Guide, technical specifications: resident blocks per multiprocessor.
_MOST_BLOCKS = {"sm_80": 32, "sm_86": 16, "sm_89": 24, "sm_90": 32, "sm_100": 32, "sm_120": 24}
# L2 to one multiprocessor, per cycle (NVIDIA A100 architecture paper: 5120 bytes per cycle for the whole chip).
_CACHE_BYTES_PER_CYCLE = 64
_SECTOR_BYTES = 32
# The GPU that stands for an architecture where none is named.
_USUAL = {"sm_80": "A100", "sm_89": "RTX 4090", "sm_90": "H200", "sm_120": "RTX 5090"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Residency:
    """CTAs of a launch on a GPU.

    Attributes:
        ctas: of the grid.
        blocks: that a multiprocessor holds at a time.
        sm_count: multiprocessors.
        limit: what keeps it from holding more.
    """

    ctas: int
    blocks: int
    sm_count: int
    limit: str

    @property
    def waves(self) -> float:
        """The grid in units of what the GPU holds at a time."""
        return self.ctas / (self.blocks * self.sm_count)

    @property
    def rounds(self) -> tuple[int, ...]:
        """CTAs at a time on the multiprocessor with the most, in order: the last wave is shared out evenly."""
        full, rest = divmod(self.ctas, self.blocks * self.sm_count)
        return (*(self.blocks for _ in range(full)), *((ceil(rest / self.sm_count),) if rest else ()))

    @property
    def busiest(self) -> int:
        """CTAs on the multiprocessor with the most."""
        return sum(self.rounds)

    @property
    def balance(self) -> float:
        """Mean over most CTAs of a multiprocessor: 1 is an even share."""
        return self.ctas / (self.sm_count * self.busiest)


@dataclass(frozen=True)
class LaunchProfile:
    """One launch on one GPU; what is counted, and what that would take."""

    profiled: Profiled
    gpu: GpuModel
    made_before: frozenset[str]

    @cached_property
    def program(self) -> tuple[Scheduled, ...]:
        """Its machine code."""
        return scheduled(self.profiled.assembly)

    @cached_property
    def flow(self) -> Flow:
        """How often each block of it runs."""
        launch = self.profiled.launch
        warps = launch.executed * self.warps
        return flow_of(self.program, {opcode: times / warps for opcode, times in launch.counts.opcodes.items()})

    @property
    def warps(self) -> int:
        return self.profiled.launch.threads // 32

    @property
    def ctas(self) -> int:
        x, y, z = self.profiled.launch.grid
        return x * y * z

    @property
    def scale(self) -> float:
        """CTAs of the grid per emulated one."""
        return self.ctas / self.profiled.launch.executed

    @property
    def cycles_per_us(self) -> float:
        """Of the clock under load."""
        return 1000 * self.gpu.sm_clock_ghz * SUSTAINED_CLOCK

    @cached_property
    def pipe_instructions(self) -> Mapping[Pipe, float]:
        """Warp instructions of the launch by pipe, executed."""
        found: Counter[Pipe] = Counter()
        for block, times in zip(self.flow.blocks, self.flow.times, strict=True):
            for place in block:
                found[self.program[place].instruction.pipe] += times  # type: ignore[assignment]
        return {pipe: count * self.warps * self.ctas for pipe, count in found.most_common() if count > 0}

    @property
    def instructions_per_warp(self) -> float:
        """Executed, on average."""
        return sum(self.pipe_instructions.values()) / (self.warps * self.ctas)

    @cached_property
    def residency(self) -> Residency:
        """How its CTAs fill the GPU."""
        target, profiled = named_target(self.gpu.arch), self.profiled
        registers, shared = profiled.resources.registers, profiled.shared_bytes

        def holds(*, registers: int, shared_bytes: int) -> int:
            return (
                resident_warps(target, registers=registers, shared_bytes=shared_bytes, warps=self.warps) // self.warps
            )

        most = min(_MOST_BLOCKS[self.gpu.arch], holds(registers=1, shared_bytes=0))
        by = {
            "block slots": most,
            "registers": holds(registers=registers, shared_bytes=0),
            "shared memory": holds(registers=1, shared_bytes=shared),
        }
        limit = min(by, key=lambda name: by[name])
        if by[limit] < 1:
            raise UsageError(f"{profiled.launch.kernel} does not fit {self.gpu.name}: {limit}")
        return Residency(ctas=self.ctas, blocks=by[limit], sm_count=self.gpu.sm_count, limit=limit)

    @cached_property
    def memory_bytes(self) -> float:
        """Through device memory: first reads of what the product did not itself write, and writes."""
        counts = self.profiled.launch.counts
        read = sum(
            min(tensor.size_bytes, self.scale * tensor.read_bytes)
            for tensor in counts.tensors
            if not tensor.written_bytes and tensor.name not in self.made_before
        )
        return read + sum(min(tensor.size_bytes, self.scale * tensor.written_bytes) for tensor in counts.tensors)

    @property
    def cache_bytes(self) -> float:
        """Sectors between L2 and the multiprocessors, moved again or not."""
        counts = self.profiled.launch.counts
        return self.scale * _SECTOR_BYTES * sum(access.units for access in counts.global_accesses)

    @cached_property
    def resource_us(self) -> Mapping[str, float]:
        """Each part of the chip alone, on the busiest multiprocessor, microseconds; issue and latency apart."""
        per_cta: dict[str, float] = {"alu": 0.0, "fma": 0.0, "tensor": 0.0, "convert": 0.0}
        for block, times in zip(self.flow.blocks, self.flow.times, strict=True):
            cycles = self._pipes(tuple(self.program[place].instruction for place in block))
            for name, value in cycles.on_chip_cycles().items():
                if name in per_cta:
                    per_cta[name] += times * value * self.warps / _PARTITIONS
        counts, executed = self.profiled.launch.counts, self.profiled.launch.executed
        per_cta["shared memory"] = sum(access.units for access in counts.shared_accesses) / executed
        per_cta["L2"] = self.cache_bytes / self.ctas / _CACHE_BYTES_PER_CYCLE
        return {name: cycles * self.residency.busiest / self.cycles_per_us for name, cycles in per_cta.items()}

    @cached_property
    def walks(self) -> tuple[Walk, ...]:
        """One per round of the busiest multiprocessor."""
        path, _ = common_path(self.flow)
        return tuple(self._walk(path, ctas, is_first=not place) for place, ctas in enumerate(self.residency.rounds))

    @cached_property
    def tail(self) -> Walk | None:
        """What only some CTAs do, the longest of it, by one CTA alone; None where all do the same."""
        walks = [self._walk(path, 1, is_first=False) for path in rare_paths(self.flow)]
        return max(walks, key=lambda one: one.cycles, default=None)

    def _walk(self, path: Sequence[int], ctas: int, *, is_first: bool) -> Walk:
        each = max(1.0, ctas * self.warps / _PARTITIONS) / ISSUED_PER_CYCLE
        latency = Latency(
            far=LATENCY_US * self.cycles_per_us,
            cached=CACHE_LATENCY_US * self.cycles_per_us,
            in_cache=self._loads_of(self._made_here if is_first else self._made_here | self._shared),
            products=self._products,
        )
        return walk(self.program, self.flow, path, cycles_each=each, latency=latency)

    @cached_property
    def _products(self) -> Mapping[str, float]:
        """Cycles of every asynchronous product, by opcode."""
        return {
            one.instruction.opcode: self._pipes((one.instruction,)).tensor_cycles
            for one in self.program
            if one.instruction.mnemonic in ("HGMMA", "IGMMA", "QGMMA")
        }

    def _pipes(self, instructions: tuple[Instruction, ...]) -> PredictedBound:
        """Cycles of each pipe of a sub-partition, per warp."""
        return predict(LoopCounts(instructions=instructions, units=1), self.gpu, bits_per_weight=1)

    @cached_property
    def _made_here(self) -> frozenset[str]:
        """Tensors that the product itself has written."""
        return self.made_before | {t.name for t in self.profiled.launch.counts.tensors if t.written_bytes}

    @cached_property
    def _shared(self) -> frozenset[str]:
        """Tensors whose sectors are read at least twice, and so by later CTAs from the second-level cache."""
        counts = self.profiled.launch.counts
        moved: Counter[str | None] = Counter()
        for access in counts.global_accesses:
            moved[access.tensor] += access.units * _SECTOR_BYTES
        return frozenset(
            t.name
            for t in counts.tensors
            if self.scale * moved[t.name] >= 2 * min(t.size_bytes, self.scale * t.read_bytes)
        )

    def _loads_of(self, tensors: frozenset[str]) -> frozenset[int]:
        """Places of the loads of some tensors: loads of one width are as many in PTX and in SASS, in one order."""
        accesses: dict[str | None, list[str | None]] = defaultdict(list)
        for access in self.profiled.launch.counts.global_accesses:
            accesses[ptx_kind(access.instruction.opcode)].append(access.tensor)
        places: dict[str | None, list[int]] = defaultdict(list)
        for place, one in enumerate(self.program):
            if one.is_global_load:
                places[sass_kind(one.instruction)].append(place)
        found = set()
        for kind, here in places.items():
            if len(here) == len(accesses[kind]):
                found |= {place for place, tensor in zip(here, accesses[kind], strict=True) if tensor in tensors}
            elif set(accesses[kind]) <= tensors:
                found |= set(here)
        return frozenset(found)

    @property
    def issue_us(self) -> float:
        """Issue slots of the busiest multiprocessor."""
        return sum(one.issue_cycles for one in self.walks) / self.cycles_per_us

    @property
    def exposed_us(self) -> float:
        """Waiting that no other warp hides."""
        return sum(one.exposed_cycles for one in self.walks) / self.cycles_per_us

    @property
    def memory_us(self) -> float:
        """Device memory alone."""
        return self.memory_bytes / self.gpu.bandwidth_gbps / 1000

    @property
    def tail_us(self) -> float:
        """After the other CTAs."""
        return 0.0 if self.tail is None else self.tail.cycles / self.cycles_per_us

    @property
    def parts_us(self) -> Mapping[str, float]:
        """What bounds the launch between its gap and its tail, each alone."""
        return {
            "issue and exposed latency": self.issue_us + self.exposed_us,
            "memory": self.memory_us + LATENCY_US,
            **self.resource_us,
        }

    @property
    def bound_by(self) -> str:
        """The longest of the parts."""
        parts = self.parts_us
        return max(parts, key=lambda name: parts[name])

    @property
    def total_us(self) -> float:
        """The launch, its gap included."""
        return LAUNCH_US + max(self.parts_us.values()) + self.tail_us


def launch_profiles(product: Product, gpu: GpuModel) -> tuple[LaunchProfile, ...]:
    """The launches of a product on a GPU; what an earlier one wrote, a later one finds in the second-level cache."""
    found: list[LaunchProfile] = []
    made: set[str] = set()
    for profiled in product.launches:
        found.append(LaunchProfile(profiled, gpu, frozenset(made)))
        made |= {tensor.name for tensor in profiled.launch.counts.tensors if tensor.written_bytes}
    return tuple(found)


def named_gpu(name: str | None, arch: str) -> GpuModel:
    """The published model of that name, or the usual one of an architecture.

    Raises:
        UsageError: an unknown name, or a GPU of another architecture.
    """
    wanted = (name or _USUAL.get(arch, "")).casefold()
    found = next((gpu for gpu in GPU_MODELS if gpu.name.casefold() == wanted), None)
    of_arch = ", ".join(gpu.name for gpu in GPU_MODELS if gpu.arch == arch) or "none"
    if found is None:
        raise UsageError(f"unknown GPU {name!r}; known of {arch}: {of_arch}")
    if found.arch != arch:
        raise UsageError(f"{found.name} is {found.arch}, the emulated device {arch}; known of {arch}: {of_arch}")
    return found
