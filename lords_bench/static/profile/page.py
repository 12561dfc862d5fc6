"""A profile as tables: what was counted, and the prediction, which says that it is one."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from lords_bench.kernel_registry import named_kernel
from lords_bench.static.bounds import GpuModel
from lords_bench.static.profile.measure import Asked, Product
from lords_bench.static.profile.predict import CACHE_LATENCY_US, ISSUED_PER_CYCLE, LATENCY_US, LAUNCH_US, LaunchProfile
from lords_bench.static.sass import Pipe
from lords_bench.static.tables import TextTable

# Where no flow fits better than that, it is said.
_MISFIT = 0.05
_PIPES = (Pipe.ALU, Pipe.FMA, Pipe.TENSOR, Pipe.SHARED, Pipe.GLOBAL, Pipe.LOCAL, Pipe.CONVERT)
_PREDICTED = ("L2", "shared memory", "tensor", "alu", "fma")


def heading(asked: Asked, product: Product, gpu: GpuModel) -> str:
    """What was profiled, and how."""
    kind = named_kernel(product.choice.kernel).weight
    scale = f"rank {asked.rank}" if kind == "lords" else f"blocks of {asked.block}"
    adapter = f", adapter of rank {asked.rank}" if kind == "qlora" else ""
    what = f"{product.choice.kernel}, {asked.m} × {asked.n} × {asked.k} (M, N, K), {asked.bits} bits, {scale}{adapter}"
    how = f"compiled for {gpu.arch} and executed in an emulator, not run on a GPU"
    return f"{what}, {asked.dtype}: {how}"


def tables(launches: Sequence[LaunchProfile]) -> tuple[TextTable, ...]:
    """Every table of a product's launches."""
    return (
        _launch_table(launches), _pipe_table(launches), _global_table(launches), _shared_table(launches),
        _time_table(launches),
    )  # fmt: skip


def notes(
    product: Product, launches: Sequence[LaunchProfile], measured_us: float | None, *, records: str
) -> Iterator[str]:
    """Sentences below the tables: traffic against the least, samples, what the flow does not fit, the error."""
    moved, least = sum(one.memory_bytes for one in launches), product.cost.bytes_moved
    yield (
        f"device memory: {moved / 1e6:.2f} MB, {moved / least:.2f} times the {least / 1e6:.2f} MB that the product "
        "cannot do without; writes and padding included"
    )
    for one in launches:
        launch = one.profiled.launch
        if launch.executed < one.ctas:
            yield (
                f"{launch.kernel}: {launch.executed} of {one.ctas} CTAs were emulated, whole rows of the grid evenly "
                "spread, each over all of its work; counts are scaled by their number, ragged edges as full tiles"
            )
        if one.flow.misfit > _MISFIT:
            yield (
                f"{launch.kernel}: the flow through its machine code differs from what was executed by "
                f"{one.flow.misfit:.0%} of what can be compared; instructions by pipe are that much in doubt"
            )
    gpu, total = launches[0].gpu, sum(one.total_us for one in launches)
    yield (
        f"predicted on the {gpu.name}, never measured: {LAUNCH_US} µs a launch, {LATENCY_US} µs from a load to its "
        f"data ({CACHE_LATENCY_US} from L2), {ISSUED_PER_CYCLE} instructions per scheduler and cycle, {gpu.sm_count} "
        f"multiprocessors at {launches[0].cycles_per_us / 1000:.2f} GHz, {gpu.bandwidth_gbps / 1000:g} TB/s; "
        "what PyTorch itself launches is not in it"
    )
    if measured_us is None:
        yield f"error of the prediction: not known, because {records} holds no cold measurement of this launch on it"
    else:
        yield (
            f"error of the prediction: measured {measured_us:.2f} µs, {measured_us / total - 1:+.0%} of the predicted "
            f"{total:.2f} µs"
        )


