"""Adapters: saved without their base, refused beside another, swapped on one set of codes, merged for nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lords_bench.errors import ModelError, UsageError
from lords_bench.quant import QuantSpec
from lords_bench.training import (
    LordsLinear,
    load_adapter,
    prepare_peft,
    prepare_qat,
    quantized_layers,
    save_adapter,
    take_adapter,
    to_inference,
    use_adapter,
)
from lords_bench.training.adapters import Adapter, LayerAdapter


def make_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64, bias=False))


def fine_tuned(method: str = "lords", *, seed: int = 0, shift: float = 0.01) -> nn.Sequential:
    """A prepared model whose adapter was moved, as training would."""
    model = make_model(seed)
    prepare_peft(model, method)
    with torch.no_grad():
        for layer in quantized_layers(model).values():
            for parameter in layer.quantization_parameters().values():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)), alpha=shift)
    return model


def example() -> Tensor:
    return torch.randn(5, 64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("method", ["lords", "qlora", "qpissa"])
def test_a_saved_adapter_computes_the_same_on_a_fresh_base(method: str, tmp_path: Path) -> None:
    trained = fine_tuned(method)
    save_adapter(take_adapter(trained), tmp_path / "adapter.safetensors")
    fresh = make_model()
    prepare_peft(fresh, method)

    use_adapter(fresh, load_adapter(tmp_path / "adapter.safetensors"))

    assert torch.equal(fresh(example()), trained(example()))


def test_an_adapter_file_holds_the_factors_only(tmp_path: Path) -> None:
    model = fine_tuned()

    save_adapter(take_adapter(model), tmp_path / "adapter.safetensors")

    assert set(load_file(tmp_path / "adapter.safetensors")) == {"0.scale_a", "0.scale_b", "2.scale_a", "2.scale_b"}


def test_taking_an_adapter_copies_it() -> None:
    model = fine_tuned()
    adapter = take_adapter(model)
    before = model(example())

    with torch.no_grad():
        model[0].scale_b.mul_(2)
    use_adapter(model, adapter)

    assert torch.equal(model(example()), before)


def test_adapters_swap_on_one_set_of_codes() -> None:
    first, second = fine_tuned(shift=0.01), fine_tuned(shift=0.02)
    expected = [first(example()), second(example())]
    adapters = [take_adapter(first), take_adapter(second)]
    codes = first[0].packed

    found = []
    for adapter in adapters:
        use_adapter(first, adapter)
        found.append(first(example()))

    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    assert first[0].packed is codes
    assert not torch.equal(*found)


def test_swapping_in_inference_mode_copies_nothing() -> None:
    model = fine_tuned()
    adapter = take_adapter(model).to_dtype(torch.float16)
    to_inference(model)

    use_adapter(model, adapter)

    assert model[0].scale_b.data_ptr() == adapter.layers["0"].tensors["scale_b"].data_ptr()


class Operators(TorchDispatchMode):
    """Every LoRDS operator that runs, with the bytes of the tensors it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "lords_bench":
            tensors = [value for value in args if isinstance(value, Tensor)]
            self.seen.append((str(func), sum(tensor.numel() * tensor.element_size() for tensor in tensors)))
        return func(*args, **(kwargs or {}))


def operators_of(model: nn.Module) -> list[tuple[str, int]]:
    with torch.no_grad(), Operators() as mode:
        model(example())
    return mode.seen


def test_a_merged_adapter_runs_the_base_s_operator_on_as_many_bytes() -> None:
    base, tuned = make_model(), fine_tuned()
    prepare_peft(base)
    to_inference(base)

    to_inference(tuned)

    assert operators_of(tuned) == operators_of(base)
    assert [name for name, _ in operators_of(tuned)] == ["lords_bench.matmul.default"] * 2


def test_an_additive_adapter_costs_operators_and_bytes() -> None:
    """The twin of the claim above: what is counted there can differ."""
    assert operators_of(fine_tuned("qlora")) != operators_of(fine_tuned("lords"))


def test_merging_changes_the_result_by_the_rounding_of_the_factors_only() -> None:
    model = fine_tuned()
    expected = {name: layer.export().dequantize() for name, layer in quantized_layers(model).items()}
    codes = model[0].packed

    names = to_inference(model)

    assert names == ("0", "2")
    assert model[0].packed is codes
    for name, layer in quantized_layers(model).items():
        assert torch.equal(layer.export().dequantize(), expected[name])
    assert [p for p in model.parameters() if p.requires_grad] == []


