"""`lords-bench explain M N K`: which kernel and configuration serve a product, and why. Needs no GPU."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.spec.numbers import BIT_COUNT, COUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    from lords_bench.records.tuned import Choice, Machine, Problem
    from lords_bench.tuning.lookup import Entries

_DTYPES = ("bfloat16", "float16", "float32")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; its `run` default takes the parsed arguments and returns the exit code."""
    parser = subparsers.add_parser(
        "explain",
        help="say which kernel and configuration serve a product, and why",
        description=(
            "Names kernel, configuration, where they come from (exact, nearest, formula), the measured time, its "
            "margin over the default and the date; where no exact entry holds, the fields in which the closest differs."
        ),
    )
    for name, text in (("m", "tokens"), ("n", "out features"), ("k", "in features")):
        parser.add_argument(name, metavar=name.upper(), type=COUNT, help=text)
    parser.add_argument("--bits", type=BIT_COUNT, default=4, help="bits per code (default: 4)")
    parser.add_argument("--rank", type=COUNT, default=16, help="rank of the scale (default: 16)")
    parser.add_argument(
        "--block", type=COUNT, metavar="G", help="ask about a block-wise baseline with G inputs per scale"
    )
    parser.add_argument("--zero-points", action="store_true", help="its blocks have zero points: integers, not NF")
    parser.add_argument("--dtype", choices=_DTYPES, default="bfloat16", help="of activations (default: %(default)s)")
    parser.add_argument(
        "--scale-dtype", choices=_DTYPES, default="float16", help="of the factors as stored (default: %(default)s)"
    )
    parser.add_argument("--device", metavar="NAME", help="a GPU, such as H200 (default: this machine's)")
    parser.add_argument("--tables", type=Path, metavar="DIR", help="folder of tables (default: shipped and the user's)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=run, resumes=False)


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation; 0.

    Raises:
        UsageError: a GPU that no table is for.
        StoreError: a table cannot be read.
    """
    from lords_bench.terminal import Console
    from lords_bench.tuning.active import entries_of
    from lords_bench.tuning.explain import explanation, set_aside
    from lords_bench.tuning.kernel_spaces import SPACES
    from lords_bench.tuning.keys import key_of
    from lords_bench.tuning.lookup import choose
    from lords_bench.tuning.tables import read_tables

    if arguments.tables is not None and not arguments.tables.is_dir():
        raise UsageError(f"no folder {str(arguments.tables)!r} of tables; leave --tables out for the shipped ones")
    tables = read_tables(None if arguments.tables is None else (arguments.tables,))
    entries = entries_of(tables)
    machine = _machine(arguments.device, entries)
    problem, formula, takes = _asked(arguments)
    found = choose(entries, formula, key_of=lambda kernel: key_of(kernel, problem, machine), takes=takes)
    lines = explanation(
        found,
        entries=entries,
        problem=problem,
        machine=machine,
        key_of=lambda kernel: key_of(kernel, problem, machine),
        rule=lambda kernel: SPACES[kernel](problem, machine).default if kernel in SPACES else (),
    )
    console = Console()
    for line in (*lines, *set_aside(tables)):
        console.print(f"{line.label:14} {line.text}", highlight=False, soft_wrap=True)
    return 0


def _asked(arguments: argparse.Namespace) -> "tuple[Problem, Choice, Callable[[str], bool]]":
    """The problem, what the formula takes for it, and which kernels take it."""
    from lords_bench.kernel_registry.without_memory import blocks_without_memory, weight_without_memory
    from lords_bench.records.tuned import Choice
    from lords_bench.route import formula_kernel, takes, tokens_of
    from lords_bench.tuning.problems import block_problems, lords_problem

    m, n, k, bits = arguments.m, arguments.n, arguments.k, arguments.bits
    if arguments.block is None:
        if arguments.zero_points:
            raise UsageError("--zero-points is about a block-wise baseline; give --block as well")
        problem = lords_problem(
            m=m, n=n, k=k, bits=bits, rank=arguments.rank, x_dtype=arguments.dtype, scale_dtype=arguments.scale_dtype
        )
    else:
        both = block_problems(m=m, n=n, k=k, bits=bits, block=arguments.block, x_dtype=arguments.dtype)
        problem = next(found for found in both if found.zero_points == arguments.zero_points)
        problem = replace(problem, scale_dtype=arguments.scale_dtype)
    tokens = tokens_of(problem.m_bucket)
    weight = weight_without_memory(problem) if problem.block is None else blocks_without_memory(problem)
    return problem, Choice(kernel=formula_kernel(tokens, weight)), lambda kernel: takes(kernel, tokens, weight)


def _machine(name: str | None, entries: "Entries") -> "Machine":
    import torch

    from lords_bench.tuning.explain import named_machine
    from lords_bench.tuning.keys import machine_of

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
