"""`lords-bench bench lifecycle`: train a model by every method, keep the records, write and name the report."""

import os
import time
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lords_bench.cli.bench.common import ModelGridSettings, opened, records_of, say_pages
from lords_bench.cli.models import Dtype, choose_device, load_model
from lords_bench.cli.output import say
from lords_bench.cli.progress import clock
from lords_bench.records import Environment, EvaluationInputs, LifecycleRecord, NounStore, completed, run_key
from lords_bench.records.environment import Device
from lords_bench.records.status import created_now
from lords_bench.suites.lifecycle.cases import PLANS, SUITE, Group, Plan, select
from lords_bench.terminal import Console
from lords_bench.timing.probe import probe_environment

if TYPE_CHECKING:
    from lords_bench.suites.lifecycle.measure import LifecycleMeasurement
    from lords_bench.suites.lifecycle.run import CaseResult


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleSettings(ModelGridSettings):
    """Takes one model through post-training quantization, QAT and fine-tuning by every method, and writes a report.

    The learning rate is searched for each. An interrupted run goes on where it stopped.
    """


def bench_lifecycle(settings: LifecycleSettings) -> int:
    """Runs the plan, and prints the report's path."""
    plan = select(PLANS["full" if settings.full else "quick"], methods=settings.methods, bits=settings.bits)
    if settings.only_list:
        say("\n".join(plan.case_ids))
        return 0
    from lords_bench.suites.lifecycle.run import run_plan

    console = Console(stderr=True)
    device = choose_device(settings.device)
    make = partial(make_measurement, plan, settings.model, device, settings.dtype)
    # The inputs, and with them what is done already, must be known before any process is started.
    measurement = make()
    environment = probe_environment(device)
    path = records_of(settings, environment, SUITE)
    run = _Run(plan, measurement.inputs, environment, settings.command)
    with opened(NounStore(path, LifecycleRecord), console) as store:
        kept = completed(() if settings.fresh else store.records, run.key)
        done = {case_id: record.samples for case_id, record in kept.items() if record.samples is not None}
        left = [case_id for case_id in plan.case_ids if case_id not in done]
        console.print(f"{len(plan.case_ids) - len(left)} of {len(plan.case_ids)} cases are done", highlight=False)
        started = time.monotonic()
        processes = 1 if device == "cuda" else len(os.sched_getaffinity(0))
        for number, result in enumerate(run_plan(plan, make, done=done, processes=processes), start=1):
            store.append(run.record(result))
            remaining = (time.monotonic() - started) / number * (len(left) - number)
            ending = "" if result.reason is None else f": {result.status}: {result.reason}"
            progress = f"[{len(plan.case_ids) - len(left) + number}/{len(plan.case_ids)}] {result.case_id}{ending}"
            console.print(f"{progress}, {clock(remaining)} left", highlight=False)
    say_pages(settings, path)
    return 0


def make_measurement(plan: Plan, source: str | None, device: Device, dtype: Dtype) -> "LifecycleMeasurement":
    """Loads model and text; computes with one thread where it computes on a CPU."""
    import torch

    from lords_bench.suites.lifecycle.measure import LifecycleMeasurement
    from lords_bench.suites.lifecycle.text import lifecycle_text

    if device == "cpu":
        torch.set_num_threads(1)
    model = load_model(source, device=device, dtype=dtype, console=Console(stderr=True))
    return LifecycleMeasurement(model, lifecycle_text(plan.text), plan)


class _Run:
    """What the records of one invocation share."""

    def __init__(self, plan: Plan, inputs: EvaluationInputs, environment: Environment, command: str) -> None:
        self._plan, self._inputs, self._environment, self._command = plan, inputs, environment, command
        self._run_id = uuid.uuid4().hex[:12]
        self.key = run_key(suite=SUITE, inputs=inputs, seed=0, environment=environment)

    def record(self, result: "CaseResult") -> LifecycleRecord:
        group: Group | None = result.group
        return LifecycleRecord(
            run_id=self._run_id,
            suite=SUITE,
            case_id=result.case_id,
            stage="reference" if group is None else group.stage,
            method="unquantized" if group is None else group.method,
            bits=None if group is None else group.bits,
            spec=None if group is None else group.spec,
            learning_rate=result.learning_rate,
            is_search=result.is_search,
            training_seed=result.seed,
            status=result.status,
            reason=result.reason,
            samples=result.samples,
            planned_case_ids=self._plan.case_ids,
            inputs=self._inputs,
            environment=self._environment,
            created_utc=created_now(),
            command=self._command,
        )
