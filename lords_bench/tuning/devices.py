"""A `Bench` for each kind of device. The fake one invents times, the other two measure."""

import zlib
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.records.measurement import Regime
from lords_bench.records.trial import Settings, choice_of
from lords_bench.records.tuned import ROUTE, Problem
from lords_bench.static.bounds import GPU_MODELS
from lords_bench.tuning import cpu_product, fake, model
from lords_bench.tuning.bench import Bench

if TYPE_CHECKING:
    from lords_bench.timing.candidate import Candidate
    from lords_bench.timing.device import Device


def open_bench(device: str, kernel: str, problem: Problem, regime: Regime) -> Bench:
    """What checks and times configurations of a kernel, or for `ROUTE` of several kernels, for a problem.

    Raises:
        UsageError: a device that is unknown or not there, or a kernel that it cannot run.
    """
    if device not in _BENCHES:
        raise UsageError(f"unknown device {device!r}; known: {', '.join(_BENCHES)}")
    return _BENCHES[device](kernel, problem, regime)


def _fake_bench(kernel: str, problem: Problem, regime: Regime) -> Bench:
    from lords_bench.timing.fake import FakeDevice, fake_candidate

    def device(named: dict[str, Settings]) -> "Device":
        truth = {name: fake_truth_ns(kernel, settings, problem) for name, settings in named.items()}
        # One seed per question: an interrupted run gets the answers that it would have got.
        return FakeDevice(truth_ns=truth, seed=zlib.crc32(repr(sorted(named.items())).encode()))

    def make(settings: Settings, name: str) -> "Candidate":
        fault = fake.fault_of(settings) if kernel == fake.FAULTY else None
        return fake_candidate(name, check=fault or (lambda: None))

    return Bench(device, make, regime)


def fake_truth_ns(kernel: str, settings: Settings, problem: Problem) -> float:
    """Invented time: of the made-up kernel, or of a real one by the analytic model with up to 30 % of ruggedness."""
    if kernel == ROUTE:
        choice = choice_of(settings)
        return fake_truth_ns(choice.kernel, choice.settings, problem)
    if kernel in fake.FAKE_KERNELS:
        return fake.truth_ns(settings, problem)
    guess = model.guess(kernel, settings, problem, GPU_MODELS[0])
    return guess.predicted_ns * (1 + 0.3 * (zlib.crc32(repr((kernel, settings)).encode()) % 1000) / 1000)


def _cpu_bench(kernel: str, problem: Problem, regime: Regime) -> Bench:
    import torch

    from lords_bench.timing.cpu import CpuDevice

    if kernel != cpu_product.NAME:
        raise UsageError(f"kernel {kernel!r} does not run on a CPU; {cpu_product.NAME!r} does")
    torch.set_num_threads(1)
    timer = CpuDevice()
    return Bench(lambda _named: timer, cpu_product.candidate_maker(problem), regime)


def _cuda_bench(kernel: str, problem: Problem, regime: Regime) -> Bench:
    import torch

    from lords_bench.timing.cuda import CudaDevice
    from lords_bench.tuning.kernel_candidates import candidate_maker

    timer = CudaDevice()

    @cache
    def maker(of: str) -> "Callable[[Settings, str], Candidate]":
        return candidate_maker(of, problem, cache_bytes=timer.cache_bytes, regime=regime, device=torch.device("cuda"))

    make = between_kernels(maker) if kernel == ROUTE else maker(kernel)
    return Bench(lambda _named: timer, make, regime)


def between_kernels(
    maker: "Callable[[str], Callable[[Settings, str], Candidate]]",
) -> "Callable[[Settings, str], Candidate]":
    """Makes candidates of several kernels, out of what makes those of each."""

    def make(settings: Settings, name: str) -> "Candidate":
        choice = choice_of(settings)
        return maker(choice.kernel)(choice.settings, name)

    return make


_BENCHES: Mapping[str, Callable[[str, Problem, Regime], Bench]] = MappingProxyType(
    {"fake": _fake_bench, "cpu": _cpu_bench, "cuda": _cuda_bench}
)
