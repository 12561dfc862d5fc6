import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTForImageClassification

from lords_bench.errors import ModelError
from lords_bench.integrations.hf_model import (
    TOKENIZER_FILES,
    WEIGHT_FILES,
    CausalModel,
    files_sha256,
    load_causal_model,
    swapped_weights,
)
from lords_bench.records import read_records
from lords_bench.source import TREE
from tiny_models import save_tiny_gpt2, save_tiny_llama, save_tiny_mixtral


def copy_of(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def change_weights(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(folder / "model.safetensors") | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def assert_one_line(error: pytest.ExceptionInfo[ModelError]) -> None:
    assert "\n" not in str(error.value)


def test_every_linear_layer_but_the_head_is_listed_in_model_order(llama: CausalModel) -> None:
    block = "model.layers.0."
    attention = [f"{block}self_attn.{name}_proj" for name in "qkvo"]
    mlp = [f"{block}mlp.{name}_proj" for name in ("gate", "up", "down")]

    assert [layer.name for layer in llama.layers] == attention + mlp
    assert llama.layers[-1].shape == (64, 128)
    assert llama.unquantized == ()
    assert llama.unquantized_share == 0


def test_an_untied_head_is_named_as_unquantized(tmp_path: Path) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path / "model", tied=False)))

    assert [(module.name, module.kind) for module in model.unquantized] == [("lm_head", "Linear")]
    assert model.unquantized_weights == 257 * 64


def test_fused_experts_are_named_with_their_share(tmp_path: Path) -> None:
    model = load_causal_model(str(save_tiny_mixtral(tmp_path / "model")))

    experts = next(module for module in model.unquantized if "experts" in module.name)
    assert experts.weight_count == 4 * 3 * 32 * 32
    assert {layer.name.rpartition(".")[2] for layer in model.layers} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert model.unquantized_share > 0.75


def test_a_model_without_linear_layers_is_refused_with_what_it_has(tmp_path: Path) -> None:
    folder = save_tiny_gpt2(tmp_path / "model")

    with pytest.raises(ModelError, match=r"no nn\.Linear to quantize.*transformer\.h\.0\.attn\.c_attn \(Conv1D\)"):
        load_causal_model(str(folder))


def test_swapped_weights_count_inside_the_block_and_not_after_it(llama: CausalModel) -> None:
    layer = llama.layers[0]
    own = layer.module.weight.data
    before = own.clone()

    with swapped_weights(llama.layers, {layer.name: torch.zeros_like(own)}):
        inside = layer.module.weight.abs().sum().item()

    assert inside == 0
    assert layer.module.weight.data_ptr() == own.data_ptr()
    assert torch.equal(layer.module.weight, before)


def test_swapped_weights_are_restored_after_an_error(llama: CausalModel) -> None:
    layer = llama.layers[0]
    own = layer.module.weight.data

    with pytest.raises(KeyError), swapped_weights(llama.layers, {layer.name: torch.zeros_like(own)}):
        raise KeyError

    assert layer.module.weight.data_ptr() == own.data_ptr()


def test_weights_of_another_shape_or_layer_are_refused(llama: CausalModel) -> None:
    name = llama.layers[0].name

    with (
        pytest.raises(ModelError, match=r"\(2, 2\), the layer is \(64, 64\)"),
        swapped_weights(llama.layers, {name: torch.zeros(2, 2)}),
    ):
        pass
    with pytest.raises(ModelError, match="no linear layer 'x'"), swapped_weights(llama.layers, {"x": torch.zeros(1)}):
        pass


@pytest.mark.parametrize("source", ["/no/such/folder", "./here/not", "a/b/c"])
def test_a_missing_directory_is_named(source: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"no model directory '{source}'")):
        load_causal_model(source)


def test_a_hub_name_that_cannot_be_had_offline_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="no directory 'nobody/no-such-model', and the hub does not give it") as error:
        load_causal_model("nobody/no-such-model")

    assert_one_line(error)


def test_a_directory_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_causal_model(str(tmp_path))


def test_a_truncated_weight_file_is_refused_in_one_line(llama_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(llama_folder, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    with pytest.raises(ModelError, match=re.escape(f"{weights} is no whole safetensors file")) as error:
        load_causal_model(str(folder))

    assert_one_line(error)


def test_a_missing_weight_is_not_replaced_by_random_numbers(llama_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(llama_folder, tmp_path / "model")
    change_weights(folder, {"model.layers.0.mlp.up_proj.weight": None})

    with pytest.raises(ModelError, match=r"lacks 1 weights, model\.layers\.0\.mlp\.up_proj\.weight among them"):
        load_causal_model(str(folder))


def test_non_finite_weights_are_refused_by_name(llama_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(llama_folder, tmp_path / "model")
    change_weights(folder, {"model.norm.weight": torch.full((64,), float("nan"))})

    with pytest.raises(ModelError, match=r"model\.norm\.weight holds non-finite values"):
        load_causal_model(str(folder))


def test_a_model_that_is_not_a_causal_language_model_is_refused_in_one_line(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTForImageClassification(config).save_pretrained(tmp_path)

    with pytest.raises(ModelError, match="cannot load") as error:
        load_causal_model(str(tmp_path))

    assert_one_line(error)


def test_the_hashes_of_the_testbed_are_those_that_committed_records_have() -> None:
    inputs = read_records(TREE / "reports/records/cpu/accuracy.jsonl").records[0].inputs
    testbed = TREE / "suites/testbed/model"

    assert files_sha256(testbed, WEIGHT_FILES) == inputs.model_sha256
    assert files_sha256(testbed, TOKENIZER_FILES) == inputs.tokenizer_sha256


def test_the_model_hash_follows_the_weights_and_the_tokenizer_hash_the_tokenizer(
    llama: CausalModel, llama_folder: Path, tmp_path: Path
) -> None:
    folder = copy_of(llama_folder, tmp_path / "model")
    same = load_causal_model(str(folder))
    change_weights(folder, {"model.norm.weight": torch.full((64,), 2.0)})

    changed = load_causal_model(str(folder))

    assert (same.model_sha256, same.tokenizer_sha256) == (llama.model_sha256, llama.tokenizer_sha256)
    assert changed.model_sha256 != llama.model_sha256
    assert changed.tokenizer_sha256 == llama.tokenizer_sha256