def _launch_table(launches: Sequence[LaunchProfile]) -> TextTable:
    rows = tuple(
        (
            one.profiled.launch.kernel,
            "×".join(map(str, one.profiled.launch.grid)),
            str(one.warps),
            str(one.profiled.resources.registers),
            str(one.profiled.resources.stack_bytes + one.profiled.resources.local_bytes),
            f"{one.profiled.shared_bytes / 1024:.1f}",
            f"{one.residency.blocks} ({one.residency.limit})",
            str(one.residency.blocks * one.warps),
            f"{one.residency.waves:.2f}",
            f"{one.residency.balance:.0%}",
        )
        for one in launches
    )
    columns = (
        "launch", "grid", "warps", "registers", "stack B", "shared KiB", "CTAs per SM", "resident warps", "waves",
        "mean/most CTAs",
    )  # fmt: skip
    return TextTable(title=f"Launches on the {launches[0].gpu.name}", columns=columns, rows=rows)


def _pipe_table(launches: Sequence[LaunchProfile]) -> TextTable:
    def cells(one: LaunchProfile) -> Iterator[str]:
        warps = one.warps * one.ctas
        named = {pipe: one.pipe_instructions.get(pipe, 0) for pipe in _PIPES}
        yield from (f"{count / warps:.0f}" for count in named.values())
        yield f"{(sum(one.pipe_instructions.values()) - sum(named.values())) / warps:.0f}"
        yield f"{one.instructions_per_warp:.0f}"
        yield f"{one.instructions_per_warp * warps / 1e6:.2f}"

    rows = tuple((one.profiled.launch.kernel, *cells(one)) for one in launches)
    columns = ("launch", *_PIPES, "other", "per warp", "launch, millions")
    return TextTable(title="Instructions executed, per warp, by pipe", columns=columns, rows=rows)


def _global_table(launches: Sequence[LaunchProfile]) -> TextTable:
    rows = []
    for one in launches:
        groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for access in one.profiled.launch.counts.global_accesses:
            groups[access.tensor or "none", access.kind].update(
                requests=access.requests, units=access.units, fewest=access.fewest_units, asked=access.bytes_asked
            )
        for (tensor, kind), found in groups.items():
            rows.append((
                one.profiled.launch.kernel, tensor, kind, f"{found['requests'] * one.scale:.0f}",
                f"{found['units'] / found['requests']:.2f}", f"{found['fewest'] / found['requests']:.2f}",
                f"{found['asked'] * one.scale / 1e6:.2f}", f"{32 * found['units'] * one.scale / 1e6:.2f}",
            ))  # fmt: skip
    columns = ("launch", "tensor", "kind", "requests", "sectors/request", "at least", "MB asked", "MB moved")
    return TextTable(title="Global memory, between L2 and the multiprocessors", columns=columns, rows=tuple(rows))


def _shared_table(launches: Sequence[LaunchProfile]) -> TextTable:
    rows = []
    for one in launches:
        groups: dict[str, Counter[str]] = defaultdict(Counter)
        for access in one.profiled.launch.counts.shared_accesses:
            groups[access.kind].update(requests=access.requests, units=access.units, fewest=access.fewest_units)
        for kind, found in groups.items():
            rows.append((
                one.profiled.launch.kernel, kind, f"{found['requests'] * one.scale:.0f}",
                f"{found['units'] / found['requests']:.2f}", f"{found['fewest'] / found['requests']:.2f}",
                f"{found['units'] / found['fewest'] - 1:.0%}",
            ))  # fmt: skip
    columns = ("launch", "kind", "requests", "passes/request", "at least", "bank conflicts")
    return TextTable(title="Shared memory", columns=columns, rows=tuple(rows))


def _time_table(launches: Sequence[LaunchProfile]) -> TextTable:
    def row(name: str, one: LaunchProfile) -> tuple[str, ...]:
        parts = one.resource_us
        each = (LAUNCH_US, one.issue_us, one.exposed_us, one.memory_us, *(parts[part] for part in _PREDICTED))
        return name, *(f"{value:.2f}" for value in each), one.bound_by, f"{one.tail_us:.2f}", f"{one.total_us:.2f}"

    rows = [row(one.profiled.launch.kernel, one) for one in launches]
    if len(launches) > 1:
        total = sum(one.total_us for one in launches)
        rows.append(("all launches", *[""] * (len(rows[0]) - 2), f"{total:.2f}"))
    columns = ("launch", "gap", "issue", "exposed", "memory", *_PREDICTED, "bound by", "tail", "total")
    title = f"Predicted on the {launches[0].gpu.name}, never measured, µs"
    return TextTable(title=title, columns=columns, rows=tuple(rows))
