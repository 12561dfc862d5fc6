"""The block-wise baseline is right for every format, block size and ragged shapes, with and without zero points."""

import pytest
import torch
from bounds import Magnitudes, assert_within, error_bound
from hypothesis import given
from hypothesis import strategies as st
from problems import LEVELS_OF_DECODER, dtype_for, levels_of, make_x

from lords_bench.errors import UsageError
from lords_bench.kernels.blockwise import launch
from lords_bench.kernels.blockwise.space import BlockwiseConfig
from lords_bench.kernels.common.layout import k_block
from lords_bench.reference.packing import pack_codes


def check(  # noqa: PLR0913 - the whole problem in one place
    *, n: int, k: int, bits: int, block: int, decoder: str, levels: str, has_zero: bool, x_MK: torch.Tensor,
    config: BlockwiseConfig, seed: int = 0,
) -> None:  # fmt: skip
    """The kernel's y against float64; the output starts as NaN."""
    generator = torch.Generator().manual_seed(seed)
    codes_NK = torch.randint(0, 1 << bits, (n, k), generator=generator, dtype=torch.uint8)
    levels_L = levels_of(levels, bits, generator)
    groups = -(-k // block)
    scale_NG = (torch.randn(n, groups, generator=generator) * 0.1).half()
    zero_NG = torch.rand(n, groups, generator=generator) - 0.5 if has_zero else None
    operands = launch.blockwise_operands(
        pack_codes(codes_NK, bits), scale_NG, levels_L, k=k, bits=bits, block=block, dtype=x_MK.dtype, decoder=decoder,
        zero_NG=zero_NG,
    )  # fmt: skip
    y_MN = torch.full((x_MK.shape[0], n), float("nan"), dtype=x_MK.dtype)

    launch.launch(x_MK, operands, config=config, out=y_MN)

    scale_NK = scale_NG.double().repeat_interleave(block, 1)[:, :k]
    values, zero = levels_L.double()[codes_NK.long()], torch.zeros(n, k, dtype=torch.float64)
    if zero_NG is not None:
        zero = zero_NG.double().repeat_interleave(block, 1)[:, :k]
    x = x_MK.double()
    expected = x @ ((values - zero) * scale_NK).t()
    w_NK = torch.full((n, k), float("nan"))
    launch.dequantize(operands, torch.float32, out=w_NK)
    level_error = 2.0**-22 if decoder in ("grid7", "uniform") else torch.finfo(x_MK.dtype).eps
    magnitude_NK = (values.abs() + zero.abs()) * scale_NK.abs()
    assert_within(w_NK, (values - zero) * scale_NK, level_error * magnitude_NK + 1e-12)
    terms = x.abs() @ ((values.abs() + zero.abs()) * scale_NK.abs()).t()
    exact = decoder in ("grid7", "uniform")
    bound = error_bound(
        expected, Magnitudes(terms=terms, factors=terms, inputs=torch.zeros_like(terms)), steps=k, rank=1,
        roundings=0 if exact else 1, compute=x_MK.dtype, result=x_MK.dtype,
    )  # fmt: skip
    assert_within(y_MN, expected, bound)


@given(data=st.data())
def test_product_is_right_for_every_format_block_and_ragged_shape(data: st.DataObject) -> None:
    decoder = data.draw(st.sampled_from(("grid7", "table16", "uniform", "table")))
    bits, k = data.draw(st.sampled_from((4, 3, 2))), data.draw(st.integers(1, 600))
    dtype = data.draw(dtype_for(decoder))
    check(
        n=data.draw(st.integers(1, 130)), k=k, bits=bits,
        block=data.draw(st.sampled_from((16, 32, 64, 128, k_block(bits), 2 * k_block(bits)))), decoder=decoder,
        levels=data.draw(st.sampled_from(LEVELS_OF_DECODER[decoder])), has_zero=data.draw(st.booleans()),
        x_MK=make_x(data.draw(st.integers(1, 40)), k, dtype, outlier=data.draw(st.booleans())),
        config=BlockwiseConfig(
            block_n=data.draw(st.sampled_from((16, 64))), blocks_k=data.draw(st.sampled_from((1, 2))),
            tiles_per_program=data.draw(st.sampled_from((1, 3))), last_sums=data.draw(st.booleans()),
        ),
        seed=data.draw(st.integers(0, 1000)),
    )  # fmt: skip


def test_a_block_that_fits_no_tile_is_refused() -> None:
    packed = torch.zeros(2, 1, 2, 16, dtype=torch.int16)

    with pytest.raises(UsageError, match="block 48 neither divides 128"):
        launch.blockwise_operands(
            packed, torch.ones(2, 2), torch.linspace(-1, 1, 16), k=96, bits=4, block=48, dtype=torch.bfloat16
        )


def test_scales_of_another_shape_are_refused() -> None:
    packed = torch.zeros(2, 1, 2, 16, dtype=torch.int16)

    with pytest.raises(UsageError, match=r"scales \(2, 3\) do not fit; expected \(2, 2\) for block 64"):
        launch.blockwise_operands(
            packed, torch.ones(2, 3), torch.linspace(-1, 1, 16), k=96, bits=4, block=64, dtype=torch.bfloat16
        )
