"""The baseline of fine-tuning: a block-wise weight with a LoRA adapter beside it."""

from collections.abc import Iterator
from types import MappingProxyType

from torch import Tensor

from lords_bench.kernels import blockwise_gemm
from lords_bench.kernels.common import static_case as static
from lords_bench.kernels.common.budget import FUSED
from lords_bench.kernels.common.entry import Entry, Kernel, Roundings, kernel_module
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise


def _forward(form: str, x_MK: Tensor, weight: PreparedBlockwise, bias_N: Tensor | None) -> Tensor:
    adapter = weight.adapter
    assert adapter is not None
    forward = getattr(kernel_module("qlora.launch"), form)
    y_MN: Tensor = forward(x_MK, weight.operands, adapter.a_RK, adapter.b_NR, scaling=adapter.scaling, bias_N=bias_N)
    return y_MN


def _cases(gpu: Gpu) -> Iterator[static.StaticCase]:
    """The forward of many tokens; that of few is the block-wise kernel and two products of the library."""
    problem = static.layer_problem(gpu, 64, 4, block=static.BLOCK)
    form = blockwise_gemm.TUNING.rule(problem, gpu).form
    yield static.StaticCase(
        kernel="qlora",
        variant=f"fused {static.block_format(problem)} R={static.RANK} M=64 {form}",
        target=gpu.arch,
        budget=FUSED,
        launched=static.Launched(kernel="qlora_fused", problem=problem, lora_rank=static.RANK),
        bits_per_weight=4 + static.BLOCK_SCALE_BITS + static.FACTOR_BITS,
    )


KERNEL = Entry(
    name="qlora",
    kernels=(
        # The fair form.
        Kernel(
            name="qlora_fused",
            weight="qlora",
            takes=lambda _m, weight, dtype: kernel_module("blockwise_gemm.launch").supports(weight.operands, dtype),
            launch=lambda x_MK, weight, bias_N, _config: _forward("fused", x_MK, weight, bias_N),
            roots=("kernels.qlora.launch:fused",),
            # Those of the GEMM, the product before it meets the adapter's, and x Aᵀ.
            roundings=Roundings(count=4, of_table=True, of_zero=2),
        ),
        # As PEFT runs it.
        Kernel(
            name="qlora_as_peft",
            weight="qlora",
            takes=lambda _m, weight, dtype: weight.takes_dtype(dtype),
            launch=lambda x_MK, weight, bias_N, _config: _forward("as_peft", x_MK, weight, bias_N),
            roots=("kernels.qlora.launch:as_peft",),
            # W, the product before it meets the adapter's, x Aᵀ, the adapter's product, and that times its scale.
            roundings=Roundings(count=5, of_table=True, of_zero=1),
        ),
    ),
    cases=_cases,
    misses=MappingProxyType(
        {
            # As the GEMM on CDNA: scalar registers in lanes of vector registers.
            ("fused nf4 G=64 R=16 M=64 split", "gfx942"): "4 registers spilled, 0 B of scratch memory",
            ("fused nf4 G=64 R=16 M=64 split", "gfx950"): "3 registers spilled, 0 B of scratch memory",
        }
    ),
)
