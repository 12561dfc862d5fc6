"""Compiles what the suite's ways launch, in parallel processes, before anything is timed.

A way is built and applied as it will be, but on tensors without memory and on a GPU that is only pretended: what it
launches is compiled into Triton's own cache, where the real launch finds it. Nothing describes a launch a second time,
so a way that launches something else tomorrow is compiled as it will be then.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lords_bench.kernels.common.gpu import pretended_gpu
from lords_bench.kernels.common.without_memory import META, without_memory
from lords_bench.products.keys import pretended_machine
from lords_bench.products.route import launch_table
from lords_bench.quant import QuantSpec, named_codebook
from lords_bench.records.codec import from_plain, to_plain
from lords_bench.records.latency import DENSE, KERNEL_PREFIX, LatencyCase
from lords_bench.records.tuned import Machine
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.packing import packed_shape
from lords_bench.reference.weights import AffineWeight, BlockwiseWeight
from lords_bench.static.compile import CompileResult, compile_all
from lords_bench.static.request import request_for
from lords_bench.static.target import TARGETS, Target
from lords_bench.suites.baselines import own
from lords_bench.suites.baselines.problem import LayerProblem, LordsTensors
from lords_bench.suites.baselines.registry import WAYS, builder
from lords_bench.tuning.kernel_spaces import gpu_of_machine


class ProblemWithoutMemory(LayerProblem):
    """A problem whose tensors have shapes and dtypes, and no memory; levels alone have their numbers."""

    def __init__(self, case: LatencyCase, *, dtype: torch.dtype) -> None:
        self.case, self.device, self.dtype = case, META, dtype

    def draw_x(self) -> Tensor:
        """Activations, M×K."""
        return without_memory(self.case.m, self.case.k, dtype=self.dtype)

    def draw_adapter(self) -> tuple[Tensor, Tensor]:
        """LoRA factors (r×K, N×r)."""
        case, rank = self.case, self.case.rank
        return without_memory(rank, case.k, dtype=self.dtype), without_memory(case.n, rank, dtype=self.dtype)

    @cached_property
    def weight_NK(self) -> Tensor:
        return without_memory(self.case.n, self.case.k, dtype=self.dtype)

    @cached_property
    def blocks(self) -> BlockwiseWeight:
        """NormalFloat blocks."""
        bits = self.case.bits
        levels_L = levels_tensor(named_codebook(f"nf{bits}-grid7"))
        return BlockwiseWeight(
            spec=self._spec(f"nf{bits}", levels=f"nf{bits}-grid7"), shape=(self.case.n, self.case.k),
            packed=self._packed(), scale_NG=self._scales(), levels_L=levels_L,
        )  # fmt: skip

    @cached_property
    def integers(self) -> AffineWeight:
        """Integer groups with a zero point."""
        scale_NG = self._scales()
        zeros = without_memory(-(-scale_NG.numel() * self.case.bits // 8), dtype=torch.uint8)
        return AffineWeight(
            spec=self._spec("int-rtn"), shape=(self.case.n, self.case.k), packed=self._packed(), scale_NG=scale_NG,
            packed_zeros=zeros,
        )  # fmt: skip

    @cached_property
    def lords(self) -> LordsTensors:
        """LoRDS at parity rank."""
        case = self.case
        return LordsTensors(
            codes_NK=without_memory(case.n, case.k, dtype=torch.uint8),
            packed=self._packed(),
            b_NR=without_memory(case.n, case.rank, dtype=torch.float16),
            a_RK=without_memory(case.rank, case.k, dtype=torch.float16),
            levels_L=levels_tensor(named_codebook(f"nf{case.bits}-grid7")),
            bits=case.bits,
        )

    def _spec(self, method: str, **more: Any) -> QuantSpec:
        return QuantSpec(method=method, bits=self.case.bits, block=self.case.block, **more)

    def _packed(self) -> Tensor:
        return without_memory(*packed_shape(self.case.n, self.case.k, self.case.bits), dtype=torch.int16)

    def _scales(self) -> Tensor:
        return without_memory(self.case.n, -(-self.case.k // self.case.block), dtype=torch.float16)


def is_compiled(method: str) -> bool:
    """Whether kernels of this project serve a method; those of other libraries are theirs to compile."""
    if method.startswith(KERNEL_PREFIX):
        return True
    return method != DENSE and getattr(WAYS.get(method), "__module__", None) == own.__name__


def prewarm(
    wanted: Iterable[tuple[LatencyCase, str]],
    *,
    dtype: torch.dtype,
    machine: Machine,
    workers: int | None = None,
    cache_dir: Path | None = None,
) -> tuple[CompileResult, ...]:
    """Compile what each (case, method) launches on the machine; what cannot be is told where it is timed.

    Args:
        wanted: in the order in which they will be timed.
        dtype: of activations.
        machine: a look-up for it says which kernel and configuration serve a product.
        workers: processes at a time; None is one per core.
        cache_dir: where machine code is kept beside Triton's cache; None is the user's.

    Raises:
        StoreError: the folder refuses.
    """
    target = TARGETS.get(f"sm_{machine.capability[0]}{machine.capability[1]}")
    if target is None:
        return ()
    requests = [
        request_for(
            f"{__name__}:apply_way", target, case=to_plain(case), method=method,
            dtype=str(dtype).removeprefix("torch."), machine=to_plain(machine),
        )
        for case, method in wanted
        if is_compiled(method)
    ]  # fmt: skip
    if not requests:
        return ()
    return compile_all(requests, workers=workers, cache_dir=cache_dir, for_launch=True)


def apply_way(
    target: Target,  # noqa: ARG001  (whoever compiles pretends it)
    *,
    case: Mapping[str, Any],
    method: str,
    dtype: str,
    machine: Mapping[str, Any],
) -> None:
    """Build a method for a case and apply it, as on the machine; arguments as plain data.

    Raises:
        UsageError: the method does not take the case.
    """
    on = from_plain(Machine, machine, path="machine")
    # What an earlier call resolved may have been for another machine.
    launch_table.clear()
    problem = ProblemWithoutMemory(from_plain(LatencyCase, case, path="case"), dtype=getattr(torch, dtype))
    with pretended_gpu(gpu_of_machine(on)), pretended_machine(on), torch.no_grad():
        way = builder(method)(problem)
        way.apply(way.operands, problem.draw_x())
