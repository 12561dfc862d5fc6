"""The refined and the paper's recipe: what they reach, what they bear, and what they do not depend on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.quant import named_codebook, parity_rank
from lords_bench.reference import lords_refined
from lords_bench.reference.blocks import absmax_field, optimised_field
from lords_bench.reference.codebooks import assign_nearest, levels_tensor
from lords_bench.reference.fields import BlockField, LowRankField
from lords_bench.reference.lords_paper import fit_paper
from lords_bench.reference.lords_refined import fit_refined
from lords_bench.reference.lowrank import LowRankFit, truncated_svd

Fit = Callable[..., LowRankFit]
FITS = [fit_refined, fit_paper]
BLOCK = 16


def structured_weight(n: int = 96, k: int = 128) -> Tensor:
    """Gaussian with rows and columns of different size."""
    generator = torch.Generator().manual_seed(11)
    weight = torch.randn(n, k, generator=generator)
    rows, columns = torch.randn(n, 1, generator=generator), torch.randn(1, k, generator=generator)
    return 0.02 * weight * torch.exp(0.3 * rows) * torch.exp(0.3 * columns)


def levels(bits: int = 4) -> Tensor:
    return levels_tensor(named_codebook(f"nf{bits}"))


def relative_error(
    weight: Tensor, field: BlockField | LowRankField, levels_L: Tensor, importance: Tensor | None = None
) -> float:
    """Squared error over the squared weight, after the stored codes are assigned, in float64."""
    scale = field.expand()
    value = levels_L[assign_nearest(weight, scale, levels_L).int()]
    square = (weight.double() - value.double() * scale.double()).square()
    h = torch.ones(weight.shape[1]) if importance is None else importance
    return float((square * h).sum() / (weight.double().square() * h).sum())


def fit_error(weight: Tensor, fit: LowRankFit, importance: Tensor | None = None) -> float:
    return relative_error(weight, fit.field, fit.levels_L, importance)


def parity(weight: Tensor) -> int:
    return parity_rank(weight.shape[0], weight.shape[1], BLOCK)


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_refined_beats_optimised_blocks_and_the_paper_on_a_structured_weight(bits: int) -> None:
    weight = structured_weight()
    blocks = optimised_field(weight, BLOCK, levels(bits)).to_dtype(torch.float16)

    refined = fit_error(weight, fit_refined(weight, levels(bits), parity(weight), block=BLOCK))
    paper = fit_error(weight, fit_paper(weight, levels(bits), parity(weight), block=BLOCK))

    assert refined < 0.95 * relative_error(weight, blocks, levels(bits))
    assert refined < paper


def test_both_recipes_beat_their_start() -> None:
    weight = structured_weight()
    start = truncated_svd(absmax_field(weight, BLOCK), parity(weight), seed=0)

    for fit in FITS:
        fitted = fit_error(weight, fit(weight, levels(), parity(weight), block=BLOCK))
        assert fitted < 0.8 * relative_error(weight, start, levels())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("bits", [3, 2])
def test_learned_levels_lower_the_error_and_stay_in_range(fit: Fit, bits: int) -> None:
    weight = structured_weight()

    fixed = fit(weight, levels(bits), parity(weight), block=BLOCK)
    learned = fit(weight, levels(bits), parity(weight), block=BLOCK, learn_levels=True)

    assert torch.equal(fixed.levels_L, levels(bits))
    assert fit_error(weight, learned) < (0.97 if bits == 3 else 0.9) * fit_error(weight, fixed)
    assert learned.levels_L.abs().max() == 1.0
    assert (learned.levels_L.diff() > 0).all()


@pytest.mark.parametrize("fit", FITS)
def test_input_weights_move_the_error_to_inputs_that_count_less(fit: Fit) -> None:
    weight = structured_weight()
    importance = torch.linspace(0.0, 1.0, weight.shape[1]) ** 6

    plain = fit(weight, levels(), parity(weight), block=BLOCK)
    weighted = fit(weight, levels(), parity(weight), block=BLOCK, input_weight_K=importance)

    assert fit_error(weight, weighted, importance) < 0.97 * fit_error(weight, plain, importance)


@pytest.mark.parametrize("fit", FITS)
def test_factors_are_already_rounded_to_their_storage_dtype(fit: Fit) -> None:
    weight = structured_weight(32, 64)

    for dtype in (torch.float16, torch.bfloat16):
        field = fit(weight, levels(), 2, block=BLOCK, scale_dtype=dtype).field
        assert torch.equal(field.to_dtype(dtype).b_NR, field.b_NR)
        assert torch.equal(field.to_dtype(dtype).a_RK, field.a_RK)


@pytest.mark.parametrize("fit", FITS)
def test_the_same_call_gives_the_same_bits_for_any_number_of_threads(fit: Fit) -> None:
    weight = structured_weight(512, 1024)
    threads = torch.get_num_threads()
    fits = []
    for count in (1, 2):
        torch.set_num_threads(count)
        fits.append(fit(weight[:, :513], levels(3), 4, block=64, learn_levels=True))
    torch.set_num_threads(threads)

    assert torch.equal(fits[0].field.b_NR, fits[1].field.b_NR)
    assert torch.equal(fits[0].field.a_RK, fits[1].field.a_RK)
    assert torch.equal(fits[0].levels_L, fits[1].levels_L)


@pytest.mark.parametrize("exponent", [-80, 60])
def test_the_size_of_the_weight_does_not_matter(exponent: int) -> None:
    weight, factor = structured_weight(32, 64), 2.0**exponent

    plain = fit_refined(weight, levels(), 2, block=BLOCK, scale_dtype=torch.float32)
    scaled = fit_refined(weight * factor, levels(), 2, block=BLOCK, scale_dtype=torch.float32)

    torch.testing.assert_close(scaled.field.expand() / factor, plain.field.expand(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("magnitude", [1e-30, 1e30])
def test_a_weight_beyond_float16_is_refused_with_the_remedy(fit: Fit, magnitude: float) -> None:
    weight = structured_weight(32, 64) * magnitude

    with pytest.raises(WeightError, match="float16; use scale_dtype='bfloat16' or 'float32'"):
        fit(weight, levels(), 2, block=BLOCK)
    assert fit_error(weight, fit(weight, levels(), 2, block=BLOCK, scale_dtype=torch.bfloat16)) < 0.01


def spoilt(kind: str) -> Tensor:
    weight = structured_weight(32, 64)
    if kind == "zero row and column":
        weight[3], weight[:, 5] = 0.0, 0.0
    elif kind == "constant row":
        weight[3] = 0.01
    elif kind == "constant":
        weight[:] = 0.3
    elif kind == "outlier":
        weight[3, 5] = 1000 * weight.std()
    elif kind == "sparse":
        weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.95] = 0.0
    elif kind == "one value":
        weight = weight[:1, :1]
    elif kind == "one row":
        weight = weight[:1]
    elif kind == "one column":
        weight = weight[:, :1]
    return weight


KINDS = ["zero row and column", "constant row", "constant", "outlier", "sparse", "one value", "one row", "one column"]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learn_levels", [False, True])
def test_odd_weights_are_fitted_as_well_as_ordinary_ones(fit: Fit, kind: str, learn_levels: bool) -> None:
    weight = spoilt(kind)

    result = fit(weight, levels(), 1, block=BLOCK, learn_levels=learn_levels)

    assert fit_error(weight, result) < 0.012


@pytest.mark.parametrize("fit", FITS)
def test_a_weight_of_zeros_gives_a_scale_of_zeros(fit: Fit) -> None:
    assert not fit(torch.zeros(8, 16), levels(), 2, block=BLOCK).field.expand().any()


@pytest.mark.parametrize("rank", [1, 4, 16, 32])
def test_every_rank_up_to_the_smaller_side_is_fitted(rank: int) -> None:
    """Ranks beyond the number of blocks have no start of their own, and must not drive the others away."""
    weight = structured_weight(32, 64)

    error = fit_error(weight, fit_refined(weight, levels(), rank, block=BLOCK))

    assert error < {1: 0.0075, 4: 0.004, 16: 0.002, 32: 0.002}[rank]


@pytest.mark.parametrize("fit", FITS)
def test_the_block_of_the_start_need_not_divide_the_inputs(fit: Fit) -> None:
    weight = structured_weight(32, 64)[:, :50]

    assert fit_error(weight, fit(weight, levels(), 2, block=BLOCK)) < 0.01


@pytest.mark.parametrize("fit", FITS)
def test_float64_is_fitted_in_float64_and_half_precision_in_float32(fit: Fit) -> None:
    weight = structured_weight(32, 64)

    wide = fit(weight.double(), levels(), 2, block=BLOCK).field
    narrow = fit(weight.half(), levels(), 2, block=BLOCK).field

    assert wide.b_NR.dtype == torch.float64
    assert narrow.b_NR.dtype == torch.float32


def test_the_start_is_kept_when_annealing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(_: Tensor, start: LowRankField, levels_L: Tensor, **_options: Any) -> tuple[LowRankField, Tensor]:
        return LowRankField(b_NR=start.b_NR * torch.nan, a_RK=start.a_RK), levels_L

    monkeypatch.setattr(lords_refined, "anneal", diverging)
    weight = structured_weight()

    fit = fit_refined(weight, levels(), parity(weight), block=BLOCK)

    assert fit_error(weight, fit) < 0.02
