"""Both forms of the QLoRA forward compute a block-wise product plus its adapter."""

import pytest
import torch
from problems import levels_of, make_x

from lords_bench.kernels.blockwise.operands import blockwise_operands
from lords_bench.kernels.qlora import launch
from lords_bench.reference.packing import pack_codes


@pytest.mark.parametrize("form", [launch.fused, launch.as_peft])
def test_forward_is_the_product_with_the_weight_plus_the_adapter(form: object) -> None:
    generator = torch.Generator().manual_seed(0)
    codes_NK = torch.randint(0, 16, (37, 200), generator=generator, dtype=torch.uint8)
    scale_NG = torch.rand(37, 4, generator=generator)
    levels_L = levels_of("grid7", 4, generator)
    a_RK, b_NR = torch.randn(8, 200, generator=generator), torch.randn(37, 8, generator=generator)
    bias_N, x_MK = torch.randn(37, generator=generator), make_x(5, 200, torch.float32)
    operands = blockwise_operands(
        pack_codes(codes_NK, 4), scale_NG, levels_L, k=200, bits=4, block=64, dtype=torch.float32, decoder="table"
    )

    assert callable(form)
    y_MN = form(x_MK, operands, a_RK, b_NR, scaling=0.5, bias_N=bias_N)

    weight = levels_L.double()[codes_NK.long()] * scale_NG.double().repeat_interleave(64, 1)[:, :200]
    weight += 0.5 * b_NR.double() @ a_RK.double()
    expected = x_MK.double() @ weight.t() + bias_N.double()
    torch.testing.assert_close(y_MN.double(), expected, rtol=1e-5, atol=1e-4)
