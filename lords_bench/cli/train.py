"""`lords-bench train qat|peft MODEL --data FILE…`: train a model with quantized weights."""

import argparse
import logging
from typing import TYPE_CHECKING

from lords_bench.spec.numbers import BIT_COUNT, COUNT, EPOCHS, FROM_ZERO, POSITIVE, SEED, WINDOW

if TYPE_CHECKING:
    from lords_bench.spec.training import TrainSettings

TEXT = """Trains any Hugging Face causal language model with quantized weights and writes what came out below --out.
An interrupted run goes on with the same command. On several GPUs: accelerate launch -m lords_bench train …"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `train` with its two modes."""
    parser = subparsers.add_parser(
        "train",
        help="train a model with quantized weights: all of it (qat) or its scales (peft)",
        description=TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    modes = parser.add_subparsers(required=True, metavar="MODE", dest="mode")
    qat = modes.add_parser("qat", help="weights and scales together, rounded in every forward")
    qat.add_argument("--method", default="lords", help="lords, block-opt, nf4 … (default: %(default)s)")
    peft = modes.add_parser("peft", help="codes frozen; only B and A, or an additive adapter")
    peft.add_argument("--method", default="lords", help="lords, qlora, loftq or qpissa (default: %(default)s)")
    for mode, learning_rate in ((qat, 1e-4), (peft, 5e-3)):
        _add_arguments(mode, learning_rate)


def run(arguments: argparse.Namespace) -> int:
    """Trains, and names what was written."""
    from lords_bench.cli.output import complain, say

    # transformers imports bitsandbytes where it is installed, which then warns of kernels that nothing here calls.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from lords_bench.training.trainer import train_model

    result = train_model(settings_of(arguments), notice=complain)
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


def settings_of(arguments: argparse.Namespace) -> "TrainSettings":
    """The settings of a command line."""
    from lords_bench.spec.training import TrainSettings

    return TrainSettings(
        mode=arguments.mode,
        model=arguments.model,
        out=arguments.out,
        data=tuple(arguments.data),
        eval_data=tuple(arguments.eval_data),
        method=arguments.method,
        bits=arguments.bits,
        block=arguments.block,
        rank=arguments.rank,
        learning_rate=arguments.lr,
        scale_learning_rate=arguments.scale_lr,
        steps=arguments.steps,
        epochs=arguments.epochs,
        batch=arguments.batch,
        accumulate=arguments.accumulate,
        window_tokens=arguments.window,
        warmup_steps=arguments.warmup_steps,
        bf16=arguments.bf16,
        seed=arguments.seed,
        save_steps=arguments.save_steps,
        eval_steps=arguments.eval_steps,
        use_cpu=arguments.device == "cpu",
    )


def _add_arguments(parser: argparse.ArgumentParser, learning_rate: float) -> None:
    parser.add_argument("model", metavar="MODEL", help="a Hugging Face model directory or hub name")
    parser.add_argument("--data", nargs="+", required=True, metavar="FILE", help='text, or .jsonl with a "text" a line')
    parser.add_argument("--eval-data", nargs="+", default=(), metavar="FILE", help="held-out text to evaluate on")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results; goes on where it stopped")
    parser.add_argument("--bits", type=BIT_COUNT, default=4, help="bits per code: 4, 3 or 2 (default: %(default)s)")
    parser.add_argument("--block", type=COUNT, default=64, help="inputs per scale, or storage of it (default: 64)")
    parser.add_argument("--rank", type=COUNT, help="rank of the scale or adapter (default: parity with the block)")
    parser.add_argument("--lr", type=POSITIVE, default=learning_rate, help="learning rate (default: %(default)s)")
    parser.add_argument("--scale-lr", type=POSITIVE, metavar="LR", help="of scales, B and A, where it differs")
    parser.add_argument("--steps", type=COUNT, help="optimizer steps (default: by --epochs)")
    parser.add_argument("--epochs", type=EPOCHS, default=1.0, help="passes over the text (default: %(default)s)")
    parser.add_argument("--batch", type=COUNT, default=4, help="windows per device and forward (default: %(default)s)")
    parser.add_argument("--accumulate", type=COUNT, default=1, help="forwards per step (default: %(default)s)")
    parser.add_argument("--window", type=WINDOW, default=512, help="tokens per window (default: %(default)s)")
    parser.add_argument("--warmup-steps", type=FROM_ZERO, default=10, help="steps of warm-up (default: %(default)s)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16, masters stay float32")
    parser.add_argument("--seed", type=SEED, default=0, help="of the text's order and random starts")
    parser.add_argument(
        "--save-steps", type=COUNT, default=100, help="steps between checkpoints (default: %(default)s)"
    )
    parser.add_argument(
        "--eval-steps", type=COUNT, default=100, help="steps between evaluations (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: cuda where there is one)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=run, resumes=True)
