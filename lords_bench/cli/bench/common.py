"""What the suites' commands have in common: options, the file of records, the pages at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lords_bench.cli.models import DEVICE, DTYPE, Dtype
from lords_bench.cli.output import say
from lords_bench.cli.report import OUT, rebuild, record_path, results_name
from lords_bench.options import BIT_COUNTS, names, option
from lords_bench.quant import BITS, PRESETS
from lords_bench.records.environment import Device, Environment
from lords_bench.records.store import NounStore
from lords_bench.terminal import Console

Store = TypeVar("Store", bound=NounStore[Any])

FRESH = "measure again what is complete already"
METHODS = f"only these: {', '.join(PRESETS)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchSettings:
    """What every suite takes.

    Attributes:
        command: the command line, for the records.
    """

    device: Device | None = option(DEVICE, default=None)
    only_list: bool = option("list the cases and stop", flag="--list", default=False)
    out: Path = option(OUT, metavar="DIR", default=Path("reports"))
    name: str | None = option("of this device's folders in it (default: cpu-… or the GPU's name)", default=None)
    no_page: bool = option("keep records only; 'lords-bench report' makes the pages", default=False)
    command: str = "lords-bench bench"


@dataclass(frozen=True, kw_only=True, slots=True)
class GridSettings(BenchSettings):
    """What suites take that have a quick and a full grid of cases."""

    full: bool = option("every case, where the quick run has some; takes an hour", default=False)
    fresh: bool = option(FRESH, default=False)
    bits: tuple[int, ...] | None = option(f"only these of {', '.join(map(str, BITS))}", BIT_COUNTS, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelGridSettings(GridSettings):
    """What suites take that work on a model."""

    methods: tuple[str, ...] | None = option(METHODS, names, default=None)
    model: str | None = option(
        "a Hugging Face model directory or hub name (default: the testbed)", metavar="DIR|NAME", default=None
    )
    dtype: Dtype = option(DTYPE, default="float32")


def records_of(settings: BenchSettings, environment: Environment, suite: str) -> Path:
    """Where the records of this device lie.

    Raises:
        UsageError: `--name` is no name of a folder within another.
    """
    return record_path(settings.out, results_name(settings.name, environment), suite)


@contextmanager
def opened(store: Store, console: Console) -> Iterator[Store]:
    """The store, open for writing; what it holds that is not believed is told."""
    with store:
        for line in store.rejected:
            console.print(f"{store.path}, line {line.line}, is not used: {line.reason}", style="yellow")
        yield store


def pages_of(settings: BenchSettings, records: Path) -> tuple[Path, ...]:
    """The pages of a record file, written anew; none with `--no-page`."""
    return () if settings.no_page else rebuild(settings.out, records.parent.name, records.stem)


def say_pages(settings: BenchSettings, records: Path) -> None:
    """Write the pages of a record file and name those that are read."""
    for path in pages_of(settings, records):
        if path.suffix in {".md", ".html"}:
            say(f"Report: {path}")
