"""`CostRecord`: what a job on a whole model cost: the time and memory of quantizing a layer, or of a training step."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from lords_bench.errors import RecordError
from lords_bench.records.bench import Setting, digest
from lords_bench.records.environment import Environment
from lords_bench.records.measurement import Measurement
from lords_bench.records.status import Status, require_created, require_outcome

# ptq: quantizing one weight. step: one optimiser step of fine-tuning.
CostSuite = Literal["ptq", "step"]
COST_SUITES: tuple[CostSuite, ...] = get_args(CostSuite)


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRun:
    """What all records of one invocation share.

    Attributes:
        run_id: names the invocation.
        model: whose shapes these are, such as `llama-3-8b`.
        scale: what every width was divided by; 1 = the model's own.
        settings: of the whole run (bits, block, tokens, generator of the weights, …), sorted by name.
        planned: cases that the run set out to do, so that missing ones are noticed.
        environment: machine, versions and source.
        command: the command line.
        seed: of weights and inputs.
    """

    run_id: str
    model: str
    scale: int
    settings: tuple[tuple[str, Setting], ...]
    planned: int
    environment: Environment
    command: str
    seed: int

    def __post_init__(self) -> None:
        names = [name for name, _ in self.settings]
        if names != sorted(set(names)):
            raise RecordError(f"cost run: settings {names} must be sorted by name, each once")
        if self.scale < 1 or self.planned < 1:
            raise RecordError(f"cost run: scale is {self.scale} and planned {self.planned}; both are at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecord:
    """One case: a layer that was quantized, or a method whose step was timed.

    Attributes:
        run: what it shares with the other records of its invocation.
        suite: what was done.
        case: unique within a run: the layer's name, or the method's.
        method: name of the method.
        shape: (N, K) of the layer; None for a whole model.
        status: how it ended.
        reason: why not well, one line; None exactly when the status is ok.
        seconds: wall clock of the job, device idle before and after; None unless the status is ok.
        measurement: samples of a step by the measuring protocol, paired round by round within a run; None for ptq.
        noise_floor: of the protocol's comparison; None for ptq.
        held_bytes: device memory that the weight or model, with its optimiser, holds when idle; None = not told.
        peak_bytes: most device memory held at one time above what was held before; None = not told.
        facts: results by name (error, bits per weight, loss, …), sorted by name.
        created_utc: when it ended, as `2026-01-31T12:00:00Z`.

    Raises:
        RecordError: fields that contradict each other.
    """

    run: CostRun
    suite: CostSuite
    case: str
    method: str
    shape: tuple[int, int] | None = None
    status: Status
    reason: str | None = None
    seconds: float | None = None
    measurement: Measurement | None = None
    noise_floor: float | None = None
    held_bytes: int | None = None
    peak_bytes: int | None = None
    facts: tuple[tuple[str, Setting], ...] = ()
    created_utc: str

    def __post_init__(self) -> None:
        where = f"{self.suite} {self.case!r}"
        if self.suite not in COST_SUITES:
            raise RecordError(f"cost suite is {self.suite!r}; it must be one of {', '.join(COST_SUITES)}")
        require_outcome(where, self.status, self.reason, ("a time belongs", self.seconds))
        if self.seconds is not None and not (isfinite(self.seconds) and self.seconds > 0):
            raise RecordError(f"{where}: took {self.seconds} s; a time is positive and finite")
        names = [name for name, _ in self.facts]
        if names != sorted(set(names)):
            raise RecordError(f"{where}: facts {names} must be sorted by name, each once")
        require_created(self.created_utc)

    @property
    def run_key(self) -> str:
        """What must be equal for two records to belong to one table."""
        return cost_key(self.suite, self.run)


def cost_key(suite: CostSuite, run: CostRun) -> str:
    """Under which a killed run finds what it has done: suite, model, settings, seed, source, versions, device."""
    environment = run.environment
    versions = [environment.python, environment.torch, environment.triton]
    device = [environment.device, environment.device_name]
    settings = [list(pair) for pair in run.settings]
    return digest([suite, run.model, run.scale, settings, run.seed, environment.source_sha256, *versions, *device])


def completed_cases(records: Iterable[CostRecord], run_key: str) -> frozenset[str]:
    """Cases of that run that ended well."""
    return frozenset(record.case for record in records if record.run_key == run_key and record.status is Status.OK)
