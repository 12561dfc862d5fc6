"""`quantize` from end to end: every preset, every number of bits, and every refusal."""

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from lords_bench.errors import SpecError, WeightError
from lords_bench.quant import PRESETS, Codebook, QuantSpec, named_codebook
from lords_bench.reference import methods
from lords_bench.reference.blocks import absmax_field, assign_blocks
from lords_bench.reference.calibrated import CalibratedFit, quantize_with_feedback
from lords_bench.reference.checkpoint import load_weights, save_weights
from lords_bench.reference.codebooks import assign_nearest, levels_tensor
from lords_bench.reference.double_quant import double_quantize
from lords_bench.reference.methods import START_FIELDS, quantize
from lords_bench.reference.weights import AffineWeight, BlockwiseWeight, LordsWeight, QuantizedWeight

N, K = 96, 128
CASES = [(method, bits) for method, preset in PRESETS.items() for bits in (4, 3, 2) if preset.bits in (None, bits)]
CALIBRATED = [method for method, preset in PRESETS.items() if preset.assignment == "feedback"]


def make_weight(seed: int = 0, n: int = N, k: int = K) -> torch.Tensor:
    """Rows and columns of different size, as trained weights have."""
    generator = torch.Generator().manual_seed(seed)
    rows_N1 = torch.exp(0.5 * torch.randn(n, 1, generator=generator))
    columns_1K = torch.exp(0.5 * torch.randn(1, k, generator=generator))
    return 0.02 * rows_N1 * columns_1K * torch.randn(n, k, generator=generator)


def make_hessian(k: int = K) -> torch.Tensor:
    """Mean of x xᵀ of correlated inputs."""
    generator = torch.Generator().manual_seed(9)
    x_MK = torch.randn(4 * k, k, generator=generator) @ (
        torch.eye(k) + 0.3 * torch.randn(k, k, generator=generator) / k**0.5
    )
    return x_MK.t() @ x_MK / x_MK.shape[0]


def relative_squared_error(weight_NK: torch.Tensor, quantized: QuantizedWeight) -> float:
    error_NK = weight_NK.double() - quantized.dequantize(torch.float64)
    return float(error_NK.square().sum() / weight_NK.double().square().sum())


def run(spec: QuantSpec, weight_NK: torch.Tensor) -> QuantizedWeight:
    hessian_KK = make_hessian(weight_NK.shape[1]) if spec.needs_hessian else None
    return quantize(weight_NK, spec, hessian_KK=hessian_KK)


@cache
def first_run(spec: QuantSpec) -> QuantizedWeight:
    """One result per spec for all tests that only look at it; nothing here writes into a weight."""
    return run(spec, make_weight())


@pytest.mark.parametrize(("method", "bits"), CASES, ids=[f"{method}-b{bits}" for method, bits in CASES])
def test_every_preset_quantizes_within_the_error_of_its_bits(method: str, bits: int) -> None:
    quantized = first_run(QuantSpec(method=method, bits=bits, block=32))

    # Feedback trades weight error for output error, so it is allowed twice that of nearest codes.
    assert relative_squared_error(make_weight(), quantized) < {4: 0.03, 3: 0.12, 2: 0.6}[bits]
    assert quantized.shape == (N, K)
    assert quantized.codes().shape == (N, K)


@pytest.mark.parametrize(("method", "bits"), CASES, ids=[f"{method}-b{bits}" for method, bits in CASES])
def test_every_preset_gives_the_same_bits_twice(method: str, bits: int) -> None:
    spec = QuantSpec(method=method, bits=bits, block=32)

    first, second = first_run(spec).tensors(), run(spec, make_weight()).tensors()

    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", PRESETS)
def test_float64_weights_are_quantized_as_well_as_float32_ones(method: str) -> None:
    """Not equal: fits that take hundreds of steps end in slightly different places."""
    spec = QuantSpec(method=method, block=32)

    wide, narrow = run(spec, make_weight().double()), first_run(spec)

    error = relative_squared_error(make_weight(), narrow)
    assert relative_squared_error(make_weight(), wide) == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize("levels", ["nf", "learned"])
@pytest.mark.parametrize("method", [method for method, preset in PRESETS.items() if preset.scales != "affine"])
def test_every_preset_passes_through_a_file(method: str, levels: str, tmp_path: Path) -> None:
    quantized = first_run(QuantSpec(method=method, block=32, levels=levels))

    save_weights({"layer": quantized}, tmp_path / "weights.safetensors")
    loaded = load_weights(tmp_path / "weights.safetensors")["layer"]

    assert loaded.spec == quantized.spec
    assert torch.equal(loaded.dequantize(), quantized.dequantize())


