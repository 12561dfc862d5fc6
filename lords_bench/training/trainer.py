"""Training a model with quantized weights through transformers' `Trainer`: checkpoints, resuming, evaluation.

    train_model(settings)       prepares, trains or goes on, and writes the results:

    OUT/training.json           what was asked for, losses, tokens
    OUT/quantized/              QAT: a quantized folder, as `lords-bench quantize` writes it
    OUT/adapter.safetensors     PEFT: the adapter alone, with the hash of the codes it belongs to
    OUT/merged/                 PEFT: the model with the adapter in it: a quantized folder for LoRDS, whose B and A take
                                the place of the old ones; a dense model for additive adapters, which no codes can hold
    OUT/checkpoints/            while training, each whole; the last two are kept until the results are written

The optimizer's groups are those of `prepare.optimizer_groups`: `Trainer`'s own would decay scales.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainerCallback, TrainingArguments

from lords_bench.errors import ModelError, UsageError
from lords_bench.integrations.hf_model import CausalModel, is_quantized_folder, load_causal_model, quantizable_layers
from lords_bench.integrations.pretrained import save_model_folder
from lords_bench.integrations.quantized_folder import save_quantized_folder
from lords_bench.training.adapters import save_adapter, take_adapter
from lords_bench.training.checkpoints import UNFINISHED, WholeCheckpoints, newest_whole, train_from
from lords_bench.training.dense import materialise
from lords_bench.training.folder import TrainingFolder, plain_settings
from lords_bench.training.loop import divergence
from lords_bench.training.prepare import (
    PeftMethod,
    export,
    optimizer_groups,
    prepare_peft,
    prepare_qat,
    storage_bits_per_weight,
    trainable_count,
)
from lords_bench.training.processes import on_first
from lords_bench.training.settings import TrainSettings
from lords_bench.training.text_data import TokenWindows, read_texts

ADAPTER_FILE = "adapter.safetensors"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What came out: the folders or files to use, and how it went."""

    outputs: tuple[Path, ...]
    steps: int
    trained_numbers: int
    bits_per_weight: float
    train_loss: float | None
    eval_loss: float | None


