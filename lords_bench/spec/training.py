"""What a training is asked to do. Every setting is checked when the settings are built."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.errors import SpecError, UsageError
from lords_bench.spec.numbers import BIT_COUNT, COUNT, EPOCHS, FROM_ZERO, POSITIVE, SEED, WINDOW, Real, Whole
from lords_bench.spec.quant import QuantSpec

MODES = ("qat", "peft")
PEFT_METHODS = ("lords", "qlora", "loftq", "qpissa")

# What each number may be; None is allowed where it is the default.
LIMITS: Mapping[str, Whole | Real] = MappingProxyType(
    {
        "bits": BIT_COUNT,
        "block": COUNT,
        "rank": COUNT,
        "learning_rate": POSITIVE,
        "scale_learning_rate": POSITIVE,
        "steps": COUNT,
        "epochs": EPOCHS,
        "batch": COUNT,
        "accumulate": COUNT,
        "window_tokens": WINDOW,
        "warmup_steps": FROM_ZERO,
        "seed": SEED,
        "save_steps": COUNT,
        "eval_steps": COUNT,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """What to train, on what, and how.

    Attributes:
        mode: `qat` or `peft`.
        model: a Hugging Face model directory or hub name, not quantized.
        out: folder of the results.
        data: training text files.
        eval_data: held-out text files; empty evaluates nothing.
        method: QAT: a method name of `QuantSpec`; PEFT: `lords`, `qlora`, `loftq` or `qpissa`.
        bits: bits per code.
        block: inputs per scale, or storage of it for low-rank scales.
        rank: of the low-rank scale or the adapter; None is parity with the block.
        learning_rate: of the trained parameters.
        scale_learning_rate: of scales, B and A where it differs.
        steps: optimiser steps; None goes by epochs.
        epochs: passes over the text, where steps is None.
        batch: windows per device and forward.
        accumulate: forwards per step.
        window_tokens: T.
        warmup_steps: steps in which the learning rate rises.
        bf16: bfloat16 autocast.
        seed: of the order of the text and of every random start.
        save_steps: steps between checkpoints.
        eval_steps: steps between evaluations.
        use_cpu: also where there is a GPU.

    Raises:
        UsageError: an unknown mode, or a number out of the range of `LIMITS`.
        SpecError: a method that the mode has not, or numbers that do not fit it.
    """

    mode: str
    model: str
    out: str
    data: tuple[str, ...]
    eval_data: tuple[str, ...] = ()
    method: str = "lords"
    bits: int = 4
    block: int = 64
    rank: int | None = None
    learning_rate: float = 1e-4
    scale_learning_rate: float | None = None
    steps: int | None = None
    epochs: float = 1.0
    batch: int = 4
    accumulate: int = 1
    window_tokens: int = 512
    warmup_steps: int = 10
    bf16: bool = False
    seed: int = 0
    save_steps: int = 100
    eval_steps: int = 100
    use_cpu: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}; choose {' or '.join(MODES)}")
        if self.mode == "peft" and self.method not in PEFT_METHODS:
            raise SpecError(f"unknown fine-tuning method {self.method!r}; known: {', '.join(PEFT_METHODS)}")
        for name in ("data", "eval_data"):
            if isinstance(getattr(self, name), str):
                raise UsageError(f"{name}={getattr(self, name)!r} is one text; give a tuple of files")
        for name, limits in LIMITS.items():
            value = getattr(self, name)
            if value is not None or name not in ("rank", "scale_learning_rate", "steps"):
                limits.check(name, value)
        self.spec  # noqa: B018  # what the method does not take is refused here too

    @property
    def spec(self) -> QuantSpec:
        """How the layers are quantized."""
        if self.mode == "qat":
            return QuantSpec(method=self.method, bits=self.bits, block=self.block, rank=self.rank)
        if self.method == "lords":
            return QuantSpec(method="lords", bits=self.bits, block=self.block, rank=self.rank)
        return QuantSpec(method=f"nf{self.bits}", block=self.block, double_quant=True, seed=self.seed)
