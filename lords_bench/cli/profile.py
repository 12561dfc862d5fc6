"""`lords-bench kernels --profile M N K`: what a product executes, counted in an emulator, and a predicted time."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lords_bench.cli.output import complain
from lords_bench.errors import UsageError
from lords_bench.options import BIT_COUNT, COUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    from lords_bench.kernels.common.entry import WeightKind
    from lords_bench.records.tuned import Choice
    from lords_bench.static.bounds import GpuModel
    from lords_bench.static.profile.measure import Asked, Product
    from lords_bench.static.profile.predict import LaunchProfile

_DTYPES = ("bfloat16", "float16", "float32")


def add_arguments(parser: argparse.ArgumentParser, what: "argparse._MutuallyExclusiveGroup") -> None:
    """Add `--profile` to what can be done, and the options of a product."""
    what.add_argument(
        "--profile", nargs=3, type=COUNT, metavar=("M", "N", "K"),
        help="count what a product executes in an emulator, and predict its time on a GPU",
    )  # fmt: skip
    product = parser.add_argument_group("--profile")
    product.add_argument("--gpu", metavar="NAME", help="that the time is predicted on (default: a usual one)")
    product.add_argument("--bits", type=BIT_COUNT, default=4, help="bits per code (default: 4)")
    product.add_argument("--rank", type=COUNT, default=16, help="of the scale or the adapter (default: 16)")
    product.add_argument("--block", type=COUNT, default=64, metavar="G", help="of block-wise weights (default: 64)")
    product.add_argument("--dtype", choices=_DTYPES, default="bfloat16", help="of activations (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Profile the kernel that the route takes, or those that `--only` names; 0.

    Raises:
        UsageError: no emulated device, an unknown GPU or kernel, or a product that no kernel named takes.
        StoreError: a table or a record cannot be read.
    """
    from lords_bench.emulator.target import emulated_gpu
    from lords_bench.static.profile.measure import Asked
    from lords_bench.static.profile.predict import named_gpu

    if arguments.device is None:
        raise UsageError("--profile counts in an emulator; name its GPU by --device, as emulated-sm_90")
    gpu = named_gpu(arguments.gpu, emulated_gpu(arguments.device).name)
    m, n, k = arguments.profile
    asked = Asked(m=m, n=n, k=k, bits=arguments.bits, rank=arguments.rank, block=arguments.block, dtype=arguments.dtype)
    out = arguments.out or Path("reports")
    if not arguments.only:
        _profile(asked, gpu, "lords", lambda weight: _routed(asked, weight, gpu), out)
        return 0
    kernels = _kernels(arguments.only)
    refused = [reason for kernel in kernels if (reason := _profile_named(asked, gpu, kernel, out))]
    if len(refused) == len(kernels):
        raise UsageError("; ".join(refused))
    for reason in refused:
        complain(f"not profiled: {reason}")
    return 0


def _kernels(only: str) -> tuple[str, ...]:
    """The kernel of that name, or all whose names contain the text."""
    from lords_bench.products.registry import KERNELS

    found = (only,) if only in KERNELS else tuple(name for name in KERNELS if only in name)
    if not found:
        raise UsageError(f"no kernel contains {only!r}; known: {', '.join(KERNELS)}")
    return found


def _profile_named(asked: "Asked", gpu: "GpuModel", kernel: str, out: Path) -> str | None:
    """Profile a kernel by its own rule; why it does not take the product, if it does not."""
    from lords_bench.products.registry import named_kernel
    from lords_bench.records.tuned import Choice

    try:
        _profile(asked, gpu, named_kernel(kernel).weight, lambda _weight: Choice(kernel=kernel), out)
    except UsageError as error:
        return str(error)
    return None


def _profile(asked: "Asked", gpu: "GpuModel", kind: "WeightKind", choose: "Callable[[Any], Choice]", out: Path) -> None:
    from lords_bench.static.profile.measure import profiled_product
    from lords_bench.static.profile.predict import launch_profiles
    from lords_bench.terminal import Console

    with Console(stderr=True).status("emulating"):
        product = profiled_product(asked, gpu, kind, choose)
        launches = launch_profiles(product, gpu)
    _print(asked, gpu, product, launches, out)


def _print(
    asked: "Asked", gpu: "GpuModel", product: "Product", launches: "tuple[LaunchProfile, ...]", out: Path
) -> None:
    from lords_bench.static.profile import page
    from lords_bench.static.profile.measured import latency_records, measured_us
    from lords_bench.terminal import Console

    console = Console(highlight=False)
    console.print(page.heading(asked, product, gpu), soft_wrap=True)
    for table in page.tables(launches):
        console.print_table(table)
    measured = measured_us(asked, product.choice, gpu, latency_records(out))
    for note in page.notes(product, launches, measured, records=str(out / "records")):
        console.print(note, soft_wrap=True)


def _routed(asked: "Asked", weight: Any, gpu: "GpuModel") -> "Choice":
    """What the route takes on that GPU: a tuned table's choice where there is one, else the formula's."""
    from lords_bench.kernels.common.prepared import REFERENCE
    from lords_bench.products.active import active_entries
    from lords_bench.products.keys import problem_of
    from lords_bench.products.route import formula_kernel, found_for, tokens_of
    from lords_bench.records.tuned import Choice, m_bucket
    from lords_bench.tuning.explain import named_machine

    bucket = m_bucket(asked.m)
    if weight.decoder == REFERENCE:
        return Choice(kernel=formula_kernel(tokens_of(bucket), weight))
    entries = active_entries()
    return found_for(problem_of(bucket, weight), weight, named_machine(entries, gpu.name), entries).choice
