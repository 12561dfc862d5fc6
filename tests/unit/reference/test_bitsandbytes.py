"""The oracle's oracle: NF4 and double quantization against bitsandbytes 0.50.2, bit for bit.

Only shapes with K divisible by the block are compared: for others the library's AVX-512 code reads wrong scales when it
dequantizes (its quantizer is right).
"""

from typing import Any

import pytest
import torch

from lords_bench.quant import named_codebook
from lords_bench.reference.blocks import absmax_field, assign_blocks
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.double_quant import double_quantize, dynamic_map

bnb = pytest.importorskip("bitsandbytes.functional")

NF4 = levels_tensor(named_codebook("nf4"))
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def make_weight(dtype: torch.dtype) -> torch.Tensor:
    """Rows of very different size, a block of zeros, and many repeated values through the rounding to 16 bits."""
    generator = torch.Generator().manual_seed(0)
    weight_NK = torch.randn(64, 512, generator=generator) * torch.logspace(-3, 1, 64).unsqueeze(1)
    weight_NK[3, 64:128] = 0.0
    return weight_NK.to(dtype)


def bnb_codes(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The library packs two codes a byte, the first in the high half."""
    pairs = packed.view(-1, 1)
    return torch.cat([pairs >> 4, pairs & 15], dim=1).view(shape)


def bnb_quantize(weight_NK: torch.Tensor, block: int, *, double: bool) -> tuple[torch.Tensor, Any]:
    packed, state = bnb.quantize_4bit(weight_NK, blocksize=block, quant_type="nf4", compress_statistics=double)
    return packed, state


def test_the_nf4_levels_are_those_of_the_library() -> None:
    assert torch.equal(NF4, bnb.get_4bit_type("nf4", device="cpu"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [32, 64, 128, 512])
def test_nf4_codes_and_scales_are_those_of_the_library(dtype: torch.dtype, block: int) -> None:
    weight_NK = make_weight(dtype)

    field = absmax_field(weight_NK, block)
    codes_NK = assign_blocks(weight_NK, field, NF4)

    packed, state = bnb_quantize(weight_NK, block, double=False)
    assert torch.equal(field.scale_NG.flatten(), state.absmax)
    assert torch.equal(codes_NK, bnb_codes(packed, weight_NK.shape))


def test_weights_next_to_a_midpoint_get_the_library_s_code() -> None:
    """Midpoint times scale, and its neighbours up to two roundings away: where dividing by the scale would differ."""
    absmax_B1 = torch.rand(4096, 1, generator=torch.Generator().manual_seed(2)) + 0.5
    at_midpoint_BM = (NF4[1:] + NF4[:-1]) / 2 * absmax_B1
    steps_BM = torch.randint(-2, 3, at_midpoint_BM.shape, generator=torch.Generator().manual_seed(3))
    nearby_BM = at_midpoint_BM * (1.0 + steps_BM * torch.finfo(torch.float32).eps)
    weight_NK = torch.cat([absmax_B1, nearby_BM, nearby_BM.neg(), absmax_B1], dim=1)

    codes_NK = assign_blocks(weight_NK, absmax_field(weight_NK, 32), NF4)

    packed, _ = bnb_quantize(weight_NK, 32, double=False)
    assert torch.equal(codes_NK, bnb_codes(packed, weight_NK.shape))


def test_the_dynamic_map_is_that_of_the_library() -> None:
    assert torch.equal(dynamic_map(), bnb.create_dynamic_map())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(64, 512), (7, 192), (1, 64)])
def test_double_quantized_scales_are_those_of_the_library(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    """Two whole runs of 256 scales, a short one, and a single scale."""
    weight_NK = make_weight(dtype)[: shape[0], : shape[1]].contiguous()

    scales = double_quantize(absmax_field(weight_NK, 64).scale_NG)

    _, state = bnb_quantize(weight_NK, 64, double=True)
    assert torch.equal(scales.scale_codes_NG.flatten(), state.absmax)
    assert torch.equal(scales.run_absmax, state.state2.absmax)
    assert torch.equal(scales.mean[0], state.offset)
    restored = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    assert torch.equal(scales.expand().flatten(), restored)


def test_a_million_scales_are_compressed_like_the_library_does() -> None:
    """Enough of them that another way to round to the library's 65536 steps would show."""
    scale_NG = torch.rand(4096, 256, generator=torch.Generator().manual_seed(1))

    scales = double_quantize(scale_NG)

    codes, state = bnb.quantize_blockwise(scale_NG.flatten() - scale_NG.mean(), blocksize=256)
    assert torch.equal(scales.scale_codes_NG.flatten(), codes)
    assert torch.equal(scales.run_absmax, state.absmax)
