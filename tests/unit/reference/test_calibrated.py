import pytest
import torch
from torch import Tensor

from lords_bench.errors import WeightError
from lords_bench.quant import QuantSpec, named_codebook
from lords_bench.reference import calibrated
from lords_bench.reference.blocks import absmax_field, optimised_field
from lords_bench.reference.calibrated import CalibratedFit, quantize_with_feedback
from lords_bench.reference.codebooks import levels_tensor
from lords_bench.reference.feedback import assign_feedback, plan_feedback
from lords_bench.reference.fields import BlockField, Field
from lords_bench.reference.lowrank import truncated_svd

N, K, BLOCK = 48, 96, 16
LEVELS_L = torch.tensor([-1.0, 1.0])
START = BlockField(scale_NG=torch.ones(N, K // BLOCK), block=BLOCK)
FEEDBACK_METHODS = ["gptq", "block-gptq", "lords-gptq"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_weight() -> Tensor:
    return 0.05 * normal(N, K) * normal(N, 1, seed=1).exp()


def make_hessian() -> Tensor:
    x_MK = normal(4 * K, K, seed=2) + normal(4 * K, 1, seed=3)
    x_MK = x_MK * torch.linspace(0.5, 2.0, K)
    return x_MK.T @ x_MK / len(x_MK)


def start_field(weight_NK: Tensor, spec: QuantSpec, levels_L: Tensor) -> Field:
    if spec.scales == "absmax":
        return absmax_field(weight_NK, BLOCK)
    blocks = optimised_field(weight_NK, BLOCK, levels_L)
    return truncated_svd(blocks, 4, seed=0) if spec.is_low_rank else blocks


def run(
    method: str, *, bits: int = 3, rounds: int | None = None, weight_NK: Tensor | None = None, **options: object
) -> CalibratedFit:
    spec = QuantSpec(method=method, bits=bits, block=BLOCK, refit_rounds=rounds, **options)  # type: ignore[arg-type]
    weight_NK = make_weight() if weight_NK is None else weight_NK
    levels_L = levels_tensor(named_codebook(f"nf{bits}"), dtype=torch.float64)
    field = start_field(weight_NK, spec, levels_L)
    return quantize_with_feedback(weight_NK, spec, make_hessian(), field=field, levels_L=levels_L)


def output_error(fit: CalibratedFit, weight_NK: Tensor, hessian_KK: Tensor) -> float:
    error_NK = weight_NK.double() - (fit.values_NK * fit.field.expand()).double()
    return float(((error_NK @ hessian_KK.double()) * error_NK).sum())


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("method", ["block-gptq", "lords-gptq"])
def test_refit_rounds_lower_the_output_error_clearly(method: str, bits: int) -> None:
    plain, refitted = run(method, bits=bits, rounds=0), run(method, bits=bits)

    assert refitted.hessian_error < 0.97 * plain.hessian_error
    assert output_error(refitted, make_weight(), make_hessian()) < output_error(plain, make_weight(), make_hessian())


@pytest.mark.parametrize("method", ["block-gptq", "lords-gptq"])
def test_at_low_bits_the_calibrated_presets_beat_plain_gptq(method: str) -> None:
    assert run(method, bits=2).hessian_error < 0.8 * run("gptq", bits=2).hessian_error


@pytest.mark.parametrize("method", FEEDBACK_METHODS)
def test_scales_and_levels_are_already_what_is_stored(method: str) -> None:
    fit = run(method)

    numbers = (fit.field.scale_NG,) if isinstance(fit.field, BlockField) else (fit.field.b_NR, fit.field.a_RK)
    assert all(torch.equal(tensor, tensor.half().to(tensor.dtype)) for tensor in numbers)
    assert torch.equal(fit.levels_L, fit.levels_L.float().to(fit.levels_L.dtype))
    assert bool((fit.levels_L.diff() >= 0).all())
    assert float(fit.levels_L.abs().max()) == 1.0


def test_gptq_is_feedback_on_the_rounded_largest_magnitudes() -> None:
    weight_NK = make_weight()
    fit = run("gptq")

    scale_NK = absmax_field(weight_NK, BLOCK).to_dtype(torch.float16).expand()
    codes_NK = assign_feedback(weight_NK, scale_NK, fit.levels_L, plan_feedback(make_hessian()))
    assert torch.equal(fit.field.expand(), scale_NK)
    assert torch.equal(fit.codes_NK, codes_NK)


@pytest.mark.parametrize("method", FEEDBACK_METHODS)
def test_levels_of_a_fixed_codebook_are_not_touched(method: str) -> None:
    fit = run(method, levels="nf")

    torch.testing.assert_close(fit.levels_L, levels_tensor(named_codebook("nf3")), rtol=0, atol=0)


@pytest.mark.parametrize("method", FEEDBACK_METHODS)
def test_the_same_request_gives_the_same_bits(method: str) -> None:
    first, second = run(method), run(method)

    assert torch.equal(first.codes_NK, second.codes_NK)
    assert torch.equal(first.field.expand(), second.field.expand())
    assert torch.equal(first.levels_L, second.levels_L)


@pytest.mark.parametrize("method", FEEDBACK_METHODS)
def test_a_float64_weight_is_fitted_in_float64_and_as_well(method: str) -> None:
    wide, narrow = run(method, weight_NK=make_weight().double()), run(method)

    assert wide.field.expand().dtype == torch.float64
    # Rounding decides single codes, after which two fits go their own ways.
    assert wide.hessian_error == pytest.approx(narrow.hessian_error, rel=0.05)


def test_a_rounding_of_its_own_is_what_the_codes_answer_to(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_NK, levels_L = make_weight(), levels_tensor(named_codebook("nf3"))
    spec = QuantSpec(method="gptq", bits=3, block=BLOCK)

    def coarse(field: Field, _spec: QuantSpec) -> Field:
        assert isinstance(field, BlockField)
        return BlockField(scale_NG=(field.scale_NG * 64).ceil() / 64, block=field.block)

    monkeypatch.setattr(calibrated, "stored_field", coarse)

    fit = quantize_with_feedback(
        weight_NK, spec, make_hessian(), field=absmax_field(weight_NK, BLOCK), levels_L=levels_L
    )

    plan = plan_feedback(make_hessian())
    assert torch.equal(fit.field.expand() * 64, (fit.field.expand() * 64).round())
    assert torch.equal(fit.codes_NK, assign_feedback(weight_NK, fit.field.expand(), levels_L, plan))


def test_a_round_that_does_harm_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_NK, levels_L = make_weight(), levels_tensor(named_codebook("nf3"))
    calls: list[Field] = []

    def spoil_all_but_the_first(field: Field, _spec: QuantSpec) -> Field:
        assert isinstance(field, BlockField)
        calls.append(field)
        return field if len(calls) == 1 else field.scaled(3.0)

    def run_rounds(rounds: int) -> CalibratedFit:
        calls.clear()
        spec = QuantSpec(method="block-gptq", bits=3, block=BLOCK, refit_rounds=rounds)
        start = absmax_field(weight_NK, BLOCK)
        return quantize_with_feedback(weight_NK, spec, make_hessian(), field=start, levels_L=levels_L)

    monkeypatch.setattr(calibrated, "stored_field", spoil_all_but_the_first)
    plain, spoilt = run_rounds(0), run_rounds(2)

    assert torch.equal(spoilt.field.expand(), plain.field.expand())
    assert spoilt.hessian_error <= plain.hessian_error


def test_inputs_that_were_always_zero_do_no_harm() -> None:
    weight_NK, levels_L, hessian_KK = make_weight(), levels_tensor(named_codebook("nf2")), make_hessian()
    hessian_KK[5:9], hessian_KK[:, 5:9] = 0.0, 0.0
    spec = QuantSpec(method="block-gptq", bits=2, block=BLOCK)
    field = optimised_field(weight_NK, BLOCK, levels_L)

    fit = quantize_with_feedback(weight_NK, spec, hessian_KK, field=field, levels_L=levels_L)

    quantized_NK = fit.values_NK * fit.field.expand()
    assert bool(torch.isfinite(quantized_NK).all())
    dead = weight_NK[:, 5:9]
    assert float((dead - quantized_NK[:, 5:9]).square().sum()) < float(dead.square().sum())


def test_a_hessian_of_another_width_is_refused_before_any_work() -> None:
    with pytest.raises(WeightError, match="does not fit a weight with K = 96"):
        quantize_with_feedback(make_weight(), QuantSpec(method="gptq"), torch.eye(4), field=START, levels_L=LEVELS_L)
