"""The commands, and the parser of a command line.

A command is the module of its name in this package, whose `add_arguments` says what it takes. Only the command that is
called is imported, so that help and usage errors of the others cost nothing, and none of them waits for torch.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

from lords_bench.cli.command import Parser, add_command
from lords_bench.version import __version__

# What the help says of each.
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "bench": "run a suite, keep its records, write a report: accuracy, latency, lifecycle, cost",
        "quantize": "quantize a model and write it",
        "eval": "measure one model, quantized or not",
        "train": "train a model with quantized weights: all of it (qat) or its scales (peft)",
        "report": "rebuild the pages from their records",
        "export": "write records as a table (CSV), or latency records as pytest-benchmark's JSON",
        "env": "show this machine, and what it means for numbers measured on it",
        "testbed": "train and judge the model that ships with the project",
        "kernels": "read the kernels' machine code, check them on a GPU or in an emulator, or profile a product in it",
        "explain": "say which kernel and configuration serve a product, and why",
        "tune": "find the fastest configuration of each kernel on this machine",
        "gate": "compare this tree with its baseline: machine code, accuracy, latency",
        "gpu": "spend a short visit to a GPU well: check, time, tune, quantize, train, report",
    }
)


def build_parser(argv: Sequence[str] | None = None) -> Parser:
    """The parser of `lords-bench`; `arguments.run` is the command's function.

    Args:
        argv: what will be parsed: the arguments of other commands than its own are left out; None adds all.
    """
    parser = Parser(
        prog="lords-bench",
        description="Judge LoRDS, low-bit weights with a continuous low-rank scale, against its baselines.",
        epilog="Start with 'lords-bench bench': it needs no GPU, no network and no arguments.",
    )
    parser.add_argument("--version", action="version", version=f"lords_bench {__version__}")
    commands = parser.add_commands("COMMAND")
    called = next((word for word in argv or () if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = add_command(commands, name, summary)
        if argv is None or name == called:
            import_module(f"lords_bench.cli.{name}").add_arguments(command)
    return parser
