"""The analytic model: what a configuration costs before it is run. It ranks; no time of it is ever reported as a time.

For a kernel: how many programs, how many fit on the GPU at a time (registers, shared memory, warps), how many waves
that is, what a program does before its loop and in each turn (issue slots and tensor cores, from machine code where
there is some, else from the tile), what device memory and the caches have to move, how many bytes are in flight to hide
its latency, and what summing split-K partials adds. For the CPU workload: calls, decoding, traffic, arithmetic.
"""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.static.bounds import GPU_MODELS, PIPE_RATES, GpuModel, predict
from lords_bench.static.target import named_target, warps_per_sm
from lords_bench.tuning import cpu_product
from lords_bench.tuning.code import Compiled
from lords_bench.tuning.strategies.protocol import Guess

if TYPE_CHECKING:
    from lords_bench.kernels.common.entry import WorkForm

# Round figures of NVIDIA GPUs since 2020, for ranking only.
_MEMORY_LATENCY_NS = 700.0
_CACHE_SPEEDUP = 3.0
_LAUNCH_NS = 2000.0
_ARRIVAL_NS = 700.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a launch has to do.

    Attributes:
        programs: of the grid.
        turns: of the main loop in one program.
        weights_per_turn: weights that a program decodes in a turn.
        tokens: rows of a tensor-core tile, padding included.
        setup_bytes: what a program reads before its loop.
        memory_bytes: through device memory, a scratch matrix written and read included; no lower bound.
        cache_bytes: through the second-level cache, in all programs.
        bits_per_weight: of the stored weight.
        tail_ns: what follows the last program.
        num_warps, num_stages: of a program.
    """

    programs: int
    turns: int
    weights_per_turn: int
    tokens: int
    setup_bytes: int
    memory_bytes: int
    cache_bytes: int
    bits_per_weight: float
    tail_ns: float
    num_warps: int
    num_stages: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """What a program's code costs: cycles of a sub-partition per 32 weights, resources, and its own setup."""

    cycles_per_32_weights: float
    registers: int
    shared_bytes: int
    setup_instructions: int


def guess(kernel: str, settings: Settings, problem: Problem, gpu: GpuModel | None) -> Guess:
    """Before anything is compiled.

    Raises:
        UsageError: a kernel that the model does not know, or no GPU for a kernel of one.
    """
    if kernel == cpu_product.NAME:
        return _cpu_guess(settings, problem)
    if gpu is None:
        raise UsageError(f"the model of {kernel!r} needs a GPU to rank for")
    work = work_of(kernel, settings, problem)
    return predicted(work, _expected_code(kernel, settings, work, problem, gpu), gpu)


def from_machine_code(kernel: str, settings: Settings, problem: Problem, gpu: GpuModel, compiled: Compiled) -> Guess:
    """The same with instructions, registers and shared memory that a compiler gave; `compiled` is ok."""
    work = work_of(kernel, settings, problem)
    assert compiled.loop is not None
    assert compiled.code is not None
    bound = predict(compiled.loop, gpu, bits_per_weight=work.bits_per_weight)
    code = Code(
        cycles_per_32_weights=max(bound.on_chip_cycles().values()),
        registers=compiled.code.registers or 255,
        shared_bytes=compiled.code.shared_bytes or 0,
        setup_instructions=compiled.instructions - len(compiled.loop.instructions),
    )
    return predicted(work, code, gpu)


