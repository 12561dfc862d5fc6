"""What a tuned choice is looked up by: the problem of a prepared weight, the machine, and the source of the kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

import torch

from lords_bench.kernels.common.prepared import DECODERS, REFERENCE, PreparedWeight
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise
from lords_bench.products.registry import named_kernel
from lords_bench.products.routes import routed
from lords_bench.records.tuned import ROUTE, Machine, Problem, TunedKey, m_bucket
from lords_bench.source import source_sha256

if TYPE_CHECKING:
    from lords_bench.kernels.common.block_operands import BlockwiseOperands


def problem_of(m: int, weight: PreparedWeight | PreparedBlockwise) -> Problem:
    """The problem of M tokens times a weight that is prepared for kernels."""
    if isinstance(weight, PreparedBlockwise):
        return block_problem_of(m, weight.operands)
    assert weight.decoder != REFERENCE
    assert weight.dtype is not None
    return Problem(
        m_bucket=m_bucket(m),
        n=weight.n,
        k=weight.k,
        bits=weight.bits,
        rank=int(weight.b_NR.shape[1]),
        x_dtype=str(weight.dtype).removeprefix("torch."),
        scale_dtype=str(weight.b_NR.dtype).removeprefix("torch."),
        decoder=DECODERS[weight.decoder],
    )


def block_problem_of(m: int, operands: "BlockwiseOperands") -> Problem:
    """The problem of M tokens times a block-wise weight."""
    return Problem(
        m_bucket=m_bucket(m),
        n=operands.n,
        k=operands.k,
        bits=operands.bits,
        block=operands.block,
        zero_points=operands.zero_NG is not None,
        x_dtype=str(operands.levels.dtype).removeprefix("torch."),
        scale_dtype=str(operands.scale_NG.dtype).removeprefix("torch."),
        decoder=operands.levels.decoder,
    )


def key_of(kernel: str, problem: Problem, machine: Machine) -> TunedKey:
    """The key of a kernel, or of `ROUTE`, as the source stands now.

    Raises:
        UsageError: unknown kernel.
    """
    source = route_source(problem) if kernel == ROUTE else kernel_source(kernel)
    return TunedKey(kernel=kernel, source_sha256=source, problem=problem, machine=machine)


def kernel_source(kernel: str) -> str:
    """Hash of a kernel's source.

    Raises:
        UsageError: unknown kernel.
    """
    return source_sha256(named_kernel(kernel).roots)


def route_source(problem: Problem) -> str:
    """Hash of the source of all kernels that a route may choose: a change of one voids every comparison of them."""
    names = routed("lords" if problem.block is None else "blockwise")
    return source_sha256(tuple(root for name in names for root in named_kernel(name).roots))


_PRETENDED: ContextVar[Machine | None] = ContextVar("pretended machine", default=None)


@contextmanager
def pretended_machine(machine: Machine) -> Iterator[None]:
    """Within it tables are looked up for that machine, wherever tensors lie."""
    token = _PRETENDED.set(machine)
    try:
        yield
    finally:
        _PRETENDED.reset(token)


def machine_of(device: torch.device) -> Machine | None:
    """The machine that is pretended, else that kernels on `device` run on; asked once. None where no kernels run."""
    pretended = None if torch.compiler.is_compiling() else _PRETENDED.get()
    if pretended is not None:
        return pretended
    if device.type != "cuda":
        return None
    return cuda_machine(device.index)


@cache
def cuda_machine(index: int) -> Machine:
    """The machine that kernels on a CUDA device run on; asked once."""
    import triton

    properties = torch.cuda.get_device_properties(index)
    return Machine(
        gpu=properties.name,
        capability=(properties.major, properties.minor),
        multiprocessors=properties.multi_processor_count,
        driver=_driver_version(),
        triton=triton.__version__,
    )


def _driver_version() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        version: str = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return version
