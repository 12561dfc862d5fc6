"""What a training is asked to do, and the folder that remembers it, so that a second call can go on."""

import json
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from lords_bench.errors import SpecError, StoreError, UsageError
from lords_bench.files import write_whole
from lords_bench.spec.quant import QuantSpec

TRAINING_FILE = "training.json"


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

    @property
    def spec(self) -> QuantSpec:
        """How the layers are quantized.

        Raises:
            SpecError: unknown method, or numbers that do not fit it.
        """
        if self.mode == "qat":
            return QuantSpec(method=self.method, bits=self.bits, block=self.block, rank=self.rank)
        if self.method == "lords":
            return QuantSpec(method="lords", bits=self.bits, block=self.block, rank=self.rank)
        return QuantSpec(method=f"nf{self.bits}", block=self.block, double_quant=True, seed=self.seed)


def check_settings(settings: TrainSettings, out: Path) -> None:
    """Refuses what cannot be trained, and a folder that holds something else, before anything is loaded.

    Raises:
        UsageError, SpecError: options that do not fit together, or not to those the folder was begun with.
        StoreError: the folder is taken.
    """
    if settings.mode not in ("qat", "peft"):
        raise UsageError(f"unknown mode {settings.mode!r}; choose qat or peft")
    if settings.mode == "peft" and settings.method not in ("lords", "qlora", "loftq", "qpissa"):
        raise SpecError(f"unknown fine-tuning method {settings.method!r}; known: lords, qlora, loftq, qpissa")
    if settings.steps is not None and settings.steps < 1:
        raise UsageError(f"{settings.steps} steps train nothing; give at least 1")
    if not (isfinite(settings.learning_rate) and settings.learning_rate > 0):
        raise UsageError(f"learning rate {settings.learning_rate} must be positive and finite")
    settings.spec  # noqa: B018  # an unknown method or number of bits is refused before anything is loaded
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / TRAINING_FILE).is_file()):
        raise StoreError(f"{str(out)!r} exists already and is no training folder; choose another --out")
    if (out / TRAINING_FILE).is_file():
        _check_same(settings, out)


def _check_same(settings: TrainSettings, out: Path) -> None:
    try:
        earlier = json.loads((out / TRAINING_FILE).read_text("utf-8"))
        before = dict(earlier["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{str(out / TRAINING_FILE)!r} is damaged ({error}); choose another --out") from error
    if "finished" in earlier:
        raise StoreError(f"{str(out)!r} holds a finished training; choose another --out")
    for name, value in plain_settings(settings).items():
        if before.get(name) != value:
            raise UsageError(
                f"{str(out)!r} was begun with {name} = {before.get(name)!r}, now it is {value!r}; "
                "give the same options to go on, or another --out"
            )


def claim_folder(settings: TrainSettings, out: Path) -> None:
    """Writes down what the folder is for, if that is not done."""
    if not (out / TRAINING_FILE).is_file():
        write_training_file(out, {"settings": plain_settings(settings)})


def plain_settings(settings: TrainSettings) -> dict[str, Any]:
    """Settings as JSON gives them back; the folder may be moved."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    del found["out"]
    return found


def write_training_file(out: Path, content: dict[str, Any]) -> None:
    """Replaces `training.json`, whole or not at all."""
    write_whole(out / TRAINING_FILE, f"{json.dumps(content, indent=1)}\n", remedy="change --out")
