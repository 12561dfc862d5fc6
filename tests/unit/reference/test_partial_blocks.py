"""In features that neither a scale block nor a K block divides: what is stored follows K, and nothing is refused."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lords_bench.quant import PRESETS, QuantSpec
from lords_bench.records.plausible import stored_bytes
from lords_bench.reference.checkpoint import load_weights, save_weights
from lords_bench.reference.methods import quantize
from lords_bench.reference.packing import pack_codes, packed_codes, stored_codes, stored_layout
from lords_bench.reference.weights import LordsWeight, QuantizedWeight

N = 16
WIDTHS = (576, 896, 960, 1152, 2880)
QUICK_METHODS = ("nf", "block-opt", "int-rtn")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_hessian(k: int) -> Tensor:
    x_MK = normal(2 * k, k, seed=2) + normal(2 * k, 1, seed=3)
    return x_MK.t() @ x_MK / len(x_MK)


def run(spec: QuantSpec, k: int) -> QuantizedWeight:
    return quantize(0.05 * normal(N, k), spec, hessian_KK=make_hessian(k) if spec.needs_hessian else None)


@given(bits=st.sampled_from([4, 3, 2]), n=st.integers(1, 5), k=st.integers(1, 700), seed=st.integers(0, 99))
def test_codes_are_stored_in_their_own_bits_and_come_back(bits: int, n: int, k: int, seed: int) -> None:
    codes_NK = torch.randint(1 << bits, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    packed = pack_codes(codes_NK, bits)

    stored = stored_codes(packed, bits, k)

    assert (stored.dtype, tuple(stored.shape)) == stored_layout(n, k, bits)
    assert stored.nbytes == n * -(-k * bits // 8)
    assert torch.equal(packed_codes(stored, bits, k), packed)
    # As an earlier version stored them.
    assert packed_codes(packed, bits, k) is packed


@pytest.mark.parametrize("k", WIDTHS)
@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("method", QUICK_METHODS)
@pytest.mark.parametrize("block", [64, 128])
def test_a_weight_stores_what_its_name_says(k: int, bits: int, method: str, block: int) -> None:
    spec = QuantSpec(method=f"nf{bits}" if method == "nf" else method, bits=bits, block=block)

    weight = run(spec, k)

    scales = -(-k // block) * (16 + (bits if method == "int-rtn" else 0)) / k
    assert weight.bits_per_weight == pytest.approx(bits + scales, abs=1e-9)
    assert stored_bytes(spec, N, k) == sum(tensor.nbytes for tensor in weight.tensors().values())
    assert weight.dequantize().shape == (N, k)


@pytest.mark.parametrize("k", WIDTHS)
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_a_low_rank_weight_stores_its_codes_and_its_factors(k: int, bits: int) -> None:
    weight = LordsWeight(
        spec=QuantSpec(method="lords", bits=bits, rank=2),
        shape=(N, k),
        packed=pack_codes(torch.zeros(N, k, dtype=torch.uint8), bits),
        b_NR=torch.ones(N, 2).half(),
        a_RK=torch.ones(2, k).half(),
        levels_L=None,
    )

    assert weight.bits_per_weight == pytest.approx(bits + 2 * 16 * (N + k) / (N * k))


@pytest.mark.parametrize("scale_bits", [None, 8])
@pytest.mark.parametrize("method", sorted(PRESETS))
def test_every_method_takes_a_partial_last_block_and_passes_through_a_file(
    method: str, scale_bits: int | None, tmp_path: Path
) -> None:
    k, spec = 75, QuantSpec(method=method, block=16, scale_bits=scale_bits)

    weight = run(spec, k)
    save_weights({"w": weight}, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors")["w"]

    error = float((weight.dequantize() - 0.05 * normal(N, k)).norm() / (0.05 * normal(N, k)).norm())
    assert error < {4: 0.2, 3: 0.4, 2: 0.8}[spec.bits_per_code]
    assert stored_bytes(spec, N, k) == sum(tensor.nbytes for tensor in weight.tensors().values())
    assert torch.equal(loaded.dequantize(), weight.dequantize())
    assert torch.equal(loaded.codes(), weight.codes())


@pytest.mark.parametrize("method", ["nf4", "block-opt", "int-rtn", "gptq", "gptq-int"])
def test_whole_blocks_are_quantized_as_if_the_partial_one_were_not_there(method: str) -> None:
    """With inputs that do not mix, for otherwise feedback carries errors over."""
    weight_NK, spec = normal(N, 40), QuantSpec(method=method, block=16)

    def codes_and_weight(k: int) -> tuple[Tensor, Tensor]:
        found = quantize(weight_NK[:, :k], spec, hessian_KK=torch.eye(k) if spec.needs_hessian else None)
        return found.codes()[:, :32], found.dequantize()[:, :32]

    for ragged, whole in zip(codes_and_weight(40), codes_and_weight(32), strict=True):
        assert torch.equal(ragged, whole)


@pytest.mark.parametrize("method", ["nf4", "block-opt", "int-rtn"])
def test_a_partial_block_is_fitted_to_its_own_inputs(method: str) -> None:
    """As a matrix of that width whose only block it is."""
    weight_NK = normal(N, 40)

    ragged = quantize(weight_NK, QuantSpec(method=method, block=16))
    alone = quantize(weight_NK[:, 32:], QuantSpec(method=method, block=8))

    assert torch.equal(ragged.dequantize()[:, 32:], alone.dequantize())


def test_learned_levels_are_not_drawn_to_the_inputs_that_are_not_there() -> None:
    weight_NK = normal(N, 36).abs() + 0.5
    spec = QuantSpec(method="block-opt", bits=2, block=32, levels="learned")

    quantized = quantize(weight_NK, spec)

    assert float((quantized.dequantize() - weight_NK).norm() / weight_NK.norm()) < 0.2
    assert not bool((quantized.dequantize() == 0).any())


def test_whole_k_blocks_with_a_partial_scale_block() -> None:
    weight = run(QuantSpec(method="nf4", block=96), 256)

    assert weight.bits_per_weight == 4 + 3 * 16 / 256
    assert weight.tensors()["packed"].dtype == torch.int16
    assert float((weight.dequantize() - 0.05 * normal(N, 256)).norm() / (0.05 * normal(N, 256)).norm()) < 0.12
