"""What cannot be trained is refused in one line, and nothing is half done."""

import pytest
import torch
from torch import nn

from lords_bench.errors import LordsBenchError, ModelError, SpecError, UsageError
from lords_bench.quant import QuantSpec
from lords_bench.training import export, prepare_peft, prepare_qat


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64))


def broken_model() -> nn.Module:
    model = make_model()
    with torch.no_grad():
        model[2].weight[1, 5] = torch.nan
    return model


REFUSED = {
    "not finite": (broken_model, lambda m: prepare_qat(m, QuantSpec(method="lords")), ModelError, "layer 2: .*nan at"),
    "not finite, peft": (broken_model, lambda m: prepare_peft(m, "qpissa"), ModelError, "layer 2: .*nan at"),
    "no linear": (
        lambda: nn.Sequential(nn.Conv1d(4, 4, 1)),
        lambda m: prepare_qat(m, QuantSpec(method="lords")),
        UsageError,
        r"no nn.Linear to quantize; left: 0 \(a Conv1d\)",
    ),
    "feedback": (
        make_model,
        lambda m: prepare_qat(m, QuantSpec(method="gptq")),
        SpecError,
        "method 'gptq' needs calibration inputs, which QAT does not take",
    ),
    "double quant": (
        make_model,
        lambda m: prepare_qat(m, QuantSpec(method="nf4", double_quant=True)),
        ModelError,
        "layer 0: scales in 8 bits cannot be trained",
    ),
    "int levels": (
        make_model,
        lambda m: prepare_qat(m, QuantSpec(method="int-rtn"), learn_levels=True),
        ModelError,
        "have no levels to learn",
    ),
    "method": (
        make_model,
        lambda m: prepare_peft(m, "dora"),
        SpecError,
        "unknown fine-tuning method 'dora'; known: lords, qlora",
    ),
    "spec of lords": (
        make_model,
        lambda m: prepare_peft(m, "lords", QuantSpec(method="nf4")),
        SpecError,
        "by 'lords' needs low-rank scales",
    ),
    "spec of qlora": (
        make_model,
        lambda m: prepare_peft(m, "qlora", QuantSpec(method="lords")),
        SpecError,
        "by 'qlora' needs block scales",
    ),
    "rank": (
        make_model,
        lambda m: prepare_peft(m, "lords", QuantSpec(method="lords", rank=4), rank=2),
        ModelError,
        "layer 0: rank 2 is below the 4",
    ),
    "pattern": (
        make_model,
        lambda m: prepare_peft(m, skip=["*.down_proj"]),
        UsageError,
        r"skip pattern '\*.down_proj' matches no module",
    ),
    "unprepared export": (make_model, export, UsageError, "no quantized layer to export; use prepare_qat"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(name: str) -> None:
    make, call, kind, message = REFUSED[name]

    with pytest.raises(kind, match=message) as caught:
        call(make())

    assert issubclass(kind, LordsBenchError)
    assert "\n" not in str(caught.value)


def test_a_refused_model_is_left_as_it_was() -> None:
    model = broken_model()
    before = list(model.children())

    with pytest.raises(ModelError):
        prepare_qat(model, QuantSpec(method="lords"))

    assert all(now is then for now, then in zip(model.children(), before, strict=True))


def test_scales_that_overflow_their_storage_are_named_at_export() -> None:
    model = make_model()
    prepare_qat(model, QuantSpec(method="lords"))
    with torch.no_grad():
        model[2].scale_b.mul_(1e9)

    with pytest.raises(ModelError, match=r"layer 2: scale .* does not fit float16"):
        export(model)
