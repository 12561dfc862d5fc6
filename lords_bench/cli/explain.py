"""`lords-bench explain M N K`: which kernel and configuration serve a product, and why. Needs no GPU."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lords_bench.cli.command import Parser
from lords_bench.errors import UsageError
from lords_bench.options import BIT_COUNT, COUNT, argument, option

if TYPE_CHECKING:
    from lords_bench.products.lookup import Entries
    from lords_bench.records.tuned import Machine, Problem

FloatDtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainSettings:
    """Names kernel, configuration, where they come from, the measured time, its margin over the default and the date.

    They come from an exact entry of a table, from the nearest, or from the formula. Where no exact entry holds, the
    fields in which the closest differs are named.
    """

    m: int = argument("tokens", COUNT)
    n: int = argument("out features", COUNT)
    k: int = argument("in features", COUNT)
    bits: int = option("bits per code", BIT_COUNT, default=4)
    rank: int = option("rank of the scale", COUNT, default=16)
    block: int | None = option(
        "ask about a block-wise baseline with G inputs per scale", COUNT, metavar="G", default=None
    )
    zero_points: bool = option("its blocks have zero points: integers, not NF", default=False)
    dtype: FloatDtype = option("of activations", default="bfloat16")
    scale_dtype: FloatDtype = option("of the factors as stored", default="float16")
    device: str | None = option("a GPU, such as H200 (default: this machine's)", metavar="NAME", default=None)
    tables: Path | None = option("folder of tables (default: shipped and the user's)", metavar="DIR", default=None)


def add_arguments(parser: Parser) -> None:
    parser.serve(run, ExplainSettings)


def run(settings: ExplainSettings) -> int:
    """Print the explanation; 0.

    Raises:
        UsageError: a GPU that no table is for.
        StoreError: a table cannot be read.
    """
    from lords_bench.kernels.common.without_memory import any_without_memory
    from lords_bench.products.active import entries_of
    from lords_bench.products.keys import key_of
    from lords_bench.products.registry import KERNELS
    from lords_bench.products.route import found_for
    from lords_bench.products.tables import read_tables
    from lords_bench.terminal import Console
    from lords_bench.tuning.explain import explanation, set_aside
    from lords_bench.tuning.kernel_spaces import kernel_space

    if settings.tables is not None and not settings.tables.is_dir():
        raise UsageError(f"no folder {str(settings.tables)!r} of tables; leave --tables out for the shipped ones")
    tables = read_tables(None if settings.tables is None else (settings.tables,))
    entries = entries_of(tables)
    machine = _machine(settings.device, entries)
    problem = _asked(settings)
    found = found_for(problem, any_without_memory(problem), machine, entries)
    lines = explanation(
        found,
        entries=entries,
        problem=problem,
        machine=machine,
        key_of=lambda kernel: key_of(kernel, problem, machine),
        rule=lambda kernel: kernel_space(kernel, problem, machine).default if KERNELS[kernel].tuning else (),
    )
    console = Console()
    for line in (*lines, *set_aside(tables)):
        console.print(f"{line.label:14} {line.text}", highlight=False, soft_wrap=True)
    return 0


def _asked(settings: ExplainSettings) -> "Problem":
    from lords_bench.tuning.problems import block_problems, lords_problem

    m, n, k, bits = settings.m, settings.n, settings.k, settings.bits
    if settings.block is None:
        if settings.zero_points:
            raise UsageError("--zero-points is about a block-wise baseline; give --block as well")
        problem = lords_problem(
            m=m, n=n, k=k, bits=bits, rank=settings.rank, x_dtype=settings.dtype, scale_dtype=settings.scale_dtype
        )
    else:
        both = block_problems(m=m, n=n, k=k, bits=bits, block=settings.block, x_dtype=settings.dtype)
        problem = next(found for found in both if found.zero_points == settings.zero_points)
        problem = replace(problem, scale_dtype=settings.scale_dtype)
    return problem


def _machine(name: str | None, entries: "Entries") -> "Machine":
    import torch

    from lords_bench.products.keys import machine_of
    from lords_bench.tuning.explain import named_machine

    if name is not None:
        return named_machine(entries, name)
    if not torch.cuda.is_available():
        known = sorted({entry.key.machine.gpu for entry in entries.all()})
        raise UsageError(
            f"no GPU here; name one with --device, such as H200 (tables know: {', '.join(known) or 'none yet'})"
        )
    machine = machine_of(torch.empty(0, device="cuda").device)
    assert machine is not None
    return machine
