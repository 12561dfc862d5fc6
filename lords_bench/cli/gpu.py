"""`lords-bench gpu`: the arguments of a visit, what is printed of it, and taking over what one brought back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lords_bench.cli.command import Parser
from lords_bench.cli.output import finish_output, say
from lords_bench.errors import StoreError, UsageError
from lords_bench.options import MINUTES, Whole, names, option
from lords_bench.records.lines import folder_lock, store_error
from lords_bench.visit.pack import go_on_from, pack
from lords_bench.visit.plan import PARTS, STEPS, VisitDevice, plan
from lords_bench.visit.steps import Ending, visit


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSettings:
    """Runs the steps of a visit, each in a process and a time limit of its own.

    Exit code 0: no step failed (one may have been cut off by its limit); 1: one did; the others ran.
    With --take, on any machine: what a visit brought back is checked and put below the folder of reports.
    """

    minutes: float = option("for everything", MINUTES, default=9.0)
    part: int | None = option("one of three, each for about 9 minutes", Whole(most=len(PARTS)), default=None)
    out: Path | None = option("folder (default: visit; with --take: reports)", metavar="DIR", default=None)
    earlier: Path | None = option("go on from an earlier visit", flag="--from", metavar="DIR|FILE", default=None)
    pack: Path | None = option("an archive of all that is found, always up to date", default=None)
    take: Path | None = option("take over what a visit brought back, and stop", metavar="DIR|FILE", default=None)
    steps: tuple[str, ...] | None = option(f"only these of {', '.join(STEPS)}", names, default=None)
    device: VisitDevice = option("what is visited", default="cuda")


def add_arguments(parser: Parser) -> None:
    parser.serve(run, GpuSettings, resumes=True)


_MARKS: Mapping[Ending, str] = MappingProxyType(
    {"ok": "done", "failed": "FAILED", "cut": "cut off", "skipped": "left out"}
)


def run(settings: GpuSettings) -> int:
    """Visit, then print how every step ended and where things lie; 1 if a step failed.

    Raises:
        UsageError: an unknown step, no time, no GPU, or nothing to take.
        StoreError: the folder cannot be written, another visit uses it, or an archive is damaged.
        RecordError: what is to be taken over is not believed.
    """
    if settings.take is not None:
        return _take(settings.take, settings)
    chosen = _chosen(settings)
    out = (settings.out or Path("visit")).absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error("write", out, error) from None
    with folder_lock(out):
        return _visit(settings, out, chosen)


def _visit(settings: GpuSettings, out: Path, chosen: tuple[str, ...] | None) -> int:
    if settings.earlier is not None:
        go_on_from(settings.earlier, out)
    refused: list[str] = []

    def keep() -> None:
        if settings.pack is None:
            return
        try:
            pack(out, settings.pack)
        # The visit goes on: what it finds lies in its folder too.
        except StoreError as error:
            if str(error) not in refused:
                refused.append(str(error))
                _say(str(error))

    steps = plan(settings.device, out, chosen=chosen, part=settings.part)
    results = visit(steps, out, minutes=settings.minutes, say=_say, meanwhile=keep)
    keep()
    _say("")
    for result in results:
        _say(f"{_MARKS[result.ending]:9} {result.name:9} {result.seconds:6.0f} s  {result.why or ''}".rstrip())
    _say(f"Logs, records, tables and pages: {out}")
    return 1 if any(result.ending == "failed" for result in results) else 0


def _chosen(settings: GpuSettings) -> tuple[str, ...] | None:
    unknown = [name for name in settings.steps or () if name not in STEPS]
    if unknown:
        raise UsageError(f"unknown step {unknown[0]!r}; known: {', '.join(STEPS)}")
    if settings.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("torch sees no GPU; try the script with --device fake, or --device cpu")
    return settings.steps


def _take(brought: Path, settings: GpuSettings) -> int:
    from lords_bench.source import package_sha256
    from lords_bench.visit.take import take

    taken = take(brought, settings.out or Path("reports"), fake_too=settings.device == "fake")
    for path, count in taken.lines.items():
        _say(f"{count:6} new lines in {path}")
    here = package_sha256()
    other = sorted(source[:12] for source in taken.sources if source != here)
    if other:
        _say(f"Made with other source than this checkout's {here[:12]}: {', '.join(other)}")
    else:
        _say(f"Made with the very source of this checkout, {here[:12]}")
    _say("Write the pages by 'lords-bench report'")
    return 0


def _say(line: str) -> None:
    say(line)
    finish_output()
