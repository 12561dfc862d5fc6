"""Both forms of the QLoRA forward compute a block-wise product plus its adapter, for few tokens and for many."""

from pathlib import Path

import pytest
import torch
from block_problems import make_blocks
from bounds import Magnitudes, assert_within, error_bound
from mutation import Edits, import_edited
from problems import make_x

from lords_bench.kernels.blockwise_gemm import launch as blockwise_gemm
from lords_bench.kernels.qlora import launch


def check(form: str, m: int, rank: int, dtype: torch.dtype, *, has_zero: bool = False) -> None:
    problem = make_blocks(n=37, k=200, bits=4, block=64, has_zero=has_zero)
    generator = torch.Generator().manual_seed(0)
    a_RK, b_NR = torch.randn(rank, 200, generator=generator), torch.randn(37, rank, generator=generator)
    a_RK, b_NR, bias_N = a_RK.to(dtype), b_NR.to(dtype), torch.randn(37, generator=generator).to(dtype)
    x_MK, decoder = make_x(m, 200, dtype), "table" if dtype == torch.float32 else "grid7"
    operands = problem.operands(dtype, decoder)

    y_MN = getattr(launch, form)(x_MK, operands, a_RK, b_NR, scaling=0.5, bias_N=bias_N)

    x, a, b = x_MK.double(), a_RK.double(), b_NR.double()
    expected = x @ problem.weight_NK.t() + 0.5 * (x @ a.t()) @ b.t() + bias_N.double()
    terms = x.abs() @ problem.magnitude_NK.t() + 0.5 * (x.abs() @ a.abs().t()) @ b.abs().t() + bias_N.double().abs()
    inputs = x.abs().sum(1, keepdim=True) + b.abs().sum(1)
    bound = error_bound(
        expected, Magnitudes(terms=terms, factors=terms, inputs=inputs), steps=200, rank=rank, roundings=6,
        compute=dtype, result=dtype,
    )  # fmt: skip
    assert_within(y_MN, expected, bound)


@pytest.mark.parametrize("form", ["fused", "as_peft"])
@pytest.mark.parametrize("m", [5, 70])
@pytest.mark.parametrize(("rank", "dtype"), [(8, torch.float32), (24, torch.bfloat16), (70, torch.float16)])
def test_forward_is_the_product_with_the_weight_plus_the_adapter(
    form: str, m: int, rank: int, dtype: torch.dtype
) -> None:
    check(form, m, rank, dtype, has_zero=rank == 8)


@pytest.mark.parametrize(
    "defect",
    [
        ("mask=(rank < lora_rank)[None, :]", "mask=(rank < lora_rank - 1)[None, :]"),
        ("if LORA_RANK > 0:", "if False:"),
    ],
    ids=["missing rank", "missing adapter"],
)
def test_an_adapter_added_wrongly_is_seen(
    defect: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits: Edits = {"blockwise_gemm.kernel": defect}
    broken = import_edited("blockwise_gemm.kernel", edits, tmp_path)
    monkeypatch.setattr(blockwise_gemm, "blockwise_gemm_kernel", broken.blockwise_gemm_kernel)

    with pytest.raises(AssertionError, match="allowed"):
        check("fused", 70, 8, torch.float32)
