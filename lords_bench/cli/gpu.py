"""`lords-bench gpu`: the arguments of a visit, what is printed of it, and taking over what one brought back."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from lords_bench.errors import StoreError, UsageError
from lords_bench.records.lines import folder_lock, store_error
from lords_bench.spec.numbers import MINUTES, Whole
from lords_bench.text import visible
from lords_bench.visit.pack import go_on_from, pack
from lords_bench.visit.plan import PARTS, STEPS, VisitDevice, plan
from lords_bench.visit.steps import Ending, visit


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; its `run` default takes the parsed arguments and returns the exit code."""
    parser = subparsers.add_parser(
        "gpu",
        help="spend a short visit to a GPU well: check, time, tune, quantize, train, report",
        description="Runs the steps of a visit, each in a process and a time limit of its own: "
        f"{', '.join(STEPS)}.\n"
        "Exit code 0: no step failed (one may have been cut off by its limit); 1: one did; the others ran.\n"
        "With --take, on any machine: what a visit brought back is checked and put below the folder of reports.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=MINUTES, default=9.0, metavar="N", help="for everything (default: 9)")
    parser.add_argument("--part", type=Whole(most=len(PARTS)), help="one of three, each for about 9 minutes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (default: visit; with --take: reports)")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="DIR|FILE", help="go on from an earlier visit")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="an archive of all that is found, always up to date")
    parser.add_argument("--take", type=Path, metavar="DIR|FILE", help="take over what a visit brought back, and stop")
    parser.add_argument("--steps", metavar="NAME,…", help="only these steps")
    parser.add_argument("--device", choices=get_args(VisitDevice), default="cuda", help="(default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=run, resumes=True)


_MARKS: Mapping[Ending, str] = MappingProxyType(
    {"ok": "done", "failed": "FAILED", "cut": "cut off", "skipped": "left out"}
)


def run(arguments: argparse.Namespace) -> int:
    """Visit, then print how every step ended and where things lie; 1 if a step failed.

    Raises:
        UsageError: an unknown step, no time, no GPU, or nothing to take.
        StoreError: the folder cannot be written, another visit uses it, or an archive is damaged.
        RecordError: what is to be taken over is not believed.
    """
    if arguments.take is not None:
        return _take(arguments)
    chosen = _chosen(arguments)
    out: Path = (arguments.out or Path("visit")).absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error("write", out, error) from None
    with folder_lock(out):
        return _visit(arguments, out, chosen)


def _visit(arguments: argparse.Namespace, out: Path, chosen: tuple[str, ...] | None) -> int:
    if arguments.earlier is not None:
        go_on_from(arguments.earlier, out)
    refused: list[str] = []

    def keep() -> None:
        if arguments.pack is None:
            return
        try:
            pack(out, arguments.pack)
        # The visit goes on: what it finds lies in its folder too.
        except StoreError as error:
            if str(error) not in refused:
                refused.append(str(error))
                _say(str(error))

    steps = plan(arguments.device, out, chosen=chosen, part=arguments.part)
    results = visit(steps, out, minutes=arguments.minutes, say=_say, meanwhile=keep)
    keep()
    _say("")
    for result in results:
        _say(f"{_MARKS[result.ending]:9} {result.name:9} {result.seconds:6.0f} s  {result.why or ''}".rstrip())
    _say(f"Logs, records, tables and pages: {out}")
    return 1 if any(result.ending == "failed" for result in results) else 0


def _chosen(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    chosen = None if arguments.steps is None else tuple(name for name in arguments.steps.split(",") if name)
    unknown = [name for name in chosen or () if name not in STEPS]
    if unknown:
        raise UsageError(f"unknown step {unknown[0]!r}; known: {', '.join(STEPS)}")
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("torch sees no GPU; try the script with --device fake, or --device cpu")
    return chosen


def _take(arguments: argparse.Namespace) -> int:
    from lords_bench.timing.probe import source_sha256
    from lords_bench.version import PACKAGE_FOLDER
    from lords_bench.visit.take import take

    taken = take(arguments.take, arguments.out or Path("reports"), fake_too=arguments.device == "fake")
    for path, count in taken.lines.items():
        _say(f"{count:6} new lines in {path}")
    here = source_sha256(PACKAGE_FOLDER)
    other = sorted(source[:12] for source in taken.sources if source != here)
    if other:
        _say(f"Made with other source than this checkout's {here[:12]}: {', '.join(other)}")
    else:
        _say(f"Made with the very source of this checkout, {here[:12]}")
    _say("Write the pages by 'lords-bench report'")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{visible(line)}\n")
    sys.stdout.flush()
