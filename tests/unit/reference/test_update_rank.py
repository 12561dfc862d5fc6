"""Rank of an update: LoRDS reaches full rank with as many trained values as LoRA needs for rank R."""

import pytest
import torch
from torch import Tensor

from lords_bench.quant import QuantSpec
from lords_bench.reference.adapters import start_adapter
from lords_bench.reference.methods import quantize
from lords_bench.reference.update_rank import update_rank

N, K, RANK = 48, 128, 3


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lords_update() -> Tensor:
    weight = quantize(normal(N, K, seed=0), QuantSpec(method="lords", bits=3, rank=RANK))
    moved_b_NR = weight.b_NR.double() + 0.01 * normal(N, RANK, seed=1)
    moved_a_RK = weight.a_RK.double() + 0.01 * normal(RANK, K, seed=2)
    value_NK = weight.levels(torch.float64)[weight.codes().long()]
    return value_NK * (moved_b_NR @ moved_a_RK) - weight.dequantize(torch.float64)


def lora_update() -> Tensor:
    weight = start_adapter(normal(N, K, seed=0), QuantSpec(method="nf4"), "qlora", rank=RANK)
    return (weight.up_NR + 0.01 * normal(N, RANK, seed=1)) @ (weight.down_RK + 0.01 * normal(RANK, K, seed=2))


def test_an_update_of_the_scale_factors_has_full_rank() -> None:
    found = update_rank(lords_update())

    assert found.numerical == found.full == N
    assert found.effective > 0.8 * N


def test_an_additive_update_has_the_rank_of_its_factors() -> None:
    found = update_rank(lora_update())

    assert found.numerical == RANK
    assert found.effective <= RANK


def test_equal_directions_have_full_effective_rank() -> None:
    found = update_rank(torch.eye(5))

    assert found.effective == pytest.approx(5.0)
    assert found.energy_rank_90 == 5


def test_energy_counts_the_directions_that_matter() -> None:
    found = update_rank(torch.diag(torch.tensor([3.0, 1.0, 0.1])))

    # 9 of 10.01 is 89.9 %
    assert (found.numerical, found.energy_rank_90) == (3, 2)


def test_no_update_has_rank_zero() -> None:
    assert update_rank(torch.zeros(3, 4)).numerical == 0
