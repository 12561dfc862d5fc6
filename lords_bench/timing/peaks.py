"""What a CUDA device reaches at a copy, at reading, and at a large product: the ceilings of every other number."""

from collections.abc import Callable

from lords_bench.records.measurement import Peaks

# Large against any L2 cache, small against any memory that a model fits in.
COPY_BYTES = 2**30
MATMUL_SIZE = 8192
REPEATS = 20
DELAY_CYCLES = 4_000_000
WARM_UP_LAUNCHES = 3


def measure_peaks(index: int) -> Peaks:
    """Best of `REPEATS` of each, on device `index`; what does not fit in its memory is None."""
    import torch

    with torch.cuda.device(index):
        return Peaks(
            copy_gbps=_unless_out_of_memory(_copy_gbps),
            read_gbps=_unless_out_of_memory(_read_gbps),
            matmul_tflops=_unless_out_of_memory(_matmul_tflops),
        )


def _copy_gbps() -> float:
    import torch

    source = torch.ones(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _best_ns(lambda: target.copy_(source))


def _read_gbps() -> float:
    import torch

    from lords_bench.kernels.device_probe import launch

    source = torch.ones(COPY_BYTES // 4, device="cuda")
    multiprocessors = torch.cuda.get_device_properties(source.device).multi_processor_count
    sums = torch.empty(launch.read_programs(multiprocessors), device="cuda")
    read = launch.read_all(source, sums)
    return read / _best_ns(lambda: launch.read_all(source, sums))


def _matmul_tflops() -> float:
    import torch

    # Random numbers: a product of zeros draws less power and runs at a higher clock.
    first, second = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(first)
    return 2 * MATMUL_SIZE**3 / _best_ns(lambda: torch.mm(first, second, out=out)) / 1e3


def _best_ns(work: Callable[[], object]) -> float:
    """Least time between two events around the work, its submission hidden behind a delay."""
    import torch

    for _ in range(WARM_UP_LAUNCHES):
        work()
    pairs = []
    torch.cuda._sleep(DELAY_CYCLES)  # noqa: SLF001  (torch has no public delay)
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        pairs.append((start, end))
    torch.cuda.current_stream().synchronize()
    return min(float(start.elapsed_time(end)) for start, end in pairs) * 1e6


def _unless_out_of_memory(measure: Callable[[], float]) -> float | None:
    import torch

    try:
        return measure()
    except torch.OutOfMemoryError:
        return None
