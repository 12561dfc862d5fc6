"""`lords-bench bench latency`: time LoRDS and its baselines on layers of models, keep the records, write the report."""

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from lords_bench.cli.bench.common import GridSettings, opened, pages_of, records_of
from lords_bench.cli.models import choose_device
from lords_bench.cli.output import say
from lords_bench.cli.progress import ProgressBar
from lords_bench.cli.report import print_latency
from lords_bench.errors import UsageError
from lords_bench.options import COUNTS, MINUTES, names, option
from lords_bench.records.latency import Policy
from lords_bench.records.measurement import Regime
from lords_bench.records.store import NounStore
from lords_bench.terminal import Console

if TYPE_CHECKING:
    from lords_bench.suites.latency.cases import LatencySuite
    from lords_bench.timing.device import Device

LATENCY = "latency"


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencySettings(GridSettings):
    """Times LoRDS and every baseline that is installed on layers of models, and writes a report.

    Complete cases are kept: an interrupted run goes on where it stopped.
    """

    fake: bool = option("made-up numbers of a fake GPU, to try the software", default=False)
    models: tuple[str, ...] | None = option("layers of these models only", names, default=None)
    m: tuple[int, ...] | None = option("these numbers of tokens only", COUNTS, default=None)
    regimes: tuple[str, ...] | None = option("of cold, hot, eager (default: all; CPU: eager)", names, default=None)
    kernels: tuple[str, ...] = option("LoRDS kernels by themselves too", names, default=())
    blocks: tuple[int, ...] | None = option("these block sizes only", COUNTS, default=None)
    policy: Policy | None = option("how precisely (default: full with --full)", default=None)
    minutes: float | None = option("begin nothing more after so long", MINUTES, default=None)

    @property
    def policy_name(self) -> Policy:
        """The sampling rules, resolved."""
        return self.policy or ("full" if self.full else "quick")


def bench_latency(settings: LatencySettings) -> int:
    """Runs the suite and prints the verdict and the report's path."""
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.suites.latency.prepare import prepare
    from lords_bench.suites.latency.run import comparison_name, run_latency

    regimes = _regimes(settings.regimes)
    if settings.kernels:
        from lords_bench.products.registry import named_kernel

        for kernel in settings.kernels:
            named_kernel(kernel)
    if settings.only_list:
        suite = _suite(settings, on_gpu=settings.fake or settings.device == "cuda")
        say("\n".join(case.case_id for case in suite.cases))
        return 0
    # A library that looks for code on the hub while a benchmark runs would be timed with the network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    console = Console(stderr=True)
    kind = None if settings.fake else choose_device(settings.device)
    suite = _suite(settings, on_gpu=kind != "cpu")
    with console.status("measuring what the device can reach"):
        ready = prepare(suite, kind, command=settings.command, policy_name=settings.policy_name, regimes=regimes)
        facts = () if ready.device is None else _facts(ready.device)
    run = dataclasses.replace(ready.run, facts=facts)
    path = records_of(settings, run.environment, LATENCY)
    planned = [comparison_name(case, regime) for case in suite.cases for regime in ready.regimes]
    with (
        opened(NounStore(path, LatencyRecord), console) as store,
        ProgressBar(dict.fromkeys(planned, 1.0), console=console) as watcher,
    ):
        left_out = run_latency(
            suite,
            run,
            workbench=ready.workbench,
            regimes=ready.regimes,
            store=store,
            watcher=watcher,
            kernels=settings.kernels,
            seconds=None if settings.minutes is None else 60 * settings.minutes,
            resume=not settings.fresh,
        )
    if left_out:
        console.print(
            f"{left_out} of {run.planned_comparisons} comparisons were not reached; the same command goes on with them",
            style="yellow",
        )
    if settings.no_page:
        say(f"Records: {path}")
        return 0
    try:
        print_latency(path, pages_of(settings, path))
    except ModuleNotFoundError as error:
        # A machine that only measures may lack what draws pages; the records are what the run was for.
        say(f"Records: {path}; no page is made here, {error.name} is not installed: run 'lords-bench report' elsewhere")
    return 0


def _suite(settings: LatencySettings, *, on_gpu: bool) -> "LatencySuite":
    from lords_bench.suites.latency.cases import LATENCY_CPU, LATENCY_FULL, LATENCY_QUICK, select_cases

    suite = (LATENCY_FULL if settings.full else LATENCY_QUICK) if on_gpu else LATENCY_CPU
    return select_cases(suite, models=settings.models, bits=settings.bits, m=settings.m, blocks=settings.blocks)


def _facts(device: "Device") -> tuple[tuple[str, str], ...]:
    """What the machine says about itself and what that means for trust, sorted by topic."""
    from lords_bench.timing.trust import cpu_findings, gpu_findings

    findings = {f"host: {finding.topic}": finding for finding in cpu_findings()}
    if device.timer == "cuda-events":
        from lords_bench.timing.cuda import CudaDevice

        assert isinstance(device, CudaDevice)
        missing = device.notes[0] if device.notes else None
        findings |= {f"GPU: {finding.topic}": finding for finding in gpu_findings(device.nvml, missing=missing)}
    return tuple(
        (topic, f"{finding.found} ({finding.concern})" if finding.concern else finding.found)
        for topic, finding in sorted(findings.items())
    )


def _regimes(asked: tuple[str, ...] | None) -> tuple[Regime, ...] | None:
    unknown = [name for name in asked or () if name not in get_args(Regime)]
    if unknown:
        raise UsageError(f"unknown regime {unknown[0]!r}; known: {', '.join(get_args(Regime))}")
    return None if asked is None else tuple(regime for regime in get_args(Regime) if regime in asked)
