"""Folders of weights with scales in 8 bits, and folders that an earlier version wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lords_bench.errors import ModelError
from lords_bench.integrations.hf_config import LordsConfig
from lords_bench.integrations.hf_model import CausalModel, quiet_transformers
from lords_bench.integrations.hf_quantizer import from_pretrained
from lords_bench.integrations.quantized_folder import load_quantized_folder, save_quantized_folder
from lords_bench.integrations.stored_linear import StoredLinear
from lords_bench.quant import QuantSpec
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.suites.accuracy.layers import quantize_layer

INPUTS = torch.arange(20)[None]
EARLIER = Path(__file__).parents[2] / "earlier"
METHODS = ("lords", "block-opt", "nf4", "int-rtn")


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    output: torch.Tensor = model(input_ids=INPUTS).logits
    return output


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_and_the_plug_in_compute_with_the_weights_that_were_saved(
    llama: CausalModel, tmp_path: Path, method: str
) -> None:
    spec = QuantSpec(method=method, block=32, scale_bits=8)
    weights = {layer.name: quantize_layer(layer, spec) for layer in llama.layers}

    save_quantized_folder(llama, weights, tmp_path / "out")
    _, stored = load_quantized_folder(tmp_path / "out")
    loaded = from_pretrained(tmp_path / "out")

    for name, weight in weights.items():
        assert torch.equal(stored[name].dequantize(), weight.dequantize())
        layer = loaded.get_submodule(name)
        assert isinstance(layer, StoredLinear)
        assert layer.spec == spec
        assert torch.equal(layer.export().dequantize(), weight.dequantize())
        x = torch.ones(1, layer.in_features)
        torch.testing.assert_close(layer(x), x @ weight.dequantize().t(), rtol=1e-4, atol=1e-5)
    tensors, _ = read_tensors(tmp_path / "out" / "model.safetensors")
    parts = {name.removeprefix("model.layers.0.mlp.up_proj.") for name in tensors if "up_proj" in name}
    assert parts == {"weight" if part == "packed" else part for part in weights[llama.layers[0].name].tensors()}


def test_what_was_quantized_on_loading_comes_back_with_the_same_bits(llama_folder: Path, tmp_path: Path) -> None:
    with quiet_transformers():
        config = LordsConfig(bits=3, block=32, scale_bits=8)
        model = AutoModelForCausalLM.from_pretrained(llama_folder, quantization_config=config)
        model.save_pretrained(tmp_path / "out")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")

    assert torch.equal(logits(loaded), logits(model))


def test_layers_may_differ_in_their_storage(llama: CausalModel, tmp_path: Path) -> None:
    specs = [QuantSpec(method="lords", block=32), QuantSpec(method="lords", block=32, scale_bits=8)]
    weights = {layer.name: quantize_layer(layer, specs[at % 2]) for at, layer in enumerate(llama.layers)}

    save_quantized_folder(llama, weights, tmp_path / "out")
    _, stored = load_quantized_folder(tmp_path / "out")

    assert {name: weight.spec for name, weight in stored.items()} == {n: w.spec for n, w in weights.items()}


def test_a_folder_without_8_bits_says_nothing_of_them(llama: CausalModel, tmp_path: Path) -> None:
    """So that a version that did not know of them reads it."""
    spec = QuantSpec(method="nf4", block=32)

    save_quantized_folder(llama, {layer.name: quantize_layer(layer, spec) for layer in llama.layers}, tmp_path / "out")

    described = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["quantization_config"]
    earlier = json.loads((EARLIER / "folder" / "config.json").read_text("utf-8"))["quantization_config"]
    assert described.keys() == earlier.keys()


def test_codes_of_another_type_are_refused(llama: CausalModel, tmp_path: Path) -> None:
    spec = QuantSpec(method="lords", block=32, scale_bits=8)
    weights = {layer.name: quantize_layer(layer, spec) for layer in llama.layers}
    save_quantized_folder(llama, weights, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    tensors, metadata = read_tensors(file)
    name = f"{llama.layers[0].name}.b_codes_NR"
    tensors[name] = tensors[name].half()
    write_tensors(tensors, file, metadata)

    for load in (load_quantized_folder, from_pretrained):
        with pytest.raises(ModelError, match=r"has 'b_codes_NR' as torch\.float16 .*, not torch\.int8"):
            load(tmp_path / "out")


def test_a_folder_of_an_earlier_version_is_read_as_it_was_meant() -> None:
    expected, _ = read_tensors(EARLIER / "folder-dequantized.safetensors")

    _, stored = load_quantized_folder(EARLIER / "folder")
    model = from_pretrained(EARLIER / "folder")

    assert stored.keys() == expected.keys()
    for name, weight in stored.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, StoredLinear)
        assert torch.equal(weight.dequantize(), expected[name])
        assert torch.equal(layer.export().dequantize(), expected[name])
