"""Additive adapters: what they start from, and that they are no straw men: peft and bitsandbytes compute the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lords_bench.errors import SpecError
from lords_bench.quant import QuantSpec
from lords_bench.reference.adapters import AdaptedWeight, principal_factors, start_adapter
from lords_bench.reference.methods import quantize
from lords_bench.reference.weights import BlockwiseWeight
from lords_bench.training import prepare_peft, quantized_layers

# float32 scales, as bitsandbytes keeps them
NF4 = QuantSpec(method="nf4", scale_dtype="float32")
QLORA = QuantSpec(method="nf4", double_quant=True)
N, K, RANK = 96, 128, 4


def weight() -> Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(0)) * 0.1


def error(adapted: AdaptedWeight) -> float:
    return float((adapted.dequantize() - weight()).norm() / weight().norm())


def base_error(spec: QuantSpec) -> float:
    return float((quantize(weight(), spec).dequantize() - weight()).norm() / weight().norm())


# Starts


def test_qlora_starts_at_the_quantized_weight() -> None:
    adapted = start_adapter(weight(), NF4, "qlora", rank=RANK)

    assert torch.equal(adapted.dequantize(), quantize(weight(), NF4).dequantize())
    assert float(adapted.down_RK.abs().max()) <= K**-0.5
    assert float(adapted.down_RK.std()) == pytest.approx((3 * K) ** -0.5, rel=0.1)


def test_loftq_starts_nearer_to_the_weight_with_every_alternation() -> None:
    errors = [error(start_adapter(weight(), NF4, "loftq", rank=RANK, iterations=count)) for count in (1, 5)]

    assert errors[1] < errors[0] < base_error(NF4)


def test_qpissa_quantizes_what_the_principal_directions_leave() -> None:
    adapted = start_adapter(weight(), NF4, "qpissa", rank=RANK)

    rest_NK = weight() - adapted.up_NR @ adapted.down_RK
    assert torch.equal(adapted.base.dequantize(), quantize(rest_NK, NF4).dequantize())
    assert error(adapted) < base_error(NF4)


@pytest.mark.parametrize("method", ["loftq", "qpissa"])
def test_alpha_does_not_move_the_start(method: str) -> None:
    plain = start_adapter(weight(), NF4, method, rank=RANK)
    scaled = start_adapter(weight(), NF4, method, rank=RANK, alpha=16.0)

    assert scaled.scaling == 4.0
    assert torch.allclose(plain.dequantize(), scaled.dequantize(), atol=1e-6)


def test_all_stored_bytes_are_counted() -> None:
    adapted = start_adapter(weight(), QuantSpec(method="nf4"), "qlora", rank=RANK)

    expected = 4 + 16 / 64 + 32 * RANK * (N + K) / (N * K)
    assert adapted.bits_per_weight == pytest.approx(expected)


def test_the_same_seed_gives_the_same_start_and_another_another() -> None:
    starts = [start_adapter(weight(), NF4, "qlora", rank=RANK, seed=seed).down_RK for seed in (1, 1, 2)]

    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank=0 must be from 1 to 96"),
        ({"rank": 97}, "rank=97 must be from 1 to 96"),
        ({"alpha": 0.0}, "alpha=0.0 must be a positive number"),
        ({"iterations": 0}, "iterations=0 must be at least 1"),
        ({"method": "lora"}, "unknown adapter 'lora'; known: qlora, loftq, qpissa"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    options = {"method": "loftq", "rank": RANK} | changes

    with pytest.raises(SpecError, match=message):
        start_adapter(weight(), NF4, **options)


# Against bitsandbytes and peft


def test_the_base_of_qlora_is_bitsandbytes_nf4_with_double_quantization_bit_for_bit() -> None:
    bnb = pytest.importorskip("bitsandbytes.functional")
    packed, state = bnb.quantize_4bit(weight(), blocksize=64, quant_type="nf4", compress_statistics=True)

    base = start_adapter(weight(), QLORA, "qlora", rank=RANK).base

    assert isinstance(base, BlockwiseWeight)
    assert torch.equal(base.dequantize(), bnb.dequantize_4bit(packed, state))


def peft_model(model: nn.Module, **options: Any) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["0", "2"], r=RANK, lora_alpha=8, **options))


def losses(model: nn.Module, *, steps: int = 30) -> list[float]:
    generator = torch.Generator().manual_seed(5)
    x, target = (torch.randn(32, K, generator=generator) for _ in range(2))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0)
    found = []
    for _ in range(steps):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(K, N), nn.SiLU(), nn.Linear(N, K))


def test_qlora_has_the_loss_curve_of_peft_on_the_same_base() -> None:
    ours, dense = two_layers(), two_layers()
    spec = QuantSpec(method="nf4", block=32, double_quant=True)
    prepare_peft(ours, "qlora", spec, rank=RANK, alpha=8.0)
    with torch.no_grad():
        for name in ("0", "2"):
            layer = dense.get_submodule(name)
            layer.weight.copy_(quantize(layer.weight, spec).dequantize())
    theirs = peft_model(dense)
    for name, layer in quantized_layers(ours).items():
        adapted = theirs.base_model.model.get_submodule(name)
        adapted.lora_A["default"].weight.data.copy_(layer.down)
        adapted.lora_B["default"].weight.data.copy_(layer.up)

    found, expected = losses(ours), losses(theirs)

    # 30 steps in float32, products summed in another order
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected[-1] < 0.97 * expected[0]


def test_lora_starts_from_the_distribution_of_peft() -> None:
    theirs = peft_model(two_layers()).base_model.model.get_submodule("0")
    down_RK = theirs.lora_A["default"].weight.detach()
    ours = start_adapter(torch.zeros(N, K), NF4, "qlora", rank=RANK)

    assert bool((theirs.lora_B["default"].weight == 0).all())
    assert bool((ours.up_NR == 0).all())
    # uniform on ±1/√K: 512 draws come within 3 % of the bound
    for draws in (down_RK, ours.down_RK):
        assert float(draws.abs().max()) == pytest.approx(K**-0.5, rel=0.03)


def test_the_principal_directions_are_those_of_peft() -> None:
    theirs = peft_model(two_layers(), init_lora_weights="pissa").base_model.model.get_submodule("0")
    weight_NK = two_layers()[0].weight.detach()

    up_NR, down_RK = principal_factors(weight_NK, RANK)

    product_NK = 2.0 * theirs.lora_B["default"].weight @ theirs.lora_A["default"].weight  # its scaling is alpha/r = 2
    assert torch.allclose(up_NR @ down_RK, product_NK, atol=1e-5)
    assert torch.allclose(weight_NK - up_NR @ down_RK, theirs.base_layer.weight, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 3])
def test_loftq_is_that_of_peft(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its function wants a CUDA device and no more than that: moves to one are turned into moves to the CPU."""
    pytest.importorskip("bitsandbytes")
    loftq_utils = pytest.importorskip("peft.utils.loftq_utils")
    to = torch.Tensor.to

    def on_cpu(value: Any) -> Any:
        return "cpu" if str(value).startswith("cuda") else value

    def stay(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return to(tensor, *map(on_cpu, arguments), **{name: on_cpu(value) for name, value in options.items()})

    monkeypatch.setattr(torch.Tensor, "to", stay)
    base_NK, down_RK, up_NR = loftq_utils.loftq_init(weight(), num_bits=4, reduced_rank=RANK, num_iter=iterations)
    monkeypatch.undo()

    ours = start_adapter(weight(), NF4, "loftq", rank=RANK, iterations=iterations)

    assert torch.allclose(ours.base.dequantize(), base_NK, atol=1e-6)
    assert torch.allclose(ours.up_NR @ ours.down_RK, up_NR @ down_RK, atol=1e-5)
