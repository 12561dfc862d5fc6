"""`lords-bench testbed train` and `testbed card`: train and judge the model that ships with the project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lords_bench.cli.command import Parser, add_command
from lords_bench.cli.output import complain, say
from lords_bench.errors import UsageError
from lords_bench.options import COUNT, SECONDS, argument, option


@dataclass(frozen=True, kw_only=True, slots=True)
class TestbedSettings:
    """Trains tokenizer and model from the running interpreter's standard library; an hour on 2 cores."""

    out: Path = option("folder to write; an interrupted run resumes there", metavar="DIR")
    size: Literal["shipped", "large"] = option("large: 75 million weights", default="shipped")
    seconds: float | None = option("for everything; on all Python source found here", SECONDS, default=None)
    max_steps: int | None = option("optimiser steps (default: once over the text)", COUNT, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class CardSettings:
    """Judges a trained model on held-out text."""

    model: Path = argument("folder that 'testbed train' wrote", metavar="DIR")


def add_arguments(parser: Parser) -> None:
    """Add the two commands."""
    parts = parser.add_commands("COMMAND")
    train = add_command(parts, "train", "train it from the standard library's source")
    train.serve(train_testbed, TestbedSettings, resumes=True)
    card = add_command(parts, "card", "judge it and write its card")
    card.serve(write_card, CardSettings)


def train_testbed(settings: TestbedSettings) -> int:
    """Trains the testbed's model, or a larger one in a stated time.

    Raises:
        UsageError: a large model without a time, or a time and a number of steps.
    """
    from lords_bench.suites.testbed.train import TestbedRecipe, train_testbed

    if settings.max_steps is not None and (settings.size == "large" or settings.seconds is not None):
        raise UsageError("--max-steps belongs to a training without --seconds; leave one out")
    if settings.size == "large" or settings.seconds is not None:
        from lords_bench.suites.testbed.timed import LARGE, train_for

        if settings.seconds is None:
            raise UsageError("--size large is trained in a stated time; give --seconds")
        recipe = LARGE if settings.size == "large" else TestbedRecipe()
        say(train_for(settings.out, recipe, settings.seconds))
        return 0
    say(train_testbed(settings.out, TestbedRecipe(), max_steps=settings.max_steps, notice=complain))
    return 0


def write_card(settings: CardSettings) -> int:
    """Judges a trained testbed model and writes its card."""
    from lords_bench.suites.testbed.card import write_card

    say(write_card(settings.model))
    return 0
