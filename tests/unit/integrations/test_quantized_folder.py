import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from lords_bench.errors import ModelError, StoreError
from lords_bench.integrations import quantized_folder
from lords_bench.integrations.hf_model import CausalModel, load_causal_model, swapped_weights
from lords_bench.integrations.quantized_folder import (
    MODEL_FILE,
    QUANTIZED_FILE,
    UNQUANTIZED_FILE,
    load_any_model,
    load_quantized_folder,
    require_free,
    save_quantized_folder,
)
from lords_bench.quant import QuantSpec
from lords_bench.reference.checkpoint import save_weights
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.reference.weights import QuantizedWeight
from lords_bench.suites.accuracy.layers import quantize_layer
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


def test_the_folder_cannot_be_taken_for_an_ordinary_model(
    llama: CausalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")
    # As in a program that never imported the plug-in.
    monkeypatch.delitem(AUTO_QUANTIZATION_CONFIG_MAPPING, "lords", raising=False)

    with pytest.raises(RuntimeError, match=r"ignore_mismatched_sizes"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with pytest.raises(ModelError, match=r"out' is quantized already; give the unquantized model"):
        load_causal_model(str(tmp_path / "out"))


def test_a_folder_of_the_earlier_form_is_read(llama: CausalModel, llama_folder: Path, tmp_path: Path) -> None:
    weights = quantized(llama)
    shutil.copytree(llama_folder, tmp_path / "old", ignore=shutil.ignore_patterns("model.safetensors"))
    save_weights(weights, tmp_path / "old" / QUANTIZED_FILE)
    names = {f"{name}.weight" for name in weights}
    others = {name: value for name, value in llama.model.named_parameters() if name not in names}
    save_file(others, tmp_path / "old" / UNQUANTIZED_FILE)
    save_quantized_folder(llama, weights, tmp_path / "new")

    old, stored = load_any_model(str(tmp_path / "old"))
    new, _ = load_any_model(str(tmp_path / "new"))

    assert stored.keys() == weights.keys()
    assert torch.equal(logits(old), logits(new))


def test_weights_that_bfloat16_holds_exactly_are_stored_in_it(tmp_path: Path) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path / "model")))
    for parameter in model.model.parameters():
        parameter.data = parameter.data.bfloat16().float()

    save_quantized_folder(model, quantized(model), tmp_path / "out")

    others = model.model.num_parameters() - sum(layer.weight_count for layer in model.layers)
    tensors, _ = read_tensors(tmp_path / "out" / MODEL_FILE)
    size = sum(value.nbytes for name, value in tensors.items() if not any(x.name in name for x in model.layers))
    assert size == 2 * others


def test_any_model_is_loaded_by_what_its_folder_holds(llama: CausalModel, llama_folder: Path, tmp_path: Path) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")

    assert load_any_model(str(llama_folder))[1] == {}
    assert load_any_model(str(tmp_path / "out"))[1].keys() == {layer.name for layer in llama.layers}


def test_a_taken_folder_is_refused(llama: CausalModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StoreError, match="exists already; choose another --out"):
        save_quantized_folder(llama, quantized(llama), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("folder", ["a/" * 2500, "a/" * 1500, "x" * 5000])
def test_a_path_that_nobody_can_make_is_refused_before_anything_is_done(tmp_path: Path, folder: str) -> None:
    with pytest.raises(StoreError, match=r"choose another --out$"):
        require_free(tmp_path / folder)


def test_a_full_disk_leaves_nothing(llama: CausalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantized_folder, "save_file", refuse)

    with pytest.raises(StoreError, match=r"cannot write .*No space left on device"):
        save_quantized_folder(llama, quantized(llama), tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_refused_in_one_line(llama: CausalModel, tmp_path: Path) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")
    file = tmp_path / "out" / MODEL_FILE
    file.write_bytes(file.read_bytes()[:-100])

    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file") as error:
        load_quantized_folder(tmp_path / "out")

    assert "\n" not in str(error.value)


def test_a_model_without_a_quantized_layer_is_refused(llama: CausalModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no quantized layer"):
        save_quantized_folder(llama, {}, tmp_path / "out")


def test_a_layer_left_unquantized_comes_back_as_it_was(llama: CausalModel, tmp_path: Path) -> None:
    weights = quantized(llama)
    name, _ = weights.popitem()
    save_quantized_folder(llama, weights, tmp_path / "out")

    loaded, stored = load_quantized_folder(tmp_path / "out")

    assert stored.keys() == weights.keys()
    assert torch.equal(loaded.model.get_submodule(name).weight, llama.model.get_submodule(name).weight)


def test_a_layer_that_is_gone_is_noticed(llama: CausalModel, tmp_path: Path) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")
    tensors, metadata = read_tensors(tmp_path / "out" / MODEL_FILE)
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    write_tensors(tensors, tmp_path / "out" / MODEL_FILE, metadata)

    with pytest.raises(ModelError, match=r"self_attn\.q_proj lacks tensor 'weight'"):
        load_quantized_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"method": "best"}, "unknown method 'best'"),
        ({"bitz": 4}, "unknown bitz"),
        ({"format_version": "2.0"}, "version '2.0', not 1.0; update lords_bench"),
    ],
)
def test_a_config_that_means_nothing_is_refused_by_name(
    llama: CausalModel, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    save_quantized_folder(llama, quantized(llama), tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] |= change
    file.write_text(json.dumps(config))

    with pytest.raises(ModelError, match=complaint):
        load_quantized_folder(tmp_path / "out")
