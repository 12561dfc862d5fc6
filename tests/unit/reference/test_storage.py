"""Every method with its scales in 8 bits: what is stored of it, how many bytes, and that it comes back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lords_bench.errors import ModelError, SpecError, WeightError
from lords_bench.quant import PRESETS, QuantSpec, int8_parity_rank, parity_rank
from lords_bench.records.plausible import stored_bytes
from lords_bench.reference.checkpoint import load_weights, save_weights
from lords_bench.reference.eight_bit import Int8Factors
from lords_bench.reference.fields import LowRankField
from lords_bench.reference.methods import quantize
from lords_bench.reference.storage import stored_field
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.reference.weights import LordsWeight, QuantizedWeight

N, K, BLOCK = 48, 128, 16
EARLIER = Path(__file__).parents[2] / "earlier"
METHODS = sorted(PRESETS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_weight() -> Tensor:
    return 0.05 * normal(N, K) * normal(N, 1, seed=1).exp()


def make_hessian() -> Tensor:
    x_MK = normal(4 * K, K, seed=2) * torch.linspace(0.5, 2.0, K)
    return x_MK.t() @ x_MK / len(x_MK)


def run(spec: QuantSpec) -> QuantizedWeight:
    return quantize(make_weight(), spec, hessian_KK=make_hessian() if spec.needs_hessian else None)


def relative_error(weight: QuantizedWeight) -> float:
    return float((weight.dequantize() - make_weight()).norm() / make_weight().norm())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_stores_its_scales_in_8_bits(method: str, tmp_path: Path) -> None:
    spec = QuantSpec(method=method, block=BLOCK, scale_bits=8)

    weight = run(spec)
    save_weights({"w": weight}, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors")["w"]

    tensors = weight.tensors()
    assert {"b_NR", "a_RK", "scale_NG"}.isdisjoint(tensors)
    assert weight.bits_per_weight * N * K / 8 == sum(tensor.nbytes for tensor in tensors.values())
    assert weight.bits_per_weight * N * K / 8 == stored_bytes(spec, N, K)
    assert loaded.spec == spec
    assert torch.equal(loaded.dequantize(), weight.dequantize())
    assert {name: tensor.tolist() for name, tensor in loaded.tensors().items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("method", ["nf4", "block-opt", "lords"])
def test_half_the_bits_a_scale_buy_twice_as_many_and_a_better_weight(method: str) -> None:
    plain = run(QuantSpec(method=method, block=BLOCK))
    block = BLOCK if method == "lords" else BLOCK // 2

    eight = run(QuantSpec(method=method, block=block, scale_bits=8))

    # This matrix is tiny: constants, and the scales of its ranks, are a hundredth of a bit per weight.
    assert eight.bits_per_weight <= plain.bits_per_weight + 0.05
    assert relative_error(eight) < relative_error(plain)


@pytest.mark.parametrize("method", METHODS)
def test_half_the_bits_of_the_same_scales_cost_little(method: str) -> None:
    """Steps of a logarithm are some percent here, steps of int8 1/127 of a rank's largest number."""
    rank = 4 if QuantSpec(method=method).is_low_rank else None
    plain = run(QuantSpec(method=method, block=BLOCK, rank=rank))

    eight = run(QuantSpec(method=method, block=BLOCK, rank=rank, scale_bits=8))

    assert relative_error(eight) < 1.05 * relative_error(plain)


def test_codes_answer_to_the_scales_that_are_stored() -> None:
    """Every code is the nearest for the scale after rounding, which a code chosen before it would often not be."""
    weight = run(QuantSpec(method="lords", bits=4, block=BLOCK, scale_bits=8))
    assert isinstance(weight, LordsWeight)

    scale_NK = weight.field().expand()
    value_NKL = scale_NK.unsqueeze(2) * weight.levels()
    nearest_NK = (value_NKL - make_weight().unsqueeze(2)).abs().amin(dim=2)

    torch.testing.assert_close((weight.dequantize() - make_weight()).abs(), nearest_NK, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("n", "k"), [(512, 512), (1536, 512), (4096, 4096), (14336, 4096), (576, 1536)])
