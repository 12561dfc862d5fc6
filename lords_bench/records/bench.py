"""`BenchRecord`: what one case of one suite gave, with everything needed to trace and repeat it. One JSON line each.

Two keys are derived, never stored. `run_key` says what must be equal for a killed run to go on from its records: the
suite, the inputs, the seed, this package's source, the device and the versions that can move a number.
`comparison_key` says what must be equal for two records to stand in one table: suite, inputs and device.
"""

import hashlib
import json
from dataclasses import dataclass

from lords_bench.errors import RecordError
from lords_bench.quant import QuantSpec
from lords_bench.records.accuracy import AccuracySamples
from lords_bench.records.environment import Environment
from lords_bench.records.status import Status, require_created, require_outcome

Setting = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationInputs:
    """What was evaluated, on what, and how; two records with different inputs are never compared.

    Attributes:
        model_name: directory name or hub name, for the reader.
        model_sha256: hash of the weights.
        tokenizer_sha256: hash of the tokenizer.
        corpus_sha256: hash of the evaluation and calibration text.
        settings: evaluation settings by name (window length, counts, calibration size, …), sorted by name.
    """

    model_name: str
    model_sha256: str
    tokenizer_sha256: str
    corpus_sha256: str
    settings: tuple[tuple[str, Setting], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.settings]
        if names != sorted(set(names)):
            raise RecordError(f"evaluation settings {names} must be sorted by name, each once")

    @property
    def settings_sha256(self) -> str:
        """Hash of the settings alone, short enough to show."""
        return digest([list(pair) for pair in self.settings])

    @property
    def hashes(self) -> tuple[str, str, str, str]:
        """Of model, tokenizer, text and settings: what two records must share to be compared."""
        return self.model_sha256, self.tokenizer_sha256, self.corpus_sha256, self.settings_sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRecord:
    """One case: its specification, how it ended, its samples if it ended well, and its provenance.

    Attributes:
        run_id: names the invocation that wrote the record.
        suite: name of the suite, `accuracy`.
        case_id: unique within the suite, such as `lords-b3-g64`.
        method: name shown for the method, such as `lords` or `nf4-double-quant`; with `bits` and block it is unique.
        bits: nominal bits that group the tables (mixed precision: the average asked for); None = unquantized.
        spec: the specification of every layer; None for the unquantized model and for mixed precision.
        mixed: (layer name, specification) pairs of a mixed-precision case, in layer order.
        input_weighted: whether squared errors were weighted by the mean square of each calibration input.
        status: how the case ended.
        reason: why it did not end well, one line; None exactly when the status is ok.
        samples: raw samples; present exactly when the status is ok.
        complete: False for samples of only a part of what the inputs' settings ask for (a run cut short).
        planned_case_ids: every case the run set out to do, so that a case without a record is noticed.
        created_utc: when the case ended, as `2026-01-31T12:00:00Z`.
        command: the command line that made it.
        seed: seed of the run.

    Raises:
        RecordError: fields that contradict each other.
    """

    run_id: str
    suite: str
    case_id: str
    method: str
    bits: int | None
    spec: QuantSpec | None
    mixed: tuple[tuple[str, QuantSpec], ...] | None = None
    input_weighted: bool = False
    status: Status
    reason: str | None = None
    samples: AccuracySamples | None = None
    complete: bool = True
    planned_case_ids: tuple[str, ...]
    inputs: EvaluationInputs
    environment: Environment
    created_utc: str
    command: str
    seed: int

    def __post_init__(self) -> None:
        require_outcome(f"case {self.case_id!r}", self.status, self.reason, ("samples belong", self.samples))
        if self.spec is not None and self.mixed is not None:
            raise RecordError(f"case {self.case_id!r} has both spec and mixed; give the one that holds")
        if (self.bits is None) != (self.spec is None and self.mixed is None):
            raise RecordError(f"case {self.case_id!r}: bits is {self.bits}; only the unquantized model has none")
        if self.case_id not in self.planned_case_ids:
            raise RecordError(f"case {self.case_id!r} is not among its run's planned_case_ids; add it")
        require_created(self.created_utc)

    @property
    def is_clean(self) -> bool:
        """Whether the record may serve as a stored baseline: ok, complete, and from an unchanged commit."""
        return self.status is Status.OK and self.complete and self.environment.git_dirty is False

    @property
    def needs_calibration(self) -> bool:
        """Whether any layer was quantized with the help of calibration inputs: a Hessian or per-input weights."""
        specs = [spec for _, spec in self.mixed or ()] + ([self.spec] if self.spec else [])
        return self.input_weighted or any(spec.needs_hessian for spec in specs)

    @property
    def run_key(self) -> str:
        """Key of the run this record belongs to; see `run_key`."""
        return run_key(suite=self.suite, inputs=self.inputs, seed=self.seed, environment=self.environment)

    @property
    def comparison_key(self) -> str:
        """Key of the table this record belongs to; see `comparison_key`."""
        return comparison_key(suite=self.suite, inputs=self.inputs, environment=self.environment)


def run_key(*, suite: str, inputs: EvaluationInputs, seed: int, environment: Environment) -> str:
    """Key under which a killed run finds its completed cases: equal key, equal numbers up to thread timing."""
    source = [environment.lords_bench, environment.source_sha256]
    versions = [environment.python, environment.torch, environment.triton, environment.transformers, environment.numpy]
    return digest([suite, *inputs.hashes, seed, *source, *versions, environment.device, environment.device_name])


def comparison_key(*, suite: str, inputs: EvaluationInputs, environment: Environment) -> str:
    """What must be equal for two records to stand in one table: suite, inputs and device."""
    return digest([suite, *inputs.hashes, environment.device, environment.device_name])


def digest(parts: list[object]) -> str:
    """Short hash of plain JSON values, the same everywhere."""
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:16]
