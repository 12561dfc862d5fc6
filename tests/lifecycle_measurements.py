"""Measurements with made-up losses, importable by the processes that a lifecycle run starts."""

from lifecycle_builders import make_scores, make_training
from lords_bench.errors import ModelError
from lords_bench.records import LifecycleSamples
from lords_bench.suites.lifecycle.cases import Group

UNTRAINED = make_training(trainable_numbers=0, step_loss_nats=(), step_wall_ns=(), step_cpu_ns=(), step_tokens=0)


def scored(loss: float) -> LifecycleSamples:
    """Validation loss as given; the test text says the opposite, so that choosing by it would be seen."""
    validation = make_scores(split="validation", window_nll_nats=(loss, loss, loss))
    test = make_scores(window_nll_nats=(500 - loss,) * 3)
    return make_training(scores=(validation, test))


class Made:
    """A measurement with losses made up by learning rate; None diverges."""

    def __init__(self, losses: dict[float, float | None]) -> None:
        self.losses = losses
        self.trained: list[tuple[float, int]] = []

    def reference(self) -> LifecycleSamples:
        return UNTRAINED

    def start(self, group: Group) -> LifecycleSamples:
        del group
        return UNTRAINED

    def train(self, group: Group, *, learning_rate: float, seed: int) -> LifecycleSamples:
        del group
        self.trained.append((learning_rate, seed))
        loss = self.losses[learning_rate]
        if loss is None:
            raise ModelError("step 2: loss nan\nand more")
        return scored(loss)


def made() -> Made:
    return Made({1e-4: 120.0, 1e-3: 100.0, 1e-2: 110.0})


def die() -> Made:
    raise SystemExit(7)


def refuse(message: str) -> Made:
    raise ModelError(message)
