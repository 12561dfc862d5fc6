"""Scales in 8 bits: what they expand to, how far it is off, and that it is stored as the same bits again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lords_bench.quant import QuantSpec
from lords_bench.reference.eight_bit import Int8Factors, LogScales, int8_factors, log_scales
from lords_bench.reference.fields import BlockField, Field, LowRankField
from lords_bench.reference.storage import stored_field

DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32])
NAMES = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32"}
SEEDS = st.integers(0, 1000)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def block_scales(draw: st.DrawFn) -> Tensor:
    """Of both signs, some zero, spread over up to a few powers of ten."""
    n, g, seed = draw(st.integers(1, 12)), draw(st.integers(1, 9)), draw(SEEDS)
    size_NG = 10.0 ** (draw(st.floats(0.0, 1.0)) * normal(n, g, seed=seed).clamp(-3, 3) - 1)
    signs_NG = normal(n, g, seed=seed + 1).sign()
    return size_NG * signs_NG * (normal(n, g, seed=seed + 2).abs() > draw(st.sampled_from([0.0, 0.2])))


@st.composite
def factors(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    n, k, rank, seed = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(SEEDS)
    spread_R = 10.0 ** normal(rank, seed=seed + 2).clamp(-2, 2)
    b_NR = normal(n, rank, seed=seed) * spread_R * draw(st.sampled_from([0.02, 1.0]))
    a_RK = normal(rank, k, seed=seed + 1) / spread_R.unsqueeze(1)
    if draw(st.booleans()):
        b_NR[:, 0] = 0.0
    return b_NR, a_RK


@given(scale_NG=block_scales(), dtype=DTYPES)
def test_every_block_scale_is_the_nearest_that_the_constants_offer(scale_NG: Tensor, dtype: torch.dtype) -> None:
    found = log_scales(scale_NG, dtype)

    offered = LogScales(scale_codes_NG=torch.arange(256, dtype=torch.uint8), scale_range=found.scale_range)
    nearest_NG = (offered.expand().double() - scale_NG.double().unsqueeze(2)).abs().amin(dim=2)
    torch.testing.assert_close((found.expand().double() - scale_NG.double()).abs(), nearest_NG, rtol=1e-12, atol=0.0)


@given(scale_NG=block_scales(), dtype=DTYPES)
def test_block_scales_are_off_by_half_a_step_of_the_logarithm_at_most(scale_NG: Tensor, dtype: torch.dtype) -> None:
    """The whole range is tried, and the range of the least error kept: so all errors together obey its bound."""
    size = scale_NG.double().abs()
    present = size[size > 0]

    error = (log_scales(scale_NG, dtype).expand().double() - scale_NG.double()).norm()

    step = float((present.max() / present.min()).log2()) / 126 if len(present) else 0.0
    rounding = torch.finfo(dtype).eps
    assert float(error) <= (2 ** (step / 2) - 1 + rounding + 1e-6) * float(size.norm())


@given(pair=factors(), dtype=DTYPES)
def test_factors_are_off_by_half_a_step_of_their_rank_at_most(pair: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    b_NR, a_RK = (factor.double() for factor in pair)

    stored = int8_factors(*pair, dtype)

    b, a = (factor.double() for factor in stored.expand())
    largest_R = stored.rank_scale_R.double()
    ratio_R = torch.where(b_NR.abs().amax(0) > 0, (a_RK.abs().amax(1) / b_NR.abs().amax(0)).sqrt(), 1.0)
    # Half a step, what m itself is rounded by, and the rounding of the product.
    bound_R = largest_R * (1 / 254 + 1.01 * torch.finfo(dtype).eps)
    assert bool(((b - b_NR * ratio_R).abs() <= bound_R).all())
    assert bool(((a - a_RK / ratio_R.unsqueeze(1)).abs() <= bound_R.unsqueeze(1)).all())


@given(scale_NG=block_scales(), pair=factors(), dtype=DTYPES)
def test_what_is_stored_is_stored_as_the_same_bits_again(
    scale_NG: Tensor, pair: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    low_rank = QuantSpec(method="lords", scale_bits=8, scale_dtype=NAMES[dtype])  # type: ignore[arg-type]
    blocks = QuantSpec(method="block-opt", scale_bits=8, scale_dtype=NAMES[dtype])  # type: ignore[arg-type]
    fields: list[tuple[Field, QuantSpec]] = [
        (LowRankField(b_NR=pair[0], a_RK=pair[1]), low_rank),
        (BlockField(scale_NG=scale_NG, block=64), blocks),
    ]
    for field, spec in fields:
        once = stored_field(field, spec)
        again = stored_field(once, spec)

        assert torch.equal(once.expand(), again.expand())
        assert isinstance(once.stored, Int8Factors | LogScales)
        assert isinstance(again.stored, Int8Factors | LogScales)
        for name, tensor in once.stored.tensors().items():
            assert torch.equal(tensor, again.stored.tensors()[name]), name


@given(pair=factors(), dtype=DTYPES)
def test_expanded_factors_alone_tell_their_codes(pair: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    """So a layer that holds B and A as kernels read them stores the codes that it was loaded from."""
    stored = int8_factors(*pair, dtype)

    again = int8_factors(*stored.expand(), dtype)

    for name, tensor in stored.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name


def test_scales_that_are_all_zero_stay_zero() -> None:
    assert not bool(log_scales(torch.zeros(3, 2), torch.float16).expand().any())
    assert not any(
        bool(factor.any()) for factor in int8_factors(torch.zeros(3, 2), torch.zeros(2, 4), torch.float16).expand()
    )


def test_a_logarithm_worked_by_hand() -> None:
    """The whole range, ½ … 2 in 126 steps: 1 is step 63, which is code 64; bit 7 is the sign."""
    found = log_scales(torch.tensor([[0.5, -1.0, 2.0, 0.0]]), torch.float16)

    assert found.scale_range.tolist() == [0.5, 2.0]
    assert found.scale_codes_NG.tolist() == [[1, 128 + 64, 127, 0]]
    assert found.expand().tolist() == [[0.5, -1.0, 2.0, 0.0]]


def test_int8_factors_worked_by_hand() -> None:
    """B's largest is 4 and A's 1, so both become 2; -1 of B is then -1/2, which is -31.75 of 127 steps."""
    found = int8_factors(torch.tensor([[4.0], [-1.0]]), torch.tensor([[1.0, 0.5]]), torch.float16)

    assert found.rank_scale_R.tolist() == [2.0]
    assert found.b_codes_NR.tolist() == [[127], [-32]]
    assert found.a_codes_RK.tolist() == [[127, 64]]


@pytest.mark.parametrize("spread", [1e3, 1e6])
def test_a_few_tiny_scales_do_not_make_every_step_wide(spread: float) -> None:
    scale_NG = 1.0 + 0.2 * normal(64, 16, seed=0).clamp(-2, 2)
    scale_NG[0, :3] /= spread

    error_NG = (log_scales(scale_NG, torch.float32).expand() / scale_NG - 1).abs().flatten()[3:]

    whole_range_step = float(torch.tensor(spread).log2()) / 126
    assert float(error_NG.max()) < 0.6 * (2 ** (whole_range_step / 2) - 1)