@pytest.mark.parametrize("method", PRESETS)
def test_every_preset_survives_a_weight_of_zeros(method: str) -> None:
    quantized = run(QuantSpec(method=method, block=32), torch.zeros(N, K))

    assert not bool(quantized.dequantize().any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", ["lords", "block-opt", "int-rtn"])
def test_half_precision_weights_are_those_numbers_in_float32(method: str, dtype: torch.dtype) -> None:
    weight_NK = make_weight().to(dtype)
    spec = QuantSpec(method=method, block=32)

    assert torch.equal(quantize(weight_NK, spec).dequantize(), quantize(weight_NK.float(), spec).dequantize())


@pytest.mark.parametrize(
    ("scales", "kind"),
    [
        ("absmax", BlockwiseWeight),
        ("optimised", BlockwiseWeight),
        ("low-rank", LordsWeight),
        ("low-rank-paper", LordsWeight),
    ],
)
@pytest.mark.parametrize("levels", ["nf", "int", "learned", Codebook(name="mine", levels=(-1.0, -0.3, 0.0, 0.4, 1.0))])
@pytest.mark.parametrize("assignment", ["nearest", "feedback"])
def test_the_three_choices_combine_freely(scales: str, kind: type, levels: str | Codebook, assignment: str) -> None:
    spec = QuantSpec(bits=3, block=32, scales=scales, levels=levels, assignment=assignment)

    quantized = first_run(spec)

    assert type(quantized) is kind
    assert relative_squared_error(make_weight(), quantized) < 0.25


def test_every_way_of_finding_scales_is_registered() -> None:
    assert {preset.scales for preset in PRESETS.values()} == set(START_FIELDS)


def test_nearest_codes_answer_to_the_rounded_scales() -> None:
    weight_NK = make_weight()
    quantized = quantize(weight_NK, QuantSpec(method="lords", block=32))

    assert isinstance(quantized, LordsWeight)
    expected_NK = assign_nearest(weight_NK, quantized.field().expand(), quantized.levels())
    assert torch.equal(quantized.codes(), expected_NK)


def test_nf4_with_float32_scales_is_the_plain_absmax_rule() -> None:
    """Its agreement with bitsandbytes is tested where the rule is."""
    weight_NK = make_weight()
    field = absmax_field(weight_NK, 32)

    quantized = quantize(weight_NK, QuantSpec(method="nf4", block=32, scale_dtype="float32"))

    assert isinstance(quantized, BlockwiseWeight)
    assert torch.equal(quantized.field().scale_NG, field.scale_NG)
    assert torch.equal(quantized.codes(), assign_blocks(weight_NK, field, levels_tensor(named_codebook("nf4"))))


def test_double_quantization_keeps_the_codes_and_compresses_the_scales() -> None:
    weight_NK = make_weight()

    quantized = quantize(weight_NK, QuantSpec(method="nf4", block=32, double_quant=True))

    plain = quantize(weight_NK, QuantSpec(method="nf4", block=32, scale_dtype="float32"))
    assert isinstance(quantized, BlockwiseWeight)
    assert torch.equal(quantized.codes(), plain.codes())
    assert torch.equal(quantized.field().scale_NG, double_quantize(absmax_field(weight_NK, 32).scale_NG).expand())


@pytest.mark.parametrize(
    ("method", "storage"),
    [("gptq", {"double_quant": True}), *product(CALIBRATED, ({}, {"scale_bits": 8}))],
    ids=str,
)
def test_feedback_stores_the_very_fit_it_ended_with(
    method: str, storage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scales that were rounded twice, or levels that were not, would no longer be those the codes answer to."""
    fits: list[CalibratedFit] = []

    def recording(*args: Any, **options: Any) -> CalibratedFit:
        fits.append(quantize_with_feedback(*args, **options))
        return fits[-1]

    monkeypatch.setattr(methods, "quantize_with_feedback", recording)

    quantized = run(QuantSpec(method=method, bits=3, block=32, **storage), make_weight())

    (fit,) = fits
    assert torch.equal(quantized.codes(), fit.codes_NK)
    assert torch.equal(quantized.dequantize(), fit.weight_NK)


@pytest.mark.parametrize("levels", ["nf", "learned"])
def test_without_refits_feedback_keeps_the_scales_and_levels_of_nearest_codes(levels: str) -> None:
    """Learned levels belong to scales that were moved with them."""
    fed_back = first_run(QuantSpec(method="gptq", bits=3, block=32, levels=levels)).tensors()
    spec = QuantSpec(method="nf3", block=32, levels=levels)
    nearest = quantize(make_weight(), spec, input_weight_K=make_hessian().diagonal()).tensors()

    assert not torch.equal(fed_back.pop("packed"), nearest.pop("packed"))
    assert all(torch.equal(fed_back[name], nearest[name]) for name in nearest)


@pytest.mark.parametrize("method", CALIBRATED)
def test_feedback_lowers_the_output_error(method: str) -> None:
    """tr(E H Eᵀ), against the same scales and levels with nearest codes."""
    weight_NK, hessian_KK = make_weight(), make_hessian()

    def output_error(assignment: str) -> float:
        spec = QuantSpec(method=method, bits=3, block=32, assignment=assignment)
        error_NK = weight_NK - run(spec, weight_NK).dequantize()
        return float((error_NK @ hessian_KK * error_NK).sum())

    assert output_error("feedback") < 0.9 * output_error("nearest")


def test_input_weights_move_the_error_to_the_inputs_that_matter_less() -> None:
    weight_NK = make_weight()
    input_weight_K = torch.ones(K)
    input_weight_K[: K // 2] = 100.0

    def error_of_heavy_inputs(method: str, weights: torch.Tensor | None) -> float:
        quantized = quantize(weight_NK, QuantSpec(method=method, bits=3, block=K), input_weight_K=weights)
        return float((weight_NK - quantized.dequantize())[:, : K // 2].square().sum())

    for method in ("block-opt", "lords"):
        assert error_of_heavy_inputs(method, input_weight_K) < error_of_heavy_inputs(method, None)


@pytest.mark.parametrize(("weighted", "plain"), [("block-act", "block-opt"), ("lords-act", "lords")])
def test_activation_weights_are_the_diagonal_of_the_hessian_and_nothing_of_its_rest(weighted: str, plain: str) -> None:
    size_K = torch.logspace(-1, 0.5, K)
    weight_NK, hessian_KK = make_weight(), make_hessian() * size_K * size_K.unsqueeze(1)
    diagonal_K = hessian_KK.diagonal()
    spec = QuantSpec(method=weighted, bits=3, block=32)

    quantized = quantize(weight_NK, spec, hessian_KK=hessian_KK)

    alike = quantize(weight_NK, QuantSpec(method=plain, bits=3, block=32), input_weight_K=diagonal_K)
    unweighted = quantize(weight_NK, QuantSpec(method=plain, bits=3, block=32))
    assert spec.needs_hessian
    assert torch.equal(quantized.dequantize(), alike.dequantize())
    lost, lost_unweighted = (
        float(((weight_NK - found.dequantize()).square() * diagonal_K).sum()) for found in (quantized, unweighted)
    )
    assert lost < lost_unweighted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "nf4", "activation_weights": True}, r"activation_weights has no meaning for 'absmax' scales"),
        ({"method": "int-rtn", "activation_weights": True}, r"activation_weights has no meaning for 'affine' scales"),
        ({"method": "lords", "activation_weights": 1}, r"activation_weights=1 is not offered"),
    ],
)
def test_activation_weights_without_a_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        QuantSpec(**fields)


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_a_lords_weight_at_parity_stores_what_a_block_weight_stores(bits: int) -> None:
    """Rank 2 of a 256×256 weight: 2·(256 + 256) numbers, as many as 256·256 / 64 block scales."""
    weight_NK = make_weight(n=256, k=256)

    lords = quantize(weight_NK, QuantSpec(method="lords", bits=bits, block=64))
    blocks = quantize(weight_NK, QuantSpec(method="block-opt", bits=bits, block=64))

    assert lords.bits_per_weight == blocks.bits_per_weight == bits + 0.25


def test_int_rtn_stores_its_zero_points() -> None:
    quantized = quantize(make_weight(n=256, k=256), QuantSpec(method="int-rtn", bits=4, block=64))

    assert isinstance(quantized, AffineWeight)
    assert quantized.bits_per_weight == 4 + (16 + 4) / 64


def test_a_ragged_low_rank_weight_stores_no_padding() -> None:
    weight_NK = make_weight(n=64, k=100)

    quantized = quantize(weight_NK, QuantSpec(method="lords", bits=4, rank=1))

    assert quantized.bits_per_weight == (64 * 100 / 2 + 2 * (64 + 100)) * 8 / 6400
    assert relative_squared_error(weight_NK, quantized) < 0.05


@pytest.mark.parametrize(
    ("spec", "weight", "message"),
    [
        (QuantSpec(method="lords", rank=9), torch.ones(8, 64), r"rank 9 is above min\(N, K\) = 8"),
        (QuantSpec(method="lords"), torch.full((8, 64), float("nan")), r"weight has 512 non-finite values"),
        (QuantSpec(method="nf4"), 1e6 * torch.ones(8, 64), r"scale 1e\+06 does not fit float16"),
        (QuantSpec(method="nf4"), 1e-9 * torch.ones(8, 64), r"scales of at most 1e-09 are too small for float16"),
        (QuantSpec(method="lords"), 1e-18 * torch.ones(8, 64), r"too small for float16; use scale_dtype='bfloat16'"),
        (QuantSpec(method="int-rtn"), 1e-9 * torch.ones(8, 64), r"too small for float16; use scale_dtype='bfloat16'"),
        (QuantSpec(method="gptq"), torch.ones(8, 64), r"needs hessian_KK"),
    ],
    ids=[
        "rank",
        "nan",
        "overflow",
        "underflow",
        "low-rank-underflow",
        "affine-underflow",
        "no-hessian",
    ],
)
def test_what_cannot_be_quantized_is_refused_in_one_line(spec: QuantSpec, weight: torch.Tensor, message: str) -> None:
    with pytest.raises((SpecError, WeightError), match=message) as caught:
        quantize(weight, spec)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", CALIBRATED)
def test_a_hessian_of_another_width_is_refused(method: str) -> None:
    with pytest.raises(WeightError, match=r"Hessian of shape \(32, 32\) does not fit a weight with K = 128"):
        quantize(make_weight(), QuantSpec(method=method), hessian_KK=make_hessian(32))
