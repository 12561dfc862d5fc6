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
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lords_bench.errors import ModelError, SpecError, StoreError, reason_of
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
from lords_bench.integrations.stored_files import (
    CONFIG_FILE,
    MODEL_FILE,
    StoredHeaders,
    check_folder,
    meta_model,
    read_config,
    refusing,
    require_few_layers,
    require_stored,
    stored_headers,
)
from lords_bench.integrations.stored_linear import stored_layouts, stored_name, weight_in_state
from lords_bench.quant import QuantSpec
from lords_bench.reference.checkpoint import load_weights, tensors_to_store
from lords_bench.reference.tensor_files import disk_refusals, read_tensors, written_numbers
from lords_bench.reference.weights import QuantizedWeight

UNQUANTIZED_FILE = "unquantized.safetensors"  # of the earlier form
# Python makes and removes folders one inside of the other, each in a call inside of the other.
MOST_PARTS_OF_PATH = 200


def require_free(folder: Path) -> None:
    """Does nothing where the folder can be written.

    Raises:
        StoreError: it exists and is not an empty folder.
    """
    if len(folder.absolute().parts) > MOST_PARTS_OF_PATH:
        raise StoreError(f"{str(folder)!r:.80} is over {MOST_PARTS_OF_PATH} folders deep; choose another --out")
    try:
        is_free = not _is_there(folder) or (folder.is_dir() and not any(folder.iterdir()))
        above = next((path for path in folder.absolute().parents if _is_there(path)), folder)
        if not above.is_dir():
            raise StoreError(f"cannot write {str(folder)!r}: {str(above)!r} is no folder; choose another --out")
    except StoreError:
        raise
    # A path that is longer than the system takes, or a folder that cannot be listed.
    except OSError as error:
        raise StoreError(f"cannot write {str(folder)!r:.80}: {reason_of(error)}; choose another --out") from error
    if not is_free:
        raise StoreError(f"{str(folder)!r} exists already; choose another --out")


def _is_there(path: Path) -> bool:
    """Also a link that leads nowhere."""
    return path.is_symlink() or path.exists()


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
    config = read_config(model.folder)
    config["quantization_config"] = LordsConfig.describing(weights, sorted(layers - weights.keys())).to_dict()
    with whole_folder(folder, remedy="change --out") as whole, disk_refusals():
        (whole / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        for pattern in ("generation_config.json", *TOKENIZER_FILES):
            for path in model.folder.glob(pattern):
                shutil.copyfile(path, whole / path.name)
        save_file(stored, whole / MODEL_FILE, metadata={"format": "pt", **written_numbers(stored)})


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
    with quiet_transformers(), refusing(folder):
        is_old = (folder / QUANTIZED_FILE).is_file()
        stored = _old_headers(folder) if is_old else check_folder(folder)
        if stored is None:
            raise ModelError(f"{str(folder)!r} holds no {MODEL_FILE}; fetch it again")
        config = AutoConfig.from_pretrained(folder)
        described = getattr(config, "quantization_config", None)
        # The model in memory has ordinary layers, and must not claim anything else.
        config.__dict__.pop("quantization_config", None)
        empty = meta_model(config, stored)
        shapes = {layer.name: layer.shape for layer in quantizable_layers(empty)[0]}
        if is_old:
            weights, others = _read_old(folder, stored, empty, shapes)
        else:
            weights, others = _read(folder, stored, empty, _config(described, folder).specs_of(shapes))
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = {name: weight.to(device) for name, weight in weights.items()}
    restored = {f"{name}.weight": weight.dequantize(dtype=dtype) for name, weight in weights.items()}
    try:
        loading = model.load_state_dict({**others, **restored}, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the weights of {str(folder)!r} do not fit its config.json: {reason_of(error)}") from error
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
        config: LordsConfig = LordsConfig.from_dict(described)
    except SpecError as error:
        raise ModelError(f"config.json of {str(folder)!r}: {error}") from error
    return config


def _read(
    folder: Path,
    stored: StoredHeaders,
    empty: PreTrainedModel,
    specs: Mapping[str, tuple[QuantSpec, tuple[int, int]]],
) -> tuple[dict[str, QuantizedWeight], dict[str, Tensor]]:
    """The quantized weights by layer name, and all other tensors."""
    require_stored(empty, stored, stored_layouts(specs, stored.tensors))
    others = _tensors(stored)
    weights = {}
    for name, (spec, shape) in specs.items():
        weights[name] = weight_in_state(spec, shape, others, name, f"weight {name!r} of {folder}")
        for part in weights[name].tensors():
            del others[f"{name}.{stored_name(part)}"]
    return weights, others


def _old_headers(folder: Path) -> StoredHeaders:
    stored = stored_headers([folder / UNQUANTIZED_FILE])
    require_few_layers(read_config(folder), stored)
    return stored


def _read_old(
    folder: Path, stored: StoredHeaders, empty: PreTrainedModel, shapes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, QuantizedWeight], dict[str, Tensor]]:
    """The same of a folder of the earlier form, whose weights say themselves what they are."""
    weights = load_weights(folder / QUANTIZED_FILE)
    for name, weight in weights.items():
        if shapes.get(name) != weight.shape:
            raise ModelError(f"weight {name} of {folder} is {weight.shape}, in its config.json {shapes.get(name)}")
    require_stored(empty, stored, {name: {} for name in weights})
    return weights, _tensors(stored)


def _tensors(stored: StoredHeaders) -> dict[str, Tensor]:
    return {name: tensor for file in stored.files for name, tensor in read_tensors(file)[0].items()}


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
