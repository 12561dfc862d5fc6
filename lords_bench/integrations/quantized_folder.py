"""A quantized model as a folder: what `lords-bench quantize` writes and `lords-bench eval` reads.

    config.json         of the model, with a `quantization_config` (`hf_config`)
    tokenizer           copied from the model
    model.safetensors   codes and scales of every quantized layer, named as `stored_linear` does, and every other
                        parameter in the narrowest float dtype that holds it exactly

`hf_quantizer` makes transformers load it; without that, transformers refuses it for the shapes of the codes. The folder
is written under another name and moved to its place when it is whole. Folders of an earlier form, with
quantized.safetensors and unquantized.safetensors, are read as well.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lords_bench.errors import ModelError, SpecError, StoreError
from lords_bench.files import whole_folder
from lords_bench.integrations.hf_config import LordsConfig
from lords_bench.integrations.hf_model import (
    QUANTIZED_FILE,
    TOKENIZER_FILES,
    WEIGHT_FILES,
    CausalModel,
    files_sha256,
    is_quantized_folder,
    load_causal_model,
    quantizable_layers,
    quiet_transformers,
)
from lords_bench.integrations.stored_linear import stored_name, weight_in_state
from lords_bench.reference.checkpoint import load_weights, tensors_to_store
from lords_bench.reference.tensor_files import disk_refusals, read_tensors
from lords_bench.reference.weights import QuantizedWeight

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
UNQUANTIZED_FILE = "unquantized.safetensors"  # of the earlier form


def require_free(folder: Path) -> None:
    """Does nothing where the folder can be written.

    Raises:
        StoreError: it exists and is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{str(folder)!r} exists already; choose another --out")


def save_quantized_folder(model: CausalModel, weights: Mapping[str, QuantizedWeight], folder: Path) -> None:
    """Writes the folder, whole or not at all.

    Args:
        model: the unquantized model.
        weights: quantized weight of each of its layers, by name.
        folder: must not exist, or be empty.

    Raises:
        StoreError: the folder is taken, or the disk refuses.
        ModelError: there is no weight, or one of no layer of the model or with an adapter.
    """
    layers = {layer.name for layer in model.layers}
    foreign = sorted(weights.keys() - layers)
    if foreign or not weights:
        missing = f"linear layer {foreign[0]!r}" if foreign else "quantized layer"
        raise ModelError(f"no {missing} in {model.source!r}")
    require_free(folder)
    quantized = {f"{name}.weight" for name in weights}
    # Both name each tensor once, tied ones too; the state dict knows which buffers belong into a file.
    state = model.model.state_dict().keys()
    tensors = {**dict(model.model.named_parameters()), **dict(model.model.named_buffers())}
    stored = {name: _narrowed(tensors[name]) for name in state & tensors.keys() if name not in quantized}
    for name, weight in weights.items():
        for part, tensor in tensors_to_store(name, weight):
            stored[f"{name}.{stored_name(part)}"] = tensor.detach().cpu().contiguous()
    config = json.loads((model.folder / CONFIG_FILE).read_text("utf-8"))
    config["quantization_config"] = LordsConfig.describing(weights, sorted(layers - weights.keys())).to_dict()
    with whole_folder(folder, remedy="change --out") as whole, disk_refusals():
        (whole / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        for pattern in ("generation_config.json", *TOKENIZER_FILES):
            for path in model.folder.glob(pattern):
                shutil.copyfile(path, whole / path.name)
        save_file(stored, whole / MODEL_FILE, metadata={"format": "pt"})


def _narrowed(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, in a 16-bit dtype where that loses nothing."""
    for dtype in (torch.bfloat16, torch.float16):
        if tensor.is_floating_point() and torch.equal(tensor.to(dtype).to(tensor.dtype), tensor):
            return tensor.detach().to("cpu", dtype).contiguous()
    return tensor.detach().cpu().contiguous()


def load_quantized_folder(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[CausalModel, dict[str, QuantizedWeight]]:
    """The model with its quantized layers dequantized, and the quantized weights by layer name.

    Raises:
        ModelError: a file is missing, truncated or does not fit the others.
    """
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder)
            described = getattr(config, "quantization_config", None)
            # The model in memory has ordinary layers, and must not claim anything else.
            config.__dict__.pop("quantization_config", None)
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"cannot load {str(folder)!r}: {one_line(error)}") from error
    if (folder / QUANTIZED_FILE).is_file():
        weights = load_weights(folder / QUANTIZED_FILE)
        others, _ = read_tensors(folder / UNQUANTIZED_FILE)
    else:
        others = _read_model_files(folder)
        weights = _take_weights(others, model, _config(described, folder), folder)
    weights = {name: weight.to(device) for name, weight in weights.items()}
    restored = {f"{name}.weight": weight.dequantize(dtype=dtype) for name, weight in weights.items()}
    try:
        loading = model.load_state_dict({**others, **restored}, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the weights of {str(folder)!r} do not fit its config.json: {one_line(error)}") from error
    model.tie_weights()
    parameters = dict(model.named_parameters())
    missing = [name for name in loading.missing_keys if name in parameters]
    if missing or loading.unexpected_keys:
        name = (missing or loading.unexpected_keys)[0]
        raise ModelError(f"{str(folder)!r}: weight {name} is {'missing' if missing else 'of no layer'}; quantize again")
    model.to(device).eval().requires_grad_(False)
    layers, unquantized = quantizable_layers(model)
    loaded = CausalModel(
        name=folder.resolve().name,
        source=str(folder),
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        layers=layers,
        unquantized=unquantized,
        model_sha256=files_sha256(folder, WEIGHT_FILES),
        tokenizer_sha256=files_sha256(folder, TOKENIZER_FILES),
    )
    return loaded, weights


def _config(described: object, folder: Path) -> LordsConfig:
    if not isinstance(described, dict):
        raise ModelError(f"{str(folder)!r} has no quantization_config in its config.json; quantize again")
    try:
        return LordsConfig(**described)
    except SpecError as error:
        raise ModelError(f"config.json of {str(folder)!r}: {error}") from error


def _read_model_files(folder: Path) -> dict[str, Tensor]:
    """Every tensor of model.safetensors, or of the parts that its index names."""
    index = folder / INDEX_FILE
    if not index.is_file():
        return read_tensors(folder / MODEL_FILE)[0]
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is malformed ({one_line(error)}); fetch it again") from error
    return {name: tensor for part in names for name, tensor in read_tensors(folder / part)[0].items()}


def _take_weights(
    tensors: dict[str, Tensor], model: PreTrainedModel, config: LordsConfig, folder: Path
) -> dict[str, QuantizedWeight]:
    """The quantized weights by layer name; their tensors leave `tensors`."""
    weights = {}
    for layer in quantizable_layers(model)[0]:
        if config.converts(layer.name):
            spec, where = config.spec_of(layer.name), f"weight {layer.name!r} of {folder}"
            weight = weight_in_state(spec, layer.shape, tensors, layer.name, where)
            for part in weight.tensors():
                del tensors[f"{layer.name}.{stored_name(part)}"]
            weights[layer.name] = weight
    return weights


def load_any_model(
    source: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[CausalModel, dict[str, QuantizedWeight]]:
    """A quantized folder, or any model that `hf_model.load_causal_model` takes; that one has no quantized weights.

    Raises:
        ModelError: it cannot be used.
    """
    if is_quantized_folder(Path(source)):
        return load_quantized_folder(Path(source), dtype=dtype, device=device)
    return load_causal_model(source, dtype=dtype, device=device), {}
