"""The arguments of every command. Each command's function is imported when it is called."""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, get_args

from lords_bench.cli import explain, export, gate, gpu, kernels, train, tune
from lords_bench.cli.bench import cost, latency
from lords_bench.cli.lists import names
from lords_bench.spec.numbers import BIT_COUNT, BIT_COUNTS, COUNT, SECONDS
from lords_bench.spec.quant import BITS, PRESETS, QuantSpec, ScaleDtype
from lords_bench.version import __version__

DEFAULT_OUT = "reports"
_DEFAULTS = QuantSpec()


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything else here, where argparse would print the usage first.

    An empty value is refused too: it is a variable of a script that was never set, and would pass for the default or,
    as a path, for the working folder. An option for which it means something says so by `type=str`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", None, _given)
        self.register("type", Path, _given_path)

    def add_subparsers(self, **options: Any) -> Any:
        """What argparse does; the words of a command are for that command to judge, also empty ones."""
        action = super().add_subparsers(**options)
        action.type = str
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What argparse does, but for `--option=--`, of which Python 3.11 makes an empty list, whatever its type."""
        for argument in sys.argv[1:] if args is None else args:
            name, _, value = argument.partition("=")
            if value == "--" and name.startswith("--"):
                self.error(f"argument {name}: '--' is no value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"lords-bench: {message}; see '{self.prog} --help'\n")


def _given(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is empty; give a value or leave it out")
    return text


def _given_path(text: str) -> Path:
    return Path(_given(text))


def build_parser() -> argparse.ArgumentParser:
    """The parser of `lords-bench`; `arguments.run` is the command's function."""
    parser: argparse.ArgumentParser = _Parser(
        prog="lords-bench",
        description="Judge LoRDS, low-bit weights with a continuous low-rank scale, against its baselines.",
        epilog="Start with 'lords-bench bench': it needs no GPU, no network and no arguments.",
    )
    parser.add_argument("--version", action="version", version=f"lords_bench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _bench(commands)
    _quantize(commands)
    _evaluate(commands)
    train.add_parser(commands)
    _report(commands)
    _export(commands)
    _environment(commands)
    _testbed(commands)
    kernels.add_parser(commands)
    explain.add_parser(commands)
    tune.add_parser(commands)
    gate.add_parser(commands)
    gpu.add_parser(commands)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    function: str,
    summary: str,
    text: str,
    *,
    resumes: bool = False,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=_late(function), resumes=resumes)
    return parser


def _late(function: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        module, _, name = function.partition(":")
        return int(getattr(import_module(f"lords_bench.cli.{module}"), name)(arguments))

    return run


def _bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "bench",
        "bench.accuracy:bench",
        "quantize a model by every method, measure, write a report",
        "Quantizes a model by every method, measures weight error, KL to the unquantized model, bits per byte and\n"
        "choice accuracy, and writes a report. Complete cases are kept: an interrupted run goes on where it stopped.",
        resumes=True,
    )
    parser.add_argument(
        "suite", nargs="?", default="accuracy", help="accuracy, latency, lifecycle, ptq or step (default: accuracy)"
    )
    parser.add_argument("--full", action="store_true", help="every variant on four times the text; takes an hour")
    parser.add_argument("--methods", type=names, metavar="NAME,…", help=f"only these: {', '.join(PRESETS)}")
    parser.add_argument("--bits", type=BIT_COUNTS, metavar="N,…", help=f"only these of {', '.join(map(str, BITS))}")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    parser.add_argument("--fresh", action="store_true", help="measure again what is complete already")
    parser.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help="folder of all reports (default: reports)")
    parser.add_argument(
        "--no-page", action="store_true", help="keep records only; 'lords-bench report' makes the pages"
    )
    parser.add_argument("--name", help="name of this device's folders in it (default: cpu-… or the GPU's name)")
    _model_arguments(parser, positional=False)
    _text_arguments(parser)
    latency.add_arguments(parser)
    cost.add_arguments(parser)


