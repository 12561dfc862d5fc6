"""`lords-bench gpu`: the arguments of a visit, and what is printed of it."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from lords_bench.errors import UsageError
from lords_bench.visit import STEPS, Ending, VisitDevice, copy_earlier, plan, visit


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; its `run` default takes the parsed arguments and returns the exit code."""
    parser = subparsers.add_parser(
        "gpu",
        help="spend a short visit to a GPU well: check, time, tune, report",
        description="Runs env, check, quick, tune, latency and report, each in a process and a time limit of its own.\n"
        "Exit code 0: no step failed (one may have been cut off by its limit); 1: one did; the others ran.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=9.0, metavar="N", help="for everything (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("visit"), metavar="DIR", help="folder (default: visit)")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="DIR", help="go on from what that folder holds")
    parser.add_argument("--steps", metavar="NAME,…", help=f"only these of {', '.join(STEPS)}")
    parser.add_argument("--device", choices=get_args(VisitDevice), default="cuda", help="(default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=run, resumes=True)


_MARKS: Mapping[Ending, str] = MappingProxyType(
    {"ok": "done", "failed": "FAILED", "cut": "cut off", "skipped": "left out"}
)


def run(arguments: argparse.Namespace) -> int:
    """Visit, then print how every step ended and where things lie; 1 if a step failed.

    Raises:
        UsageError: an unknown step, no time, or no GPU.
        StoreError: the folder cannot be written.
    """
    chosen = STEPS if arguments.steps is None else tuple(name for name in arguments.steps.split(",") if name)
    unknown = [name for name in chosen if name not in STEPS]
    if unknown:
        raise UsageError(f"unknown step {unknown[0]!r}; known: {', '.join(STEPS)}")
    if arguments.minutes <= 0:
        raise UsageError(f"--minutes is {arguments.minutes:g}; give a number above 0")
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("torch sees no GPU; try the script with --device fake, or --device cpu")
    out: Path = arguments.out.resolve()
    if arguments.earlier is not None:
        copy_earlier(arguments.earlier, out)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    results = visit(plan(arguments.device, out, chosen=chosen), out, minutes=arguments.minutes, say=say)
    say("")
    for result in results:
        say(f"{_MARKS[result.ending]:9} {result.name:8} {result.seconds:6.0f} s  {result.why or ''}".rstrip())
    say(f"Logs, records, tables and pages: {out}")
    return 1 if any(result.ending == "failed" for result in results) else 0
