"""A workbench whose numbers are made up: the whole way from cases to pages, tried in seconds on any machine.

Times follow a simple model (bytes over bandwidth or operations over peak, whichever is longer, plus a launch) with
factors per method that are plausible and nothing more. Records made here say so, and so does every page made of them.
"""

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lords_bench.products.routes import preferred
from lords_bench.records.latency import DENSE, SUBJECT, LatencyCase
from lords_bench.records.measurement import Peaks, Regime
from lords_bench.records.status import Status
from lords_bench.suites.latency.run import Built, Timed
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.comparison import Policy
from lords_bench.timing.fake import FakeDevice, FakeNoise, fake_candidate
from lords_bench.timing.protocol import compare

DEVICE_NAME = "Fake GPU (made-up numbers)"
PEAKS = Peaks(copy_gbps=4000.0, read_gbps=4200.0, matmul_tflops=700.0)
_NOISE = FakeNoise(jitter=0.006, drift=0.01, spike_rate=0.01, spike_size=0.5, clock_error=0.001, clock_step_mhz=15.0)

_LAUNCH_NS = 2200.0
_EAGER_NS = 6500.0
# Method: (share of bandwidth, share of the matmul peak, launches of a call, whether W goes through a scratch matrix).
_MODEL: Mapping[str, tuple[float, float, int, bool]] = MappingProxyType(
    {
        SUBJECT: (0.80, 0.62, 1, False),
        DENSE: (0.86, 0.95, 1, False),
        "nf-block": (0.78, 0.50, 1, False),
        "nf-dequantize": (0.80, 0.92, 2, True),
        "int-block": (0.80, 0.52, 1, False),
        "bitsandbytes": (0.66, 0.35, 1, False),
        "bitsandbytes-dequantize": (0.72, 0.92, 2, True),
        "qlora-peft": (0.66, 0.35, 7, False),
        "qlora-fused": (0.74, 0.50, 3, False),
        "qlora-merged": (0.78, 0.50, 1, False),
        "tinygemm": (0.76, 0.05, 1, False),
    }
)
_FUSED_TOKENS = 64


class FakeWorkbench:
    """Makes up the comparison of a case; the same case and seed give the same numbers.

    Args:
        policy: how long to look.
        seed: of the noise.
    """

    def __init__(self, *, policy: Policy, seed: int = 0) -> None:
        self._policy, self._seed = policy, seed

    def prewarm(self, wanted: Sequence[tuple[LatencyCase, str]]) -> None:
        """Nothing: no kernel is launched."""

    def time(self, case: LatencyCase, regime: Regime, methods: tuple[str, ...]) -> Timed:
        """All methods of one case in one regime, in the same rounds."""
        failures = {method: failure for method in methods if (failure := _failure(case, method))}
        ready = [method for method in methods if method not in failures]
        truth = {method: _truth_ns(case, regime, method) for method in ready}
        seed = zlib.crc32(f"{case.case_id} {regime} {self._seed}".encode())
        device = FakeDevice(truth_ns=truth, noise=_NOISE, seed=seed, name=DEVICE_NAME, peaks=PEAKS)
        candidates = [_candidate(case, method) for method in ready]
        comparison = compare(device, candidates, baseline=DENSE, regime=regime, policy=self._policy)
        return Timed(built={method: _built(case, method) for method in ready}, failures=failures, comparison=comparison)


def _failure(case: LatencyCase, method: str) -> tuple[Status, str] | None:
    """One of every way not to be measured."""
    if method == "gemlite":
        return Status.UNSUPPORTED, "gemlite is not installed; pip install gemlite"
    if method in {"nf-block", "int-block"} and case.m > _FUSED_TOKENS:
        return Status.UNSUPPORTED, f"M = {case.m} is above {_FUSED_TOKENS}; use dequantize and a dense matmul"
    if method == "tinygemm" and case.m >= 4096:
        return Status.OUT_OF_MEMORY, "OutOfMemoryError: made up, so that a page has one"
    if method == "tinygemm" and case.m == 1024:
        return Status.INCORRECT, "error is 3.2 times its bound (made up, so that a page has one)"
    return None


def _bits(case: LatencyCase, method: str) -> float:
    if method == DENSE:
        return 16.0
    scales = 32 if method.startswith(("bitsandbytes", "qlora-peft")) else 16
    return case.bits + scales / case.block


def _moved(case: LatencyCase, method: str) -> int:
    weight = case.n * case.k * _bits(case, method) / 8
    return round(weight) + 2 * case.m * (case.n + case.k)


def _truth_ns(case: LatencyCase, regime: Regime, method: str) -> float:
    bandwidth, peak, launches, scratch = _MODEL[SUBJECT if method.startswith(SUBJECT) else method]
    assert PEAKS.read_gbps is not None
    assert PEAKS.matmul_tflops is not None
    memory = _moved(case, method) / (bandwidth * PEAKS.read_gbps) * (0.6 if regime == "hot" else 1.0)
    compute = case.shape.flops / (peak * PEAKS.matmul_tflops * 1e3)
    if scratch or (method == SUBJECT and case.m >= 1024):
        memory += 2 * 2 * case.n * case.k / (0.9 * PEAKS.read_gbps)
        compute *= peak / 0.92
    call = _EAGER_NS * launches if regime == "eager" else 0.0
    return max(call, launches * _LAUNCH_NS + max(memory, compute) + 0.15 * min(memory, compute))


def _candidate(case: LatencyCase, method: str) -> Candidate:
    return fake_candidate(method, bytes_moved=_moved(case, method), flops=case.shape.flops)


def _built(case: LatencyCase, method: str) -> Built:
    kernel, origin = f"made-up {method}", None
    config: tuple[tuple[str, str | int | float | bool | None], ...] = ()
    if method.startswith(SUBJECT):
        kernel = preferred("lords", case.m)[0]
        origin, config = ("exact", (("block_n", 64), ("num_warps", 4))) if case.m < 256 else ("formula", ())
    return Built(
        kernel=kernel,
        bits_per_weight=_bits(case, method),
        config=config,
        config_origin=origin,  # type: ignore[arg-type]
        worst_error=0.25,
        bytes_moved=_moved(case, method),
        flops=case.shape.flops,
    )
