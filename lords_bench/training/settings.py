"""What a training is asked to do. Every setting is checked when the settings are built."""

from dataclasses import dataclass

from lords_bench.errors import SpecError, UsageError
from lords_bench.options import (
    BIT_COUNT,
    COUNT,
    EPOCHS,
    FROM_ZERO,
    POSITIVE,
    SEED,
    WINDOW,
    argument,
    check_numbers,
    option,
)
from lords_bench.quant import QuantSpec

MODES = ("qat", "peft")
PEFT_METHODS = ("lords", "qlora", "loftq", "qpissa")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """What to train, on what, and how; what a field means and may be stands with it.

    Attributes:
        mode: `qat` or `peft`.
        use_cpu: also where there is a GPU.

    Raises:
        UsageError: an unknown mode, or a number out of its range.
        SpecError: a method that the mode has not, or numbers that do not fit it.
    """

    mode: str
    model: str = argument("a Hugging Face model directory or hub name, not quantized")
    out: str = option("folder of the results; goes on where it stopped", metavar="DIR")
    data: tuple[str, ...] = option('training text, or .jsonl with a "text" a line', metavar="FILE", nargs="+")
    eval_data: tuple[str, ...] = option("held-out text to evaluate on", metavar="FILE", nargs="+", default=())
    method: str = option(
        "of qat: lords, block-opt, nf4 …; of peft: lords, qlora, loftq or qpissa", metavar="NAME", default="lords"
    )
    bits: int = option("bits per code: 4, 3 or 2", BIT_COUNT, default=4)
    block: int = option("inputs per scale, or storage of it for low-rank scales", COUNT, default=64)
    rank: int | None = option("rank of the scale or adapter (default: parity with the block)", COUNT, default=None)
    learning_rate: float = option("of the trained parameters", POSITIVE, flag="--lr", default=1e-4)
    scale_learning_rate: float | None = option(
        "of scales, B and A, where it differs", POSITIVE, flag="--scale-lr", default=None
    )
    steps: int | None = option("optimizer steps (default: by --epochs)", COUNT, default=None)
    epochs: float = option("passes over the text, without --steps", EPOCHS, default=1.0)
    batch: int = option("windows per device and forward", COUNT, default=4)
    accumulate: int = option("forwards per step", COUNT, default=1)
    window_tokens: int = option("tokens per window", WINDOW, flag="--window", default=512)
    warmup_steps: int = option("steps in which the learning rate rises", FROM_ZERO, default=10)
    bf16: bool = option("compute in bfloat16, masters stay float32", default=False)
    seed: int = option("of the text's order and random starts", SEED, default=0)
    save_steps: int = option("steps between checkpoints", COUNT, default=100)
    eval_steps: int = option("steps between evaluations", COUNT, default=100)
    use_cpu: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}; choose {' or '.join(MODES)}")
        if self.mode == "peft" and self.method not in PEFT_METHODS:
            raise SpecError(f"unknown fine-tuning method {self.method!r}; known: {', '.join(PEFT_METHODS)}")
        for name in ("data", "eval_data"):
            if isinstance(getattr(self, name), str):
                raise UsageError(f"{name}={getattr(self, name)!r} is one text; give a tuple of files")
        check_numbers(self)
        self.spec  # noqa: B018  # what the method does not take is refused here too

    @property
    def spec(self) -> QuantSpec:
        """How the layers are quantized."""
        if self.mode == "qat":
            return QuantSpec(method=self.method, bits=self.bits, block=self.block, rank=self.rank)
        if self.method == "lords":
            return QuantSpec(method="lords", bits=self.bits, block=self.block, rank=self.rank)
        return QuantSpec(method=f"nf{self.bits}", block=self.block, double_quant=True, seed=self.seed)