@pytest.mark.parametrize("spec", [QuantSpec(method="lords"), QuantSpec(method="nf4"), QuantSpec(method="int-rtn")])
def test_a_model_after_qat_computes_the_same_in_inference(spec: QuantSpec) -> None:
    model = make_model()
    prepare_qat(model, spec)
    expected = model(example())

    to_inference(model)

    # float32 products of 64 and 128 terms in another order
    assert torch.allclose(model(example()), expected, atol=1e-5)


def test_a_grown_rank_stays_when_merged() -> None:
    model = make_model()
    prepare_peft(model, "lords", rank=4)

    to_inference(model)

    assert model[0].rank == 4
    assert model[0].export().spec.rank == 4


# Bad input


def with_layer(adapter: Adapter, name: str, **changes: Any) -> Adapter:
    layer = adapter.layers[name]
    values = {"tensors": layer.tensors, "base_sha256": layer.base_sha256, "scaling": layer.scaling} | changes
    return Adapter(layers={**adapter.layers, name: LayerAdapter(**values)})


def test_an_adapter_of_another_base_is_refused_and_nothing_changes() -> None:
    model, other = fine_tuned(seed=0), fine_tuned(seed=1)
    before = model(example())

    with pytest.raises(ModelError, match="layer 0: the adapter belongs to other codes"):
        use_adapter(model, take_adapter(other))

    assert torch.equal(model(example()), before)


def test_an_adapter_of_the_same_codes_with_other_levels_is_refused() -> None:
    model, other = fine_tuned(), fine_tuned()
    other[0].levels.mul_(0.5)

    with pytest.raises(ModelError, match="belongs to other codes"):
        use_adapter(model, take_adapter(other))


def test_factors_of_two_ranks_are_refused() -> None:
    model = fine_tuned()
    adapter = take_adapter(model)
    b_NR = adapter.layers["2"].tensors["scale_b"]
    wrong = with_layer(adapter, "2", tensors={"scale_b": b_NR, "scale_a": torch.zeros(5, 128)})

    with pytest.raises(ModelError, match=r"layer 2: the adapter's \(64, 1\) and \(5, 128\) do not fit a 64×128 layer"):
        use_adapter(model, wrong)


def test_an_adapter_of_another_method_is_refused() -> None:
    with pytest.raises(ModelError, match="layer 0: the adapter has down, up, the layer scale_b, scale_a"):
        use_adapter(fine_tuned("lords"), take_adapter(fine_tuned("qlora")))


def test_an_adapter_that_lacks_a_layer_is_refused() -> None:
    model = fine_tuned()
    adapter = take_adapter(model)

    with pytest.raises(ModelError, match="the adapter lacks layer '2'"):
        use_adapter(model, Adapter(layers={"0": adapter.layers["0"]}))


def test_an_adapter_of_more_layers_is_refused() -> None:
    model = fine_tuned()
    adapter = take_adapter(model)

    with pytest.raises(ModelError, match="has layer '9', which the model has not"):
        use_adapter(model, Adapter(layers={**adapter.layers, "9": adapter.layers["0"]}))


def test_a_model_in_qat_has_no_adapter() -> None:
    model = make_model()
    prepare_qat(model, QuantSpec(method="lords"))

    with pytest.raises(UsageError, match="layer 0 is in QAT, where codes change"):
        take_adapter(model)


def test_an_unprepared_model_has_no_adapter() -> None:
    with pytest.raises(UsageError, match="no layer with an adapter; use prepare_peft"):
        take_adapter(make_model())
    with pytest.raises(UsageError, match="no quantized layer"):
        to_inference(make_model())


def test_an_additive_adapter_is_not_merged() -> None:
    with pytest.raises(UsageError, match="layer 0: an additive adapter cannot be merged"):
        to_inference(fine_tuned("qlora"))


def test_training_the_factors_of_a_merged_layer_is_refused() -> None:
    model = fine_tuned()
    to_inference(model)
    assert isinstance(model[0], LordsLinear)
    model[0].scale_b.requires_grad_(True)

    with pytest.raises(UsageError, match="inference mode require gradients; use prepare_peft"):
        model(example())