@pytest.mark.parametrize("block", [32, 64, 128])
def test_parity_counts_bits(n: int, k: int, block: int) -> None:
    rank = int8_parity_rank(n, k, block)
    bits_of_blocks = 16 * n * k // block

    assert 8 * rank * (n + k) <= bits_of_blocks < 8 * (rank + 1) * (n + k)
    assert rank in (2 * parity_rank(n, k, block), 2 * parity_rank(n, k, block) + 1)
    assert QuantSpec(method="lords", block=block, scale_bits=8).rank_for(n, k) == rank
    # Scales of float32 cost twice as much, so the rank that stores as many bits is twice as high.
    wide = QuantSpec(method="lords", block=block, scale_bits=8, scale_dtype="float32")
    assert wide.rank_for(n, k) in (2 * rank, 2 * rank + 1)


def test_parity_of_a_tiny_weight_stays_within_it() -> None:
    assert QuantSpec(method="lords", block=1, scale_bits=8).rank_for(4, 64) == 4


def test_more_bits_for_every_scale_are_no_worse() -> None:
    """The same field rounded to 8 bits and to 16: nothing but its own rounding differs."""
    field = LowRankField(b_NR=normal(N, 4).double(), a_RK=normal(4, K, seed=1).double())
    errors = []
    for bits in (None, 8):
        stored = stored_field(field, QuantSpec(method="lords", rank=4, scale_bits=bits))
        errors.append(float((stored.expand() - field.expand()).norm()))
    assert errors[0] < 0.1 * errors[1]


def test_a_weight_moves_with_all_it_stores() -> None:
    weight = run(QuantSpec(method="lords", block=BLOCK, scale_bits=8))
    assert isinstance(weight, LordsWeight)

    moved = weight.to("meta")

    assert isinstance(moved.int8, Int8Factors)
    assert {tensor.device.type for tensor in (*moved.tensors().values(), moved.b_NR, moved.a_RK)} == {"meta"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale_bits": 4}, r"scale_bits=4 is not offered; choose one of 8"),
        ({"scale_bits": 8.0}, r"scale_bits=8\.0 is not offered"),
        ({"scale_bits": 8, "double_quant": True}, r"both store scales in 8 bits; choose one"),
    ],
)
def test_what_is_no_storage_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        QuantSpec(method="nf4", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["nf4", "lords", "int-rtn"])
def test_scales_too_small_for_their_dtype_are_refused_in_8_bits_too(method: str) -> None:
    spec = QuantSpec(method=method, block=BLOCK, scale_bits=8)

    with pytest.raises(WeightError, match=r"too small for float16; use scale_dtype='bfloat16' or 'float32'"):
        quantize(1e-18 * torch.ones(16, 32), spec)
    wide = quantize(1e-18 * torch.ones(16, 32), replace(spec, scale_dtype="float32"))

    torch.testing.assert_close(wide.dequantize(), 1e-18 * torch.ones(16, 32), rtol=0.05, atol=0.0)


def test_constants_without_a_logarithm_are_refused(tmp_path: Path) -> None:
    save_weights({"w": run(QuantSpec(method="nf4", block=BLOCK, scale_bits=8))}, tmp_path / "w.safetensors")
    tensors, metadata = read_tensors(tmp_path / "w.safetensors")
    tensors["w.scale_range"] = torch.tensor([-1.0, 1.0]).half()
    write_tensors(tensors, tmp_path / "w.safetensors", metadata)

    with pytest.raises(ModelError, match=r"has constants of 8-bit scales that give no numbers"):
        load_weights(tmp_path / "w.safetensors")


def test_what_an_earlier_version_saved_is_read_as_it_was_meant() -> None:
    expected, _ = read_tensors(EARLIER / "dequantized.safetensors")

    weights = load_weights(EARLIER / "checkpoint.safetensors")

    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert torch.equal(weight.dequantize(), expected[name]), name
        assert weight.spec.scale_bits is None


def test_what_an_earlier_version_could_save_is_still_described_alike(tmp_path: Path) -> None:
    weights = load_weights(EARLIER / "checkpoint.safetensors")

    save_weights(weights, tmp_path / "again.safetensors")

    old, new = EARLIER / "checkpoint.safetensors", tmp_path / "again.safetensors"
    assert read_tensors(new)[1]["weights"] == read_tensors(old)[1]["weights"]