class QuantizedTrainer(Trainer):
    """`Trainer` with the parameter groups of a prepared model, which stops at the first loss that is not finite."""

    def __init__(self, *, groups: Callable[[nn.Module], list[dict[str, object]]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._groups = groups

    def create_optimizer(self, *_arguments: Any, **_named: Any) -> torch.optim.Optimizer:
        """AdamW on the groups."""
        if self.optimizer is None:
            assert self.model is not None
            self.optimizer = torch.optim.AdamW(self._groups(self.model))
        return self.optimizer

    def training_step(self, model: nn.Module, *arguments: Any, **named: Any) -> Tensor:
        """One forward and backward.

        Raises:
            ModelError: the loss is not finite; the message names the step and the first layer concerned.
        """
        loss = super().training_step(model, *arguments, **named)
        value = float(loss)
        if not isfinite(value):
            raise ModelError(stopped(model, step=self.state.global_step + 1, loss=value))
        return loss


class FiniteGradients(TrainerCallback):
    """Stops before an update that would spoil the weights, so that every checkpoint on disk is a good one."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Before every update.

        Raises:
            ModelError: a gradient is not finite.
        """
        del args, control
        model: nn.Module = named["model"]
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if not isfinite(float(torch.stack([gradient.norm() for gradient in gradients]).sum())):
            raise ModelError(stopped(model, step=state.global_step + 1, loss=None))


def stopped(model: nn.Module, *, step: int, loss: float | None) -> str:
    """One line: what is not finite where, and how to go on."""
    what = divergence(model, step=step, loss=float("nan") if loss is None else loss)
    return f"{what}. The last checkpoint is from before and is kept; another --out starts anew"


def train_model(settings: TrainSettings, *, notice: Callable[[str], None] = _LOG.warning) -> TrainResult:
    """Prepares the model, trains it or goes on where an interrupted call stopped, and writes the results.

    Args:
        settings: what to train, on what, and how.
        notice: is told in one line each which checkpoint the training goes on from, and which one is set aside and why.

    Raises:
        UsageError: no text, a folder that holds other results, or options that do not fit together.
        SpecError, ModelError: the model cannot be quantized so, or the training diverged.
        StoreError: the disk refuses, or another process trains in the folder.
    """
    out = Path(settings.out)
    checkpoints = out / "checkpoints"
    # With several processes, this is where they find each other.
    arguments = _arguments(settings, checkpoints / UNFINISHED)
    if is_quantized_folder(Path(settings.model)):
        raise UsageError(f"{settings.model!r} is quantized already; train from the unquantized model it came from")
    with TrainingFolder(settings, out) as folder:
        # Before anything is loaded, and again when nothing else can be refused.
        on_first(folder.check)
        texts, held_out = read_texts(settings.data), read_texts(settings.eval_data) if settings.eval_data else []
        # Float32 masters; autocast computes in bfloat16 where asked.
        loaded = load_causal_model(settings.model)
        window = min(settings.window_tokens, loaded.context_tokens or settings.window_tokens)
        windows = TokenWindows(texts, loaded.tokenizer, window_tokens=window, source="the training text")
        evaluated = (
            TokenWindows(held_out, loaded.tokenizer, window_tokens=window, source="the evaluation text")
            if held_out
            else None
        )
        loaded.model.requires_grad_(True)
        _prepare(loaded.model, settings)
        _keep_codes_apart(loaded.model)
        last = on_first(lambda: _take(folder, checkpoints, notice))
        trainer = QuantizedTrainer(
            groups=lambda model: optimizer_groups(
                model, learning_rate=settings.learning_rate, scale_learning_rate=settings.scale_learning_rate
            ),
            model=loaded.model,
            args=arguments,
            train_dataset=windows,
            eval_dataset=evaluated,
            callbacks=[FiniteGradients(), WholeCheckpoints(checkpoints)],
        )
        loaded.model.config.use_cache = False
        train_loss = train_from(last, trainer, checkpoints)
        eval_loss = float(trainer.evaluate()["eval_loss"]) if evaluated is not None else None
        loaded.model.config.use_cache = True
        outputs: tuple[Path, ...] = ()
        trained, bits = trainable_count(loaded.model), storage_bits_per_weight(loaded.model)
        if trainer.is_world_process_zero():
            outputs = _write(loaded, settings, out)
            history = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
            done = {"steps": trainer.state.global_step, "trained_numbers": trained, "bits_per_weight": bits}
            folder.write({"settings": plain_settings(settings), "finished": {**done, "log": history}})
            shutil.rmtree(checkpoints, ignore_errors=True)
    return TrainResult(
        outputs=outputs,
        steps=trainer.state.global_step,
        trained_numbers=trained,
        bits_per_weight=bits,
        train_loss=train_loss,
        eval_loss=eval_loss,
    )


def _take(folder: TrainingFolder, checkpoints: Path, notice: Callable[[str], None]) -> Path | None:
    folder.take()
    return newest_whole(checkpoints, notice)


def _keep_codes_apart(model: nn.Module) -> None:
    """Packed codes are the same in every process, and are integers of 16 bits, which no process can send another."""
    codes = [name for name, buffer in model.named_buffers() if buffer.dtype is torch.int16]
    # Its name is private, its use documented; there is no other way to leave a buffer out.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, codes)  # noqa: SLF001


def _prepare(model: nn.Module, settings: TrainSettings) -> None:
    if settings.mode == "qat":
        prepare_qat(model, settings.spec)
        return
    methods: dict[str, PeftMethod] = {"lords": "lords", "qlora": "qlora", "loftq": "loftq", "qpissa": "qpissa"}
    method = methods[settings.method]
    prepare_peft(model, method, settings.spec, rank=None if method == "lords" else settings.rank)


def _arguments(settings: TrainSettings, folder: Path) -> TrainingArguments:
    on_gpu = torch.cuda.is_available() and not settings.use_cpu
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=-1 if settings.steps is None else settings.steps,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_steps,
        max_grad_norm=1.0,
        bf16=settings.bf16,
        use_cpu=not on_gpu,
        seed=settings.seed,
        save_steps=settings.save_steps,
        eval_strategy="steps" if settings.eval_data else "no",
        eval_steps=settings.eval_steps if settings.eval_data else None,
        prediction_loss_only=True,
        logging_steps=max(1, min(10, settings.save_steps)),
        report_to=[],
        dataloader_pin_memory=on_gpu,
    )


def _write(loaded: CausalModel, settings: TrainSettings, out: Path) -> tuple[Path, ...]:
    """Writes what was trained, in the order that a reader needs it."""
    model: Any = loaded.model
    outputs: list[Path] = []
    is_mergeable = settings.mode == "qat" or settings.method == "lords"
    if settings.mode == "peft":
        outputs.append(out / ADAPTER_FILE)
        save_adapter(take_adapter(model), outputs[-1])
    with torch.no_grad():
        weights = export(model)
        materialise(model, weights)
    folder = out / ("quantized" if settings.mode == "qat" else "merged")
    outputs.append(folder)
    # A call that was stopped while it wrote left a part.
    shutil.rmtree(folder, ignore_errors=True)
    if is_mergeable:
        layers, unquantized = quantizable_layers(model)
        save_quantized_folder(replace(loaded, layers=layers, unquantized=unquantized), weights, folder)
    else:
        save_model_folder(model, loaded.tokenizer, folder)
    return tuple(outputs)
