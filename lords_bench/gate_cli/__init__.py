"""`lords-bench gate`: collects what this tree gives, hands it to `lords_bench.gate`, prints and writes the answer.

One module per layer collects; none of them judges. Exit codes: 0 nothing is worse, 1 a regression, 2 something cannot
be judged, 3 a baseline is missing.
"""

import argparse
from pathlib import Path

from lords_bench.errors import UsageError
from lords_bench.spec.numbers import BIT_COUNTS, WORKERS, Whole

DEFAULT_OUT = Path("reports")
# A process is one sample, and takes a minute.
PROCESSES = Whole(least=3, most=1000)
RETRIES = Whole(least=0, most=1000)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; its `run` default takes the parsed arguments and returns the exit code."""
    parser = subparsers.add_parser(
        "gate",
        help="compare this tree with its baseline: machine code, accuracy, latency",
        description=(
            "Compares this tree with its baseline. Without a layer: static and accuracy, which need no GPU.\n"
            "Exit code 0: nothing is worse; 1: a regression; 2: it cannot be judged; 3: there is no baseline."
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    layers = parser.add_argument_group("layers")
    layers.add_argument("--static", action="store_true", help="machine code of every kernel, against the pins")
    layers.add_argument(
        "--accuracy", action="store_true", help="the quick accuracy suite, against committed records or a commit"
    )
    layers.add_argument(
        "--latency", action="store_true", help="fresh processes of this tree and of a baseline, on this machine"
    )
    out = parser.add_argument_group("output")
    out.add_argument("--markdown", type=Path, metavar="FILE", help="write the comment for a pull request")
    out.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML, a test case per benchmark")
    out.add_argument("--link-base", type=str, default="", metavar="URL", help="what links in the comment begin with")
    out.add_argument("--strict", action="store_true", help="warnings fail as well")
    out.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="folder of pins and records")
    static = parser.add_argument_group("static layer")
    static.add_argument(
        "--pin", action="store_true", help="pin what this tree compiles to, and print what that changes"
    )
    static.add_argument("--only", type=str, metavar="TEXT", default="", help="kernels whose name contains TEXT")
    static.add_argument("--targets", metavar="NAME", nargs="+", help="architectures, as sm_90 or gfx942")
    static.add_argument(
        "--workers", type=WORKERS, metavar="N", help="compile processes at a time (default: one per core)"
    )
    static.add_argument("--cache", type=Path, metavar="DIR", help="where compiled results are kept")
    accuracy = parser.add_argument_group("accuracy layer")
    accuracy.add_argument("--device-name", default="cpu", metavar="NAME", help="folder of the baseline's records")
    accuracy.add_argument("--head", type=Path, metavar="FILE", help="records of this tree, instead of measuring now")
    accuracy.add_argument("--methods", type=str, default="", metavar="NAME,…", help="cases of these methods only")
    accuracy.add_argument("--bits", type=BIT_COUNTS, metavar="N,…", help="cases of these numbers of bits only")
    sides = parser.add_argument_group("baseline of accuracy and latency")
    sides.add_argument(
        "--baseline",
        metavar="REF|FILE",
        help="commit to measure here, or a file of records (default: committed records for accuracy, main for latency)",
    )
    sides.add_argument(
        "--believe",
        type=str,
        default="",
        metavar="ID,…",
        help="cases whose gain is too large to be believed, and that you have measured again",
    )
    sides.add_argument(
        "--measure-anyway", action="store_true", help="also what is proven from the source to be the same"
    )
    latency = parser.add_argument_group("latency layer")
    latency.add_argument(
        "--processes", type=PROCESSES, default=3, metavar="N", help="fresh processes a side (default: 3)"
    )
    latency.add_argument(
        "--retries", type=RETRIES, default=1, metavar="N", help="times to time again what is not settled"
    )
    latency.add_argument(
        "--cases", type=str, default="", metavar="ID,…", help="cases of the latency suite (default: all)"
    )
    latency.add_argument("--fake", action="store_true", help="a fake GPU's made-up numbers, to try the software")
    latency.add_argument("--save", type=Path, metavar="FILE", help="append this tree's records, to pin them")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=run, resumes=True)


def run(arguments: argparse.Namespace) -> int:
    """Collect, judge, print and write; returns the exit code.

    Raises:
        UsageError: arguments that do not fit together.
        StoreError: an output file cannot be written.
    """
    from lords_bench.gate_cli import accuracy_layer, latency_layer, static_layer
    from lords_bench.gate_cli.output import report

    if arguments.pin:
        if arguments.accuracy or arguments.latency:
            raise UsageError("--pin renews machine code only; renew other baselines with 'lords-bench bench'")
        return static_layer.pin(arguments)
    if arguments.accuracy and arguments.latency and arguments.baseline and Path(arguments.baseline).is_file():
        raise UsageError(f"--baseline {arguments.baseline} is a file of one layer's records; run the layers one by one")
    every = not (arguments.static or arguments.accuracy or arguments.latency)
    results = []
    if arguments.static or every:
        results += static_layer.results(arguments)
    if arguments.accuracy or every:
        results.append(accuracy_layer.result(arguments))
    if arguments.latency:
        results.append(latency_layer.result(arguments))
    return report(results, arguments)