def _quantize(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "quantize",
        "models:quantize",
        "quantize a model and write it",
        "Quantizes every linear layer of a model and writes the packed weights as safetensors.",
    )
    _model_arguments(parser, positional=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; new or empty")
    parser.add_argument("--method", default=_DEFAULTS.method, help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--bits", type=BIT_COUNT, help="4, 3 or 2 (default: what the method's name says, else 4)")
    parser.add_argument("--block", type=COUNT, default=_DEFAULTS.block, help="inputs per scale, or storage of it")
    parser.add_argument("--rank", type=COUNT, help="rank of low-rank scales (default: parity with the block)")
    parser.add_argument("--levels", help="a codebook, nf, int or learned (default: the method's)")
    parser.add_argument("--scale-dtype", default=_DEFAULTS.scale_dtype, choices=get_args(ScaleDtype))
    parser.add_argument("--double-quant", action="store_true", help="scales in 8 bits, as bitsandbytes stores them")
    parser.add_argument("--calibration", metavar="FILE", help="text to calibrate on (default: the testbed's)")


def _evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "eval",
        "models:evaluate",
        "measure one model, quantized or not",
        "Measures bits per byte and choice accuracy of a Hugging Face model, or of a folder that\n"
        "'lords-bench quantize' wrote; with --reference also the KL from that model. Writes no record.",
    )
    _model_arguments(parser, positional=True)
    parser.add_argument("--reference", metavar="DIR|NAME", help="the unquantized model, for the KL")
    parser.add_argument("--full", action="store_true", help="four times the text")
    _text_arguments(parser, calibration=False)


def _report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "report",
        "report:report",
        "rebuild the pages from their records",
        "Rebuilds every page of the folder from its records; the same records give the same bytes.",
    )
    parser.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help="folder of all reports (default: reports)")
    parser.add_argument(
        "--history",
        nargs="?",
        const="kl",
        metavar="METRIC",
        help="write a metric over commits with its changes of level instead: kl (the default), bits_per_byte, "
        "weight_error or latency",
    )


def _export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "export",
        "export:export",
        "write records as a table (CSV), or latency records as pytest-benchmark's JSON",
        "Writes the records of a file as a table with one row each; or, of latency records, those of the newest device "
        "as JSON that 'pytest-benchmark compare' reads.",
    )
    export.add_arguments(parser)


def _environment(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "env",
        "env:environment",
        "show this machine, and what it means for numbers measured on it",
        "Shows this machine: what was found, what is missing, and what that means for trust in a measurement.",
    )
    parser.add_argument("--json", action="store_true", help="what a record says about the machine, as JSON")


def _testbed(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("testbed", help="train and judge the model that ships with the project")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    train = _command(
        parts,
        "train",
        "models:train_testbed",
        "train it from the standard library's source",
        "Trains tokenizer and model from the running interpreter's standard library; an hour on 2 cores.",
        resumes=True,
    )
    train.add_argument("--out", required=True, metavar="DIR", help="folder to write; an interrupted run resumes there")
    train.add_argument("--size", choices=("shipped", "large"), default="shipped", help="large: 75 million weights")
    train.add_argument("--seconds", type=SECONDS, metavar="N", help="for everything; on all Python source found here")
    train.add_argument("--max-steps", type=COUNT, help="optimiser steps (default: once over the text)")
    card = _command(
        parts, "card", "models:write_card", "judge it and write its card", "Judges a trained model on held-out text."
    )
    card.add_argument("model", metavar="DIR", help="folder that 'testbed train' wrote")


def _model_arguments(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    if positional:
        parser.add_argument("model", metavar="MODEL", help="a Hugging Face model directory or hub name")
    else:
        parser.add_argument(
            "--model", metavar="DIR|NAME", help="a Hugging Face model directory or hub name (default: the testbed)"
        )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: cuda where there is one)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="dtype to compute in (default: %(default)s)"
    )


def _text_arguments(parser: argparse.ArgumentParser, *, calibration: bool = True) -> None:
    if calibration:
        parser.add_argument("--calibration", metavar="FILE", help="text to calibrate on (default: the testbed's)")
    parser.add_argument("--tasks", type=names, default=(), metavar="NAME,…", help="lm-eval tasks to run as well")
