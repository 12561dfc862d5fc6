"""Models prepared for training: they start at their quantized weights, learn, and export what they computed with."""

import pytest
import torch
from torch import Tensor, nn

from lords_bench.errors import UsageError
from lords_bench.quant import QuantSpec
from lords_bench.training import (
    export,
    optimizer_groups,
    prepare_peft,
    prepare_qat,
    quantized_layers,
    storage_bits_per_weight,
    trainable_count,
    trainable_parameters,
)

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


# What is replaced, what is left, what is trained


class Tied(nn.Module):
    """An embedding whose weight is the head's, as in many language models; a convolution; a layer used twice."""

    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 64)
        self.inner = nn.Linear(64, 64)
        self.again = self.inner
        self.conv = nn.Conv1d(64, 64, 1)
        self.norm = nn.LayerNorm(64)
        self.lm_head = nn.Linear(64, 32, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.norm(self.again(self.inner(self.embed(tokens))))
        return self.lm_head(self.conv(hidden.transpose(1, 2)).transpose(1, 2))


def separate() -> Tied:
    """Each module in one place."""
    model = Tied(tied=False)
    model.again = nn.Identity()
    return model


def test_what_was_replaced_and_what_was_left_is_told_with_reasons() -> None:
    model = Tied()
    model.more = nn.Linear(64, 64)

    prepared = prepare_qat(model, QuantSpec(method="nf4"))

    assert prepared.replaced == ("more",)
    assert prepared.left == {
        "embed": "a Embedding",
        "inner": "its weight is shared",
        "conv": "a Conv1d",
        "lm_head": "its weight is shared",
    }


def test_a_head_that_shares_its_weight_is_left_even_if_asked_for() -> None:
    model = separate()
    model.lm_head.weight = model.embed.weight

    prepared = prepare_qat(model, QuantSpec(method="nf4"), include_head=True)

    assert prepared.replaced == ("inner",)
    assert prepared.left["lm_head"] == "its weight is shared"


def test_a_head_of_its_own_is_quantized_on_request_only() -> None:
    assert prepare_qat(separate(), QuantSpec(method="nf4")).left["lm_head"] == "the output head"
    assert "lm_head" in prepare_qat(separate(), QuantSpec(method="nf4"), include_head=True).replaced


def test_skipped_layers_are_left() -> None:
    model = make_model()

    prepared = prepare_peft(model, skip=["2"])

    assert prepared.replaced == ("0",)
    assert prepared.left == {"2": "skipped on request"}
    assert str(prepared) == "1 linear layers quantized; left as they are: 2 (skipped on request)"


def test_fine_tuning_trains_the_adapter_only() -> None:
    model = make_model()

    prepare_peft(model)

    assert list(trainable_parameters(model)) == ["0.scale_b", "0.scale_a", "2.scale_b", "2.scale_a"]


@pytest.mark.parametrize(("train_rest", "trained"), [(True, True), (False, False)])
def test_qat_trains_weights_and_scales_and_the_rest_as_asked(*, train_rest: bool, trained: bool) -> None:
    model = separate().requires_grad_(False)

    prepare_qat(model, QuantSpec(method="lords"), train_rest=train_rest)

    names = set(trainable_parameters(model))
    assert {"inner.weight", "inner.scale_b", "inner.scale_a"} <= names
    assert ({"embed.weight", "norm.weight", "inner.bias"} <= names) == trained


def test_decay_falls_on_dense_matrices_only() -> None:
    model = separate()
    prepare_qat(model, QuantSpec(method="lords"))

    groups = optimizer_groups(model, learning_rate=1e-3, scale_learning_rate=1e-4, weight_decay=0.1)

    by_decay = {group["weight_decay"]: group for group in groups if group["weight_decay"]}
    decayed = {id(parameter) for parameter in by_decay[0.1]["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {"inner.weight", "embed.weight", "conv.weight", "lm_head.weight"}
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert rates[id(model.inner.scale_b)] == 1e-4
    assert len(rates) == len(trainable_parameters(model))


def test_bits_count_what_is_stored_with_its_adapter() -> None:
    plain, adapted = nn.Sequential(nn.Linear(128, 128)), nn.Sequential(nn.Linear(128, 128))
    prepare_peft(plain, "lords")
    prepare_peft(adapted, "qlora", QuantSpec(method="nf4"), rank=2)

    assert storage_bits_per_weight(plain) == 4.25
    assert storage_bits_per_weight(adapted) == 4.25 + 16 * 2 * 256 / (128 * 128)


def test_a_state_dict_of_a_model_goes_round() -> None:
    model, other = make_model(), make_model()
    prepare_peft(model)
    prepare_peft(other)
    train(model)

    other.load_state_dict(model.state_dict(), strict=True)

    assert torch.equal(other(make_batch()[0]), model(make_batch()[0]))


def test_layers_keep_the_training_flag() -> None:
    model = make_model().eval()

    prepare_qat(model, QuantSpec(method="nf4"))

    assert not any(layer.training for layer in quantized_layers(model).values())
