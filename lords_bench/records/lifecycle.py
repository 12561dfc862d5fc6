"""`LifecycleRecord`: one training run of the lifecycle suite, or the model it starts from, as one JSON line.

A run's raw data are the loss and time of every step and the likelihood of every window of held-out text, on both
domains. Which learning rate was best, means over seeds and intervals are computed from the records, never stored.
"""

from dataclasses import dataclass
from math import fsum, isfinite, log
from typing import Literal

from lords_bench.errors import RecordError
from lords_bench.quant import QuantSpec
from lords_bench.records.bench import EvaluationInputs, comparison_key, run_key
from lords_bench.records.environment import Environment
from lords_bench.records.status import Status, require_created, require_outcome

Stage = Literal["reference", "qat", "peft"]
Domain = Literal["base", "shifted"]
Split = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextScores:
    """Likelihood of one set of held-out windows.

    Attributes:
        domain: `base` is what the model was trained on, `shifted` what fine-tuning adapts it to.
        split: `validation` chooses learning rates, `test` is only reported.
        window_tokens: predicted tokens of each window; the other tuples have the same order.
        window_bytes: UTF-8 bytes those tokens stand for.
        window_nll_nats: negative log-likelihood, summed over the window's tokens.
        window_documents: number of the document each window was cut from; intervals resample whole documents.

    Raises:
        RecordError: no window, lengths that disagree, or a value that is negative or not finite.
    """

    domain: Domain
    split: Split
    window_tokens: tuple[int, ...]
    window_bytes: tuple[int, ...]
    window_nll_nats: tuple[float, ...]
    window_documents: tuple[int, ...]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in _WINDOW_VALUES}
        if lengths == {0} or len(lengths) > 1:
            raise RecordError(
                f"{self.domain} {self.split} text has {sorted(lengths)} values; give one of each per window"
            )
        for name in _WINDOW_VALUES:
            _require_at_least(name, getattr(self, name), 0)

    @property
    def bits_per_byte(self) -> float:
        """Σ negative log-likelihood in bits / Σ bytes of text."""
        return fsum(self.window_nll_nats) / log(2) / sum(self.window_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleSamples:
    """What one run gave.

    Attributes:
        scores: held-out text, each (domain, split) at most once.
        layer_names: linear layers that were quantized or got an adapter; the other `layer_…` tuples have their order.
        layer_shapes: (N, K) of each.
        layer_stored_bytes: bytes of every tensor the layer needs at inference, adapters included.
        trainable_numbers: how many numbers the optimiser may change; 0 without training.
        step_loss_nats: mean loss per token of each step's batch, in order; empty without training.
        step_wall_ns: wall-clock time of each step: forward, backward and update.
        step_cpu_ns: CPU time of the process in each step; unlike wall-clock time it does not count what other
            processes took.
        step_tokens: predicted tokens of one step.
        start_rss_bytes: resident memory before the first step; None where the system does not tell.
        peak_rss_bytes: largest resident memory during training, on a GPU largest allocated memory.
        prepare_seconds: quantizing and setting up, CPU time; 0 where a stored result of the same spec was read.
        evaluate_seconds: scoring, CPU time.

    Raises:
        RecordError: values that contradict each other, or are negative or not finite.
    """

    scores: tuple[TextScores, ...]
    layer_names: tuple[str, ...]
    layer_shapes: tuple[tuple[int, int], ...]
    layer_stored_bytes: tuple[int, ...]
    trainable_numbers: int
    step_loss_nats: tuple[float, ...]
    step_wall_ns: tuple[int, ...]
    step_cpu_ns: tuple[int, ...]
    step_tokens: int
    start_rss_bytes: int | None
    peak_rss_bytes: int | None
    prepare_seconds: float
    evaluate_seconds: float

    def __post_init__(self) -> None:
        if len({len(self.layer_names), len(self.layer_shapes), len(self.layer_stored_bytes)}) > 1:
            raise RecordError("layer names, shapes and bytes have different lengths; give one value per layer")
        steps = {len(self.step_loss_nats), len(self.step_wall_ns), len(self.step_cpu_ns)}
        if len(steps) > 1:
            raise RecordError(f"steps have {sorted(steps)} values; give one loss and one time of each kind per step")
        if (self.trainable_numbers == 0) != (steps == {0}):
            raise RecordError(
                f"{self.trainable_numbers} trainable numbers with {max(steps)} steps; training needs both"
            )
        kinds = [(scores.domain, scores.split) for scores in self.scores]
        if not kinds or len(set(kinds)) < len(kinds):
            raise RecordError(f"scores are of {kinds}; give each domain and split once, and at least one")
        for name in ("layer_stored_bytes", "step_loss_nats", "step_wall_ns", "step_cpu_ns"):
            _require_at_least(name, getattr(self, name), 0)
        for name in ("trainable_numbers", "step_tokens", "prepare_seconds", "evaluate_seconds"):
            _require_at_least(name, (getattr(self, name),), 0)

    def of(self, domain: Domain, split: Split) -> TextScores | None:
        """The scores of one held-out text, or None where it was not scored."""
        return next((scores for scores in self.scores if (scores.domain, scores.split) == (domain, split)), None)

    @property
    def bits_per_weight(self) -> float | None:
        """Measured bits per weight of the layers, adapters included; None where no layer was quantized."""
        weights = sum(n * k for n, k in self.layer_shapes)
        return 8 * sum(self.layer_stored_bytes) / weights if weights else None


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleRecord:
    """One case of the lifecycle suite.

    Attributes:
        run_id: names the invocation that wrote the record.
        suite: `lifecycle`.
        case_id: unique within the suite, such as `qat-lords-b3-lr0.001` or `peft-qlora-b4-seed1`.
        stage: `reference` (the unquantized model), `qat` or `peft`.
        method: name shown for the method.
        bits: bits per code; None = unquantized.
        spec: specification of the quantized layers; None = unquantized.
        learning_rate: of the training; None for the model before its first step.
        is_search: whether the case tries a learning rate; the others repeat the best one with another seed.
        training_seed: fixes the order of the training text and every random start.
        status: how the case ended.
        reason: why it did not end well, one line; None exactly when the status is ok.
        samples: present exactly when the status is ok.
        complete: False for samples of only a part of what the settings ask for.
        planned_case_ids: every case the run set out to do.
        inputs: model, text and settings, the budget of training among them.
        environment: machine, versions and source.
        created_utc: when the case ended, as `2026-01-31T12:00:00Z`.
        command: the command line that made it.

    Raises:
        RecordError: fields that contradict each other.
    """

    run_id: str
    suite: str
    case_id: str
    stage: Stage
    method: str
    bits: int | None
    spec: QuantSpec | None
    learning_rate: float | None
    is_search: bool
    training_seed: int
    status: Status
    reason: str | None = None
    samples: LifecycleSamples | None = None
    complete: bool = True
    planned_case_ids: tuple[str, ...]
    inputs: EvaluationInputs
    environment: Environment
    created_utc: str
    command: str

    def __post_init__(self) -> None:
        name = f"case {self.case_id!r}"
        require_outcome(name, self.status, self.reason, ("samples belong", self.samples))
        if (self.bits is None) != (self.spec is None):
            raise RecordError(
                f"{name}: bits is {self.bits} with spec {self.spec}; only unquantized layers have neither"
            )
        if (self.stage == "reference") != (self.bits is None) or (self.bits is None and self.is_training):
            raise RecordError(f"{name}: stage {self.stage!r} with bits {self.bits}; the reference is not quantized")
        if self.learning_rate is not None and not (isfinite(self.learning_rate) and self.learning_rate > 0):
            raise RecordError(f"{name}: learning rate {self.learning_rate} must be positive and finite")
        if self.samples is not None and self.is_training != (self.samples.trainable_numbers > 0):
            raise RecordError(f"{name}: stage {self.stage!r} with {self.samples.trainable_numbers} trainable numbers")
        if self.case_id not in self.planned_case_ids:
            raise RecordError(f"{name} is not among its run's planned_case_ids; add it")
        require_created(self.created_utc)

    @property
    def is_training(self) -> bool:
        """Whether it was trained; else it is the model before the first step."""
        return self.learning_rate is not None

    @property
    def group_id(self) -> str:
        """Stage, method and bits: what the runs with different learning rates and seeds share."""
        return f"{self.stage}-{self.method}-b{self.bits}"

    @property
    def is_clean(self) -> bool:
        """Whether the record is ok, complete, and from an unchanged commit."""
        return self.status is Status.OK and self.complete and self.environment.git_dirty is False

    @property
    def run_key(self) -> str:
        """Key under which a killed run finds its completed cases."""
        return run_key(suite=self.suite, inputs=self.inputs, seed=0, environment=self.environment)

    @property
    def comparison_key(self) -> str:
        """Key of the table this record belongs to."""
        return comparison_key(suite=self.suite, inputs=self.inputs, environment=self.environment)


_WINDOW_VALUES = ("window_tokens", "window_bytes", "window_nll_nats", "window_documents")


def _require_at_least(name: str, values: tuple[float, ...], minimum: float) -> None:
    for index, value in enumerate(values):
        if not isfinite(value) or value < minimum:
            raise RecordError(f"{name}[{index}] is {value}; it must be finite and at least {minimum}")
