from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lords_bench.errors import ModelError, StoreError
from lords_bench.integrations import quantized_folder
from lords_bench.integrations.hf_model import CausalModel, load_causal_model, swapped_weights
from lords_bench.integrations.quantized_folder import (
    QUANTIZED_FILE,
    UNQUANTIZED_FILE,
    load_any_model,
    load_quantized_folder,
    save_quantized_folder,
)
from lords_bench.reference.weights import QuantizedWeight
from lords_bench.spec import QuantSpec
from lords_bench.suites.layers import quantize_layer
from tiny_models import save_tiny_llama

INPUTS = torch.arange(20)[None]


def quantized(model: CausalModel) -> dict[str, QuantizedWeight]:
    return {layer.name: quantize_layer(layer, QuantSpec(method="nf3", block=32)) for layer in model.layers}


@torch.no_grad()
def logits(model: CausalModel) -> torch.Tensor:
    output: torch.Tensor = model.model(input_ids=INPUTS).logits
    return output


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_computes_the_same_bits(tmp_path: Path, *, tied: bool) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path / "model", tied=tied)))
    weights = quantized(model)
    with swapped_weights(model.layers, {name: weight.dequantize() for name, weight in weights.items()}):
        expected = logits(model)

    save_quantized_folder(model, weights, tmp_path / "out")
    loaded, stored = load_quantized_folder(tmp_path / "out")

    assert torch.equal(logits(loaded), expected)
    assert stored.keys() == weights.keys()
    assert loaded.tokenizer.encode("a b") == model.tokenizer.encode("a b")


def test_nothing_in_the_folder_can_be_taken_for_an_ordinary_model(llama: CausalModel, tmp_path: Path) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")

    with pytest.raises(OSError, match=r"no file named model.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with pytest.raises(ModelError, match=r"out' is quantized already; give the unquantized model"):
        load_causal_model(str(tmp_path / "out"))


def test_weights_that_bfloat16_holds_exactly_are_stored_in_it(tmp_path: Path) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path / "model")))
    for parameter in model.model.parameters():
        parameter.data = parameter.data.bfloat16().float()

    save_quantized_folder(model, quantized(model), tmp_path / "out")

    others = model.model.num_parameters() - sum(layer.weight_count for layer in model.layers)
    assert 2 * others < (tmp_path / "out" / UNQUANTIZED_FILE).stat().st_size < 2.2 * others


def test_any_model_is_loaded_by_what_its_folder_holds(llama: CausalModel, llama_folder: Path, tmp_path: Path) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")

    assert load_any_model(str(llama_folder))[1] == {}
    assert load_any_model(str(tmp_path / "out"))[1].keys() == {layer.name for layer in llama.layers}


def test_a_taken_folder_is_refused(llama: CausalModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StoreError, match="exists already; choose another --out"):
        save_quantized_folder(llama, quantized(llama), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(llama: CausalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantized_folder, "save_weights", refuse)

    with pytest.raises(StoreError, match=r"cannot write .*No space left on device"):
        save_quantized_folder(llama, quantized(llama), tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [QUANTIZED_FILE, UNQUANTIZED_FILE])
def test_a_truncated_file_is_refused_in_one_line(llama: CausalModel, tmp_path: Path, name: str) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")
    file = tmp_path / "out" / name
    file.write_bytes(file.read_bytes()[:-100])

    with pytest.raises(ModelError) as error:
        load_quantized_folder(tmp_path / "out")

    assert "\n" not in str(error.value)


def test_a_layer_that_was_not_saved_is_noticed(llama: CausalModel, tmp_path: Path) -> None:
    weights = quantized(llama)
    name, _ = weights.popitem()
    save_quantized_folder(llama, weights, tmp_path / "out")
    del weights[next(iter(weights))]
    quantized_folder.save_weights(weights, tmp_path / "out" / QUANTIZED_FILE)

    with pytest.raises(ModelError, match=r"model\.layers\.0\.self_attn\.q_proj\.weight is missing"):
        load_quantized_folder(tmp_path / "out")

    assert name == "model.layers.0.mlp.down_proj"