def predicted(work: Work, code: Code, gpu: GpuModel) -> Guess:
    """Time of a launch by waves of programs, and what it is made of."""
    blocks = max(1, warps_per_sm(code.registers, work.num_warps) // work.num_warps)
    if code.shared_bytes:
        blocks = max(1, min(blocks, (named_target(gpu.arch).max_shared_bytes + 1024) // (code.shared_bytes + 1024)))
    resident = blocks * gpu.sm_count
    waves = ceil(work.programs / resident)
    # In the last wave the programs that are left share the multiprocessors evenly.
    full, rest = divmod(work.programs, resident)
    on_busiest = full * blocks + ceil(rest / gpu.sm_count)
    setup_cycles = code.setup_instructions * work.num_warps / 4
    turn_cycles = work.weights_per_turn / 32 * code.cycles_per_32_weights / 4
    compute_ns = on_busiest * (setup_cycles + work.turns * turn_cycles) / gpu.sm_clock_ghz
    in_flight = min(work.programs, resident) * work.num_stages * work.weights_per_turn * work.bits_per_weight / 8
    reached_gbps = min(gpu.bandwidth_gbps, in_flight / _MEMORY_LATENCY_NS)
    memory_ns = work.memory_bytes / reached_gbps
    cache_ns = work.cache_bytes / (_CACHE_SPEEDUP * gpu.bandwidth_gbps)
    # Reading what a program keeps, then its first tile: nothing hides that in the first wave.
    latency_ns = waves * 2 * _MEMORY_LATENCY_NS
    total = max(compute_ns, memory_ns, cache_ns) + 0.15 * min(compute_ns, memory_ns) + latency_ns + work.tail_ns
    return Guess(
        predicted_ns=total + _LAUNCH_NS,
        features=(compute_ns, memory_ns, cache_ns, float(waves), float(blocks), work.tail_ns),
    )


def work_of(kernel: str, settings: Settings, problem: Problem) -> Work:
    """Grid and traffic of a configuration, as the kernel's `launch` sets them.

    Raises:
        UsageError: a kernel that the model does not know.
    """
    form = _form_of(kernel)
    return _split_k_work(form, settings, problem) if form.grid == "split-k" else _tile_work(form, settings, problem)


def _form_of(kernel: str) -> "WorkForm":
    from lords_bench.products.registry import named_kernel

    tuning = named_kernel(kernel).tuning
    if tuning is None:
        raise UsageError(f"no model of kernel {kernel!r}; it has nothing to tune")
    return tuning.work


def _split_k_work(form: "WorkForm", settings: Settings, problem: Problem) -> Work:
    config = dict(settings)
    m, n, k, rank = problem.m_bucket, problem.n, problem.k, problem.rank or 0
    tokens = m if form.integer else 8 if m <= 8 else 16 if m <= 16 else 32
    block_n, tiles = int(config["block_n"]), int(config["tiles_per_program"])
    chunk = int(config["blocks_k"]) * _k_block(problem.bits)
    splits, groups = ceil(k / chunk), ceil(n / (block_n * tiles))
    token_tiles = m if form.integer else ceil(m / tokens)
    setup_bytes = chunk * rank * 2 + chunk * m * 2
    partial_bytes = splits * m * n * 4
    packed_bytes = n * k * problem.bits // 8
    # The last program of a group sums alone, one row of partials after the other; a second kernel costs its launch.
    last = _ARRIVAL_NS * (1 + splits * tiles * block_n * tokens / (512 * 32 * int(config["num_warps"])))
    return Work(
        programs=splits * groups * token_tiles,
        turns=tiles,
        weights_per_turn=block_n * chunk,
        tokens=tokens,
        setup_bytes=setup_bytes,
        memory_bytes=packed_bytes * token_tiles + _scale_bytes(problem) + m * (n + k) * 2,
        cache_bytes=groups * splits * setup_bytes * token_tiles
        + splits * n * rank * 2 * token_tiles
        + 2 * partial_bytes,
        bits_per_weight=problem.bits + 8 * _scale_bytes(problem) / (n * k),
        tail_ns=last if config["last_sums"] else _LAUNCH_NS + _MEMORY_LATENCY_NS,
        num_warps=int(config["num_warps"]),
        num_stages=int(config["num_stages"]),
    )


def _tile_work(form: "WorkForm", settings: Settings, problem: Problem) -> Work:
    config = dict(settings)
    m, n, k, rank = problem.m_bucket, problem.n, problem.k, problem.rank or 0
    block_n, block_k = int(config["block_n"]), _k_block(problem.bits)
    fused = form.grid == "tiles"
    tokens = int(config["block_m"]) if fused else 16
    token_tiles, row_tiles, chunks = ceil(m / tokens) if fused else 1, ceil(n / block_n), ceil(k / block_k)
    packed_bytes = n * k * problem.bits // 8
    # Dequantizing writes W once, and the product reads it again.
    scratch_bytes = 0 if fused else 2 * n * k * 2
    return Work(
        programs=row_tiles * (token_tiles if fused else chunks),
        turns=chunks if fused else 1,
        weights_per_turn=block_n * block_k,
        tokens=tokens,
        setup_bytes=block_n * rank * 2,
        memory_bytes=packed_bytes + scratch_bytes + _scale_bytes(problem) + m * (n + k) * 2,
        cache_bytes=packed_bytes * token_tiles + row_tiles * (m + rank) * k * 2,
        bits_per_weight=problem.bits + 8 * _scale_bytes(problem) / (n * k),
        tail_ns=0.0,
        num_warps=int(config["num_warps"]),
        num_stages=int(config["num_stages"]),
    )


def _scale_bytes(problem: Problem) -> int:
    """Of the factors of S, or of scales and zero points, in 16 bits."""
    if problem.block is None:
        return 2 * (problem.n + problem.k) * (problem.rank or 0)
    return 2 * problem.n * ceil(problem.k / problem.block) * (1 + problem.zero_points)


def _expected_code(kernel: str, settings: Settings, work: Work, problem: Problem, gpu: GpuModel) -> Code:
    """What a compiler will make of it: tensor cores by counting products, the rest round figures of shipped kernels.

    A product of m16n8k16 serves 128 scales of rank 16, or 256 weights for 8 tokens; one of m16n8k32 serves 512 weights
    for 8 ranks and one of two parts.
    """
    rates = PIPE_RATES[gpu.arch]
    config, ranks = dict(settings), (problem.rank or 0) / 16
    chunk = work.weights_per_turn // int(config["block_n"])
    # Half a register per weight that a thread decodes in a turn, beside 32 for addresses and sums.
    registers = 32 + work.weights_per_turn / (32 * work.num_warps) / 2
    staged = work.weights_per_turn * problem.bits / 8 + work.weights_per_turn / chunk * 32 * ranks
    form = _form_of(kernel)
    if form.integer:
        tensor = rates.imma * 0.25 * ranks * (1 + 32 / chunk)
        setup, kept = max(960, 500 + 8.2 * chunk / work.num_warps), 0
    else:
        tensor = rates.hmma_fp32 * (0.25 * ranks + work.tokens / 64)
        setup, kept = 500, chunk * work.tokens * 2
    return Code(
        cycles_per_32_weights=max(form.issue[4 - problem.bits], tensor),
        registers=min(255, int(registers)),
        shared_bytes=int(work.num_stages * staged + kept),
        setup_instructions=int(setup),
    )


def gpu_model(name: str, capability: tuple[int, int], multiprocessors: int) -> GpuModel:
    """The published model whose name the device's contains, else the nearest by capability with the device's SMs."""
    known = next((gpu for gpu in GPU_MODELS if gpu.name in name), None)
    if known is not None:
        return known
    number = 10 * capability[0] + capability[1]
    near = min(GPU_MODELS, key=lambda gpu: abs(int(gpu.arch.removeprefix("sm_")) - number))
    return GpuModel(
        name=name,
        arch=near.arch,
        bandwidth_gbps=near.bandwidth_gbps,
        sm_count=multiprocessors,
        sm_clock_ghz=near.sm_clock_ghz,
    )


def _k_block(bits: int) -> int:
    return 256 if bits == 3 else 128


# Round figures of a present-day core, for ranking only.
_CACHE_BYTES = 1 << 20
_NS_PER_CALL = 4000.0
_CALLS = 6
_NS_PER_WEIGHT = {"index": 1.5, "take": 1.5, "pairs": 0.8}
_NS_PER_BYTE = 0.1
_OPERATIONS_PER_NS = 40.0


def _cpu_guess(settings: Settings, problem: Problem) -> Guess:
    """Calls, decoding, traffic of the tile where it leaves the cache, arithmetic."""
    config = dict(settings)
    rows, columns = min(int(config["tile_rows"]), problem.n), min(int(config["tile_columns"]), problem.k)
    tiles = -(-problem.n // rows) * -(-problem.k // columns)
    weights = problem.n * problem.k
    tile_bytes = rows * columns * 4 * (2 if config["in_place"] else 3)
    outside = max(0.0, 1 - _CACHE_BYTES / tile_bytes)
    traffic_ns = weights * 4 * (2 if config["in_place"] else 3) * _NS_PER_BYTE * outside
    decode_ns = weights * _NS_PER_WEIGHT[str(config["decode"])]
    rank = problem.rank or 1
    arithmetic_ns = 2 * weights * (problem.m_bucket + rank) / _OPERATIONS_PER_NS
    calls_ns = tiles * _CALLS * _NS_PER_CALL
    return Guess(
        predicted_ns=calls_ns + decode_ns + traffic_ns + arithmetic_ns,
        features=(calls_ns, decode_ns, traffic_ns, float(tile_bytes)),
    )
