"""Time and peak memory of quantizing one weight.

    python -m lords_bench.suites.studies.ptq_speed N K bits block method

The weight is Gaussian with log-normal row and column sizes and heavy tails, from a fixed seed. Printed last, as one
JSON line: wall and CPU seconds, squared error relative to the weight's, bits per weight, and the peak resident memory
that quantizing added, in multiples of the float32 weight. Memory is read from the process, so run one weight at a time.
"""

import argparse
import json
import resource
import sys
import time

import torch

from lords_bench import QuantSpec, quantize

BYTES_PER_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def heavy_tailed_weight(n: int, k: int, *, seed: int = 0) -> torch.Tensor:
    """Student-t with 8 degrees of freedom, rows and columns of log-normal size (standard deviation 0.25), float32."""
    generator = torch.Generator().manual_seed(seed)
    weight_NK = torch.empty(n, k)
    column_K = torch.exp(0.25 * torch.randn(k, generator=generator))
    # Row by row, so that making the weight leaves no peak of memory behind.
    for weight_K in weight_NK:
        normal_9K = torch.randn(9, k, generator=generator)
        row = 0.02 * torch.exp(0.25 * torch.randn((), generator=generator))
        weight_K.copy_(normal_9K[0] / normal_9K[1:].square().mean(dim=0).sqrt() * column_K * row)
    return weight_NK


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_RSS_UNIT


def cpu_seconds() -> float:
    """User and system time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Quantizes once and prints what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int)
    parser.add_argument("k", type=int)
    parser.add_argument("bits", type=int)
    parser.add_argument("block", type=int)
    parser.add_argument("method")
    parser.add_argument("--levels", help="as in QuantSpec, e.g. learned")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = QuantSpec(method=arguments.method, bits=arguments.bits, block=arguments.block, levels=arguments.levels)
    # Libraries load and threads start here, outside the measurement.
    quantize(heavy_tailed_weight(256, 256), spec)
    weight_NK = heavy_tailed_weight(arguments.n, arguments.k)
    rss_before, cpu_before, wall_before = peak_rss_bytes(), cpu_seconds(), time.perf_counter()
    quantized = quantize(weight_NK, spec)
    wall, cpu, rss = time.perf_counter() - wall_before, cpu_seconds() - cpu_before, peak_rss_bytes() - rss_before
    error = float((quantized.dequantize() - weight_NK).square().sum() / weight_NK.square().sum())
    report = {
        "shape": [arguments.n, arguments.k],
        "method": arguments.method,
        "bits": arguments.bits,
        "block": arguments.block,
        "levels": str(spec.levels),
        "threads": arguments.threads,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "peak_rss_added_per_weight_bytes": round(rss / (4 * weight_NK.numel()), 2),
        "relative_squared_error": float(f"{error:.5g}"),
        "bits_per_weight": round(quantized.bits_per_weight, 4),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
