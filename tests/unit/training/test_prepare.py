"""Models prepared for training: they start at their quantized weights, learn, and export what they computed with."""

import pytest
import torch
from torch import Tensor, nn

from lords_bench.errors import UsageError
from lords_bench.spec import QuantSpec
from lords_bench.training import export, optimizer_groups, prepare_peft, prepare_qat, trainable_count

QAT_SPECS = (
    QuantSpec(method="lords", bits=3),
    QuantSpec(method="lords", bits=2, levels="learned"),
    QuantSpec(method="nf3"),
    QuantSpec(method="block-opt", bits=2),
    QuantSpec(method="int-rtn", bits=3),
)
PEFT_METHODS = ("lords", "qlora", "loftq", "qpissa")


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64))


def make_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(32, 64, generator=generator), torch.randn(32, 64, generator=generator)


def train(model: nn.Module, *, steps: int = 20, learning_rate: float = 1e-3) -> tuple[float, float]:
    x, target = make_batch()
    optimizer = torch.optim.Adam(optimizer_groups(model, learning_rate=learning_rate))
    losses = []
    for _ in range(steps):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize("spec", QAT_SPECS, ids=lambda spec: f"{spec.method}-{spec.bits}")
def test_quantization_aware_training_lowers_the_loss(spec: QuantSpec) -> None:
    model = make_model()

    prepare_qat(model, spec)
    first, last = train(model)

    assert last < 0.9 * first


@pytest.mark.parametrize("method", PEFT_METHODS)
def test_fine_tuning_lowers_the_loss(method: str) -> None:
    model = make_model()

    prepare_peft(model, method)
    first, last = train(model)

    assert last < first


def test_all_methods_of_fine_tuning_train_the_same_number_of_values() -> None:
    counts = set()
    for method in PEFT_METHODS:
        model = make_model()
        prepare_peft(model, method)
        counts.add(trainable_count(model))

    assert counts == {2 * (64 + 128)}


def test_a_prepared_model_is_not_prepared_again() -> None:
    model = make_model()
    prepare_qat(model, QAT_SPECS[0])

    with pytest.raises(UsageError, match="layer '0' is quantized already"):
        prepare_peft(model)


def test_an_export_is_what_the_model_computed_with() -> None:
    model = make_model()
    prepare_qat(model, QAT_SPECS[0])
    train(model)

    exported = export(model)

    for name, weight in exported.items():
        assert torch.equal(weight.dequantize(), model.get_submodule(name).fake_weight())
