import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

import lords_bench
from lords_bench.errors import LordsBenchError, ModelError, SpecError, WeightError
from lords_bench.integrations import hf_quantizer
from lords_bench.integrations.hf_config import LordsConfig
from lords_bench.integrations.hf_model import CausalModel, quiet_transformers
from lords_bench.integrations.quantized_folder import load_any_model, save_quantized_folder
from lords_bench.integrations.stored_linear import StoredLinear
from lords_bench.quant import QuantSpec
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.reference.weights import LordsWeight
from lords_bench.suites.accuracy.layers import quantize_layer
from tiny_models import byte_tokenizer, save_tiny_gpt2, save_tiny_llama

INPUTS = torch.arange(20)[None]
LAYER = "model.layers.0.mlp.up_proj"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_transformers():
        yield


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    output: torch.Tensor = model(input_ids=INPUTS).logits
    return output


def quantized_on_load(folder: Path, **options: Any) -> Any:
    config = options.pop("config", None) or LordsConfig(bits=3, block=32)
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, **options)


@pytest.fixture(scope="module")
def saved(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `save_pretrained` wrote; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("saved") / "lords"
    quantized_on_load(llama_folder).save_pretrained(folder)
    return folder


def changed(saved: Path, folder: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of the folder in which tensors of one layer are others, or missing."""
    folder.mkdir()
    (folder / "config.json").write_bytes((saved / "config.json").read_bytes())
    stored, metadata = read_tensors(saved / "model.safetensors")
    for name, tensor in tensors.items():
        stored.pop(f"{LAYER}.{name}", None)
        if tensor is not None:
            stored[f"{LAYER}.{name}"] = tensor
    write_tensors(stored, folder / "model.safetensors", metadata)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_what_was_quantized_on_loading_comes_back_with_the_same_bits(
    tmp_path: Path, *, tied: bool, dtype: torch.dtype
) -> None:
    model = quantized_on_load(save_tiny_llama(tmp_path / "model", tied=tied), dtype=dtype)
    model.save_pretrained(tmp_path / "out")

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")

    assert loaded.dtype == dtype
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("method", ["lords", "nf4", "int-rtn", "block-opt"])
def test_every_stored_format_comes_back_from_shards(llama_folder: Path, tmp_path: Path, method: str) -> None:
    model = quantized_on_load(llama_folder, config=LordsConfig(method=method, block=32))
    model.save_pretrained(tmp_path / "out", max_shard_size="30KB")
    byte_tokenizer().save_pretrained(tmp_path / "out")

    loaded = lords_bench.from_pretrained(tmp_path / "out")

    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert torch.equal(logits(loaded), logits(model))
    assert load_any_model(str(tmp_path / "out"))[1].keys() == stored_layers(model).keys()


def stored_layers(model: Any) -> dict[str, StoredLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, StoredLinear)}


def test_loading_quantizes_as_quantize_does(llama: CausalModel, llama_folder: Path) -> None:
    layers = stored_layers(quantized_on_load(llama_folder))

    assert layers.keys() == {layer.name for layer in llama.layers}
    for layer in llama.layers:
        expected = lords_bench.quantize(layer.module.weight.data, QuantSpec(bits=3, block=32))
        found = layers[layer.name].export()
        assert all(torch.equal(found.tensors()[name], tensor) for name, tensor in expected.tensors().items())


def test_a_layer_is_the_product_of_its_weight(saved: Path) -> None:
    layer = stored_layers(lords_bench.from_pretrained(saved))[LAYER]
    weight = layer.export()
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(0))

    assert isinstance(weight, LordsWeight)
    assert torch.equal(layer(x), weight.matmul(x))


def test_the_folder_of_the_command_loads_through_transformers(llama: CausalModel, tmp_path: Path) -> None:
    weights = {layer.name: quantize_layer(layer, QuantSpec(bits=3, block=32)) for layer in llama.layers}
    del weights["model.layers.0.self_attn.k_proj"]
    weights[LAYER] = quantize_layer(llama.layers[5], QuantSpec(method="nf4", double_quant=True, block=32))
    assert llama.layers[5].name == LAYER
    save_quantized_folder(llama, weights, tmp_path / "out")

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    model.save_pretrained(tmp_path / "again")

    assert stored_layers(model).keys() == weights.keys()
    assert stored_layers(model)[LAYER].spec.method == "nf4"
    ours, _ = load_any_model(str(tmp_path / "out"))
    torch.testing.assert_close(logits(model), logits(ours.model), rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(lords_bench.from_pretrained(tmp_path / "again")), logits(model))


def test_a_quantized_model_generates(saved: Path) -> None:
    model: Any = lords_bench.from_pretrained(saved)

    tokens = model.generate(
        INPUTS, attention_mask=torch.ones_like(INPUTS), min_new_tokens=4, max_new_tokens=4, do_sample=False
    )

    assert tokens[0, INPUTS.shape[1]] == logits(model)[0, -1].argmax()
    assert tokens.shape == (1, INPUTS.shape[1] + 4)


def test_another_dtype_leaves_codes_and_scales_alone(llama_folder: Path) -> None:
    model = quantized_on_load(llama_folder, config=LordsConfig(block=32, scale_dtype="float32"))
    before = {name: copy.deepcopy(layer.stored_tensors()) for name, layer in stored_layers(model).items()}

    model.to(torch.bfloat16)

    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    for name, layer in stored_layers(model).items():
        for part, tensor in layer.stored_tensors().items():
            assert torch.equal(tensor, before[name][part])
            assert tensor.dtype == before[name][part].dtype


def test_dequantizing_gives_an_ordinary_model(saved: Path, tmp_path: Path) -> None:
    model: Any = lords_bench.from_pretrained(saved)
    expected = logits(model)

    model.dequantize().save_pretrained(tmp_path / "dense")

    assert not hasattr(AutoConfig.from_pretrained(tmp_path / "dense"), "quantization_config")
    torch.testing.assert_close(logits(lords_bench.from_pretrained(tmp_path / "dense")), expected, rtol=1e-4, atol=1e-4)


def test_without_the_plug_in_transformers_refuses_the_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(AUTO_QUANTIZATION_CONFIG_MAPPING, "lords")

    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModelForCausalLM.from_pretrained(saved)


def test_registering_again_changes_nothing(saved: Path) -> None:
    hf_quantizer.register()

    assert stored_layers(AutoModelForCausalLM.from_pretrained(saved))


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"weight": None}, rf"layer {LAYER} lacks tensor 'weight'"),
        ({"a_RK": None}, rf"layer {LAYER} lacks tensor 'a_RK'"),
        ({"a_RK": torch.full((1, 64), torch.inf, dtype=torch.float16)}, "non-finite numbers in 'a_RK'"),
        ({"a_RK": torch.zeros(2, 64, dtype=torch.float16)}, r"'a_RK' as .* \(2, 64\), not .* \(1, 64\)"),
        ({"weight": torch.zeros(128, 1, 3, 16, dtype=torch.int32)}, "has 'weight' as torch.int32"),
        ({"other": torch.zeros(2)}, rf"tensor {LAYER}.other is of no layer"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    saved: Path, tmp_path: Path, tensors: dict[str, torch.Tensor | None], complaint: str
) -> None:
    folder = changed(saved, tmp_path / "damaged", **tensors)

    with pytest.raises(ModelError, match=complaint) as error:
        lords_bench.from_pretrained(folder)

    assert "\n" not in str(error.value)


def test_a_lost_tensor_is_refused_by_transformers_own_entrance_too(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path / "damaged", b_NR=None)

    with pytest.raises(ModelError, match=rf"layer {LAYER} lacks tensor 'b_NR'"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_truncated_folder_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path / "damaged")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])

    for load in (lords_bench.from_pretrained, AutoModelForCausalLM.from_pretrained):
        with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file"):
            load(folder)


def test_a_dense_folder_that_lacks_a_weight_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = changed(llama_folder, tmp_path / "damaged", weight=None)

    with pytest.raises(ModelError, match=rf"lacks {LAYER}\.weight"):
        lords_bench.from_pretrained(folder, quantization_config=LordsConfig(block=32))


def test_a_weight_that_cannot_be_quantized_is_named(llama_folder: Path, tmp_path: Path) -> None:
    folder = changed(llama_folder, tmp_path / "damaged", weight=torch.full((128, 64), torch.nan))

    with pytest.raises(WeightError, match=rf"layer {LAYER}: .*"):
        lords_bench.from_pretrained(folder, quantization_config=LordsConfig(block=32))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"method": "gptq", "block": 32}, "'gptq' needs calibration inputs.*lords-bench quantize"),
        ({"layer_specs": {"lm_head": {"bits": 2}}}, "names layer 'lm_head', which the model does not quantize"),
    ],
)
def test_what_cannot_be_quantized_on_loading_is_refused(
    llama_folder: Path, config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(LordsBenchError, match=complaint):
        quantized_on_load(llama_folder, config=LordsConfig(**config))


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel has no nn\.Linear"):
        quantized_on_load(save_tiny_gpt2(tmp_path / "model"))


@pytest.mark.parametrize("pattern", ["model.layers.0.mlp", "up_proj", r".*\.(up|gate)_proj", LAYER])
def test_layers_to_leave_alone_are_named_in_four_ways(llama_folder: Path, pattern: str) -> None:
    config = LordsConfig(method="nf4", block=32, modules_to_not_convert=[pattern])

    layers = stored_layers(quantized_on_load(llama_folder, config=config))

    assert LAYER not in layers
    assert "model.layers.0.self_attn.q_proj" in layers


@pytest.mark.parametrize(
    "config",
    [
        LordsConfig(),
        LordsConfig(bits=2, rank=3, modules_to_not_convert=["a.b"], layer_specs={"c": {"bits": 4}}),
        LordsConfig(bits=2, levels={"name": "own", "levels": [-1.0, 0.0, 0.5, 1.0]}),
    ],
)
def test_a_config_survives_json(config: LordsConfig) -> None:
    again = LordsConfig.from_dict(json.loads(config.to_json_string()))

    assert again.to_dict() == config.to_dict()
    assert again.spec == config.spec
    assert again.spec_of("c") == config.spec_of("c")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"method": "best"}, "unknown method 'best'"),
        ({"quant_method": "awq"}, "quant_method is 'awq'"),
        ({"group_size": 64}, "unknown group_size"),
        ({"layer_specs": {"a": {"bits": 7}}}, "layer 'a': bits=7 is not offered"),
        ({"levels": {"levels": [0.0]}}, "malformed"),
    ],
)
def test_a_config_that_means_nothing_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        LordsConfig(**options)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match=r"has '\(', no name and no pattern"):
        LordsConfig(modules_to_not_convert=["("]).converts("a")
