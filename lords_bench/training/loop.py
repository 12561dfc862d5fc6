"""A plain training loop over a fixed list of batches: AdamW, linear warm-up and decay, one number per step kept.

For runs of a few hundred steps that must be compared step by step; longer ones, with checkpoints, go through
`trainer.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from lords_bench.errors import ModelError
from lords_bench.options import DECAY, POSITIVE, SHARE
from lords_bench.training.prepare import optimizer_groups, trainable_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """How to train.

    Attributes:
        learning_rate: the highest, after warm-up.
        warmup_share: share of the steps in which it rises from 0.
        beta1: decay of AdamW's first moment.
        beta2: decay of its second moment.
        clip_norm: largest norm of the gradient.
        autocast: dtype of the matrix products; None computes in the parameters' dtype.

    Raises:
        UsageError: a number that no training has.
    """

    learning_rate: float
    warmup_share: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    autocast: torch.dtype | None = torch.bfloat16

    def __post_init__(self) -> None:
        for name in ("learning_rate", "clip_norm"):
            POSITIVE.check(name, getattr(self, name))
        SHARE.check("warmup_share", self.warmup_share)
        for name in ("beta1", "beta2"):
            DECAY.check(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLog:
    """Per step, in order: mean loss per token in nats, wall-clock and CPU time in ns."""

    loss_nats: tuple[float, ...]
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]


def _ignore(fraction: float) -> None:
    del fraction


def train(
    model: nn.Module,
    batches: Sequence[Tensor],
    settings: LoopSettings,
    advance: Callable[[float], None] = _ignore,
) -> StepLog:
    """Trains every parameter that requires a gradient, in place, one step per batch.

    Args:
        model: a causal language model of transformers, prepared by `prepare_qat` or `prepare_peft` or dense.
        batches: token ids, int64, (windows, T) each; the next token is predicted everywhere.
        settings: how.
        advance: is told the fraction done.

    Raises:
        ModelError: a loss or gradient is not finite; the message names the step and the first layer concerned.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        optimizer_groups(model, learning_rate=settings.learning_rate), betas=(settings.beta1, settings.beta2)
    )
    steps = len(batches)
    warmup = max(1, round(steps * settings.warmup_share))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, steps - step) / max(1, steps - warmup))
    )
    parameters = list(trainable_parameters(model).values())
    losses, wall, cpu = [], [], []
    model.train()
    for step, batch in enumerate(batches, start=1):
        wall_start, cpu_start = time.perf_counter_ns(), time.process_time_ns()
        ids = batch.to(device)
        with torch.autocast(device.type, dtype=settings.autocast, enabled=settings.autocast is not None):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        value = float(loss.detach())
        if not (isfinite(value) and isfinite(float(norm))):
            raise ModelError(divergence(model, step=step, loss=value))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(value)
        wall.append(time.perf_counter_ns() - wall_start)
        cpu.append(time.process_time_ns() - cpu_start)
        advance(step / steps)
    model.eval()
    return StepLog(loss_nats=tuple(losses), wall_ns=tuple(wall), cpu_ns=tuple(cpu))


def divergence(model: nn.Module, *, step: int, loss: float) -> str:
    """One line that names the step and the first weight that is not finite, or else the first gradient."""
    values = [("weight", name, parameter.detach()) for name, parameter in model.named_parameters()]
    gradients = [("gradient", name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    for what, name, tensor in (*values, *gradients):
        if not bool(torch.isfinite(tensor).all()):
            return f"step {step}: loss {loss:g}, {what} of {name} is not finite; lower the learning rate"
    return f"step {step}: loss {loss:g} with finite weights; lower the learning rate or compute in float32"
