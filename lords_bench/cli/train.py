"""`lords-bench train qat|peft MODEL --data FILE…`: train a model with quantized weights."""

import argparse
import logging

from lords_bench.cli.command import Parser, add_command
from lords_bench.cli.output import complain, say
from lords_bench.options import add_options, settings_of
from lords_bench.training.settings import TrainSettings

TEXT = """Trains any Hugging Face causal language model with quantized weights and writes what came out below --out.
An interrupted run goes on with the same command. On several GPUs: accelerate launch -m lords_bench train …"""


def add_arguments(parser: Parser) -> None:
    """Add the two modes."""
    parser.description = TEXT
    modes = parser.add_commands("MODE")
    for name, text, learning_rate in (
        ("qat", "weights and scales together, rounded in every forward", 1e-4),
        ("peft", "codes frozen; only B and A, or an additive adapter", 5e-3),
    ):
        mode = add_command(modes, name, text)
        add_options(mode, TrainSettings)
        mode.add_argument(
            "--device", choices=("cpu", "cuda"), help="where to compute (default: cuda where there is one)"
        )
        mode.finish(run, resumes=True)
        mode.set_defaults(mode=name, learning_rate=learning_rate)


def run(arguments: argparse.Namespace) -> int:
    """Trains, and names what was written."""
    # transformers imports bitsandbytes where it is installed, which then warns of kernels that nothing here calls.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from lords_bench.training.trainer import train_model

    result = train_model(train_settings(arguments), notice=complain)
    losses = "" if result.eval_loss is None else f", evaluation loss {result.eval_loss:.4f}"
    say(
        f"{result.steps} steps, {result.trained_numbers:,} numbers trained, {result.bits_per_weight:.3f} bits per "
        f"weight, training loss {result.train_loss:.4f}{losses}"
    )
    for path in result.outputs:
        say(path)
    if result.outputs:
        say(f"Measure it: lords-bench eval {result.outputs[-1]}")
    return 0


def train_settings(arguments: argparse.Namespace) -> TrainSettings:
    """The settings of a command line."""
    return settings_of(TrainSettings, arguments, use_cpu=arguments.device == "cpu")
