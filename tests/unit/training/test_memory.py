"""What a layer keeps between forward and backward, and what it allocates: nothing of N×K floats for frozen codes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lords_bench.quant import QuantSpec
from lords_bench.training import TrainingMemory, prepare_peft, prepare_qat, training_memory

N, K, TOKENS = 512, 256, 8
DENSE_BYTES = 4 * N * K
INPUT_BYTES = 4 * TOKENS * K
LEVEL_BYTES = 4 * 16


def one_layer(prepare: Callable[[nn.Module], object]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(K, N, bias=False))
    prepare(model)
    return model


def measured(model: nn.Module) -> TrainingMemory:
    x = torch.randn(TOKENS, K, requires_grad=True)
    model(x).sum().backward()  # what is made at the first call is not counted
    return training_memory(model, lambda: model(x).square().sum())


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer is small, so a group of rows is made smaller than it, as it is of a real layer."""
    monkeypatch.setattr("lords_bench.reference.products.GROUP_ELEMENTS_CPU", N * K // 8)


@pytest.mark.usefixtures("small_groups")
def test_fine_tuning_lords_allocates_no_dense_matrix() -> None:
    memory = measured(one_layer(lambda model: prepare_peft(model, "lords")))

    # one byte per weight is the most: unpacked codes of a group; panels of floats, dB, dA and activations are less
    assert memory.largest_allocation_bytes < DENSE_BYTES / 4
    assert memory.peak_bytes < DENSE_BYTES / 2
    assert memory.layers["0"].kept_bytes == INPUT_BYTES


def test_a_dense_matrix_is_seen() -> None:
    """The twin: the same product written densely is told apart."""
    model = one_layer(lambda model: prepare_peft(model, "lords"))
    layer = model[0]
    value_NK = layer.export().codes().float()

    def dense(x: Tensor) -> Tensor:
        return x @ (value_NK * (layer.scale_b @ layer.scale_a)).T

    layer.forward = dense
    memory = measured(model)

    assert memory.largest_allocation_bytes >= DENSE_BYTES
    assert memory.layers["0"].kept_bytes > DENSE_BYTES


def test_an_additive_adapter_keeps_its_activations_only() -> None:
    memory = measured(one_layer(lambda model: prepare_peft(model, "qlora", rank=2)))

    assert memory.layers["0"].kept_bytes == INPUT_BYTES + 4 * TOKENS * 2


def test_qat_keeps_the_quantized_weight_and_one_byte_per_weight() -> None:
    memory = measured(one_layer(lambda model: prepare_qat(model, QuantSpec(method="lords", bits=3))))

    layer = memory.layers["0"]
    assert layer.kept_bytes == DENSE_BYTES + N * K + INPUT_BYTES
    assert layer.largest_kept_bytes == DENSE_BYTES
    assert layer.gradient_bytes > DENSE_BYTES


def test_stored_and_gradient_bytes_are_those_of_the_tensors() -> None:
    memory = measured(one_layer(lambda model: prepare_peft(model, "lords", QuantSpec(method="lords", rank=2))))

    factors = 4 * 2 * (N + K)
    assert memory.layers["0"].gradient_bytes == factors
    assert memory.layers["0"].stored_bytes == factors + N * K // 2 + LEVEL_BYTES
