"""`Trial` and `RunOff`: what tuning wrote down, one line each. The winner is derived from them, never stored instead.

A `Trial` is one configuration of one problem: how it ended, and its samples if it ended well. A `RunOff` is one
interleaved comparison of several configurations, its samples aligned round by round: the near-ties of a search
(`final`), the winner against the formula's default on fresh samples (`confirm`), or the winners of several kernels
against the formula's kernel (`route`). `TuningRecord` holds the rows of
one problem; `tuning.winner` draws the conclusion. Times that were not measured say so in `evidence`, and no table takes
them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from lords_bench.errors import RecordError
from lords_bench.records.measurement import Measurement
from lords_bench.records.status import Status, require_outcome
from lords_bench.records.tuned import Choice, Setting, TunedKey

Evidence = Literal["measured", "fake", "predicted"]
Stage = Literal["final", "confirm", "route"]
# The fields of a configuration in the order of its dataclass.
Settings = tuple[Setting, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineCode:
    """What a compiler made of a configuration; None where it does not tell.

    Attributes:
        sha256: of the normalised machine code: equal code with equal launch arguments is timed once.
        registers: per thread.
        spill_bytes: local memory per thread.
        shared_bytes: of one block.
        atomics: whether results are added up in no fixed order, so that reruns may differ in the last bits.
    """

    sha256: str | None = None
    registers: int | None = None
    spill_bytes: int | None = None
    shared_bytes: int | None = None
    atomics: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One configuration that is finished with, whatever came out.

    Attributes:
        key: kernel, problem and machine.
        evidence: `measured` on that machine, `fake` from a fake device, or `predicted` from machine code.
        config: the configuration's fields.
        status, reason: how it ended; a reason stands with every status but ok.
        measurement: its samples; present exactly when the status is ok.
        code: what the compiler made of it; None where nothing was compiled.
        same_code_as: the configuration whose machine code and launch are the same and whose samples these are.
        stopped_early: whether timing was given up after one sample that was far behind the best so far.
        compile_ns: wall-clock time of compiling; None where nothing was.
        run_id: names the invocation.
        strategy: which search asked for it.
        created_utc: a label, as `2026-01-31T12:00:00Z`; never used to order or to measure.

    Raises:
        RecordError: fields that contradict each other.
    """

    key: TunedKey
    evidence: Evidence
    config: Settings
    status: Status
    reason: str | None = None
    measurement: Measurement | None = None
    code: MachineCode | None = None
    same_code_as: Settings | None = None
    stopped_early: bool = False
    compile_ns: int | None = None
    run_id: str
    strategy: str
    created_utc: str

    def __post_init__(self) -> None:
        if self.evidence not in get_args(Evidence):
            raise RecordError(f"trial: evidence is {self.evidence!r}; known: {', '.join(get_args(Evidence))}")
        require_outcome("trial", self.status, self.reason, ("a measurement belongs", self.measurement))

    @property
    def key_digest(self) -> str:
        """Stands for key and evidence: trials of one problem share it."""
        return key_digest(self.key, self.evidence)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOff:
    """An interleaved comparison of configurations of one problem.

    Attributes:
        stage: `final` among near-ties, `confirm` of the winner, or `route` between kernels.
        configs: the configurations, the baseline among them; between kernels each begins with its `kernel`.
        baseline: the formula's default.
        measurements: one per configuration, aligned round by round; None where it failed, with its reason.
        reasons: one per configuration; None exactly where there is a measurement.
        noise_floor: relative, from the baseline's second seat; None where it is unknown.

    Raises:
        RecordError: fields that contradict each other.
    """

    key: TunedKey
    evidence: Evidence
    stage: Stage
    configs: tuple[Settings, ...]
    baseline: Settings
    measurements: tuple[Measurement | None, ...]
    reasons: tuple[str | None, ...]
    noise_floor: float | None
    run_id: str
    created_utc: str

    def __post_init__(self) -> None:
        if self.baseline not in self.configs:
            raise RecordError(f"run-off: the baseline {self.baseline} is not among its configurations")
        if not len(self.configs) == len(self.measurements) == len(self.reasons):
            raise RecordError(
                f"run-off of {len(self.configs)} configurations has {len(self.measurements)} measurements "
                f"and {len(self.reasons)} reasons"
            )
        if any((m is None) == (r is None) for m, r in zip(self.measurements, self.reasons, strict=True)):
            raise RecordError("run-off: a reason stands where, and only where, there is no measurement")

    @property
    def key_digest(self) -> str:
        """Stands for key and evidence."""
        return key_digest(self.key, self.evidence)

    def measurement_of(self, config: Settings) -> Measurement | None:
        """Samples of a configuration; None where it took no part or failed."""
        return self.measurements[self.configs.index(config)] if config in self.configs else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningRecord:
    """Every row of one problem: put together when it is needed, never stored.

    Attributes:
        trials: one per configuration; of two rows of one configuration the later holds.
        run_offs: in file order.
    """

    key: TunedKey
    evidence: Evidence
    trials: tuple[Trial, ...] = ()
    run_offs: tuple[RunOff, ...] = ()

    @property
    def by_config(self) -> dict[Settings, Trial]:
        return {trial.config: trial for trial in self.trials}

    def run_off(self, stage: Stage) -> RunOff | None:
        return next((run_off for run_off in reversed(self.run_offs) if run_off.stage == stage), None)


def tuning_record(
    key: TunedKey, evidence: Evidence, trials: tuple[Trial, ...], run_offs: tuple[RunOff, ...] = ()
) -> TuningRecord:
    """The rows that belong to one problem, out of whole files of them."""
    wanted = key_digest(key, evidence)
    return TuningRecord(
        key=key,
        evidence=evidence,
        trials=tuple(trial for trial in trials if trial.key_digest == wanted),
        run_offs=tuple(run_off for run_off in run_offs if run_off.key_digest == wanted),
    )


def settings_with_kernel(choice: Choice) -> Settings:
    """A kernel and its configuration as one configuration of a comparison between kernels."""
    return (("kernel", choice.kernel), *choice.settings)


def choice_of(settings: Settings) -> Choice:
    """The inverse of `settings_with_kernel`.

    Raises:
        RecordError: the first setting is not the kernel.
    """
    if not settings or settings[0][0] != "kernel":
        raise RecordError(f"settings {settings} do not begin with a kernel")
    return Choice(kernel=str(settings[0][1]), settings=settings[1:])


def key_digest(key: TunedKey, evidence: Evidence) -> str:
    """16 hexadecimal digits that stand for all fields of a key and the kind of evidence.

    The list of configurations is no part of it: adding one to a space leaves every finished trial valid.
    """
    text = json.dumps([asdict(key), evidence], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
