"""A quantized model as a folder: what `lords-bench quantize` writes and `lords-bench eval` reads.

    configuration and tokenizer     copied from the model
    quantized.safetensors           codes, scales and specs of every quantized layer (`reference.checkpoint`)
    unquantized.safetensors         every other parameter, in the narrowest float dtype that holds it exactly

No file is called model.safetensors: transformers would load that, find the linear weights missing, and go on with
random ones. The folder is written under another name and moved to its place when it is whole.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lords_bench.errors import ModelError, StoreError
from lords_bench.integrations.hf_model import (
    QUANTIZED_FILE,
    TOKENIZER_FILES,
    CausalModel,
    files_sha256,
    load_causal_model,
    one_line,
    quantizable_layers,
    quiet_transformers,
)
from lords_bench.reference.checkpoint import load_weights, save_weights
from lords_bench.reference.weights import QuantizedWeight

UNQUANTIZED_FILE = "unquantized.safetensors"
CONFIG_FILES = ("config.json", "generation_config.json")


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
        ModelError: a weight is of no layer of the model.
    """
    layers = {layer.name for layer in model.layers}
    foreign = sorted(weights.keys() - layers)
    if foreign:
        raise ModelError(f"no linear layer {foreign[0]!r} in {model.source!r}")
    require_free(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    quantized = {f"{name}.weight" for name in weights}
    # Both name each tensor once, tied ones too; the state dict knows which buffers belong into a file.
    state = model.model.state_dict().keys()
    tensors = {**dict(model.model.named_parameters()), **dict(model.model.named_buffers())}
    others = {name: _narrowed(tensors[name]) for name in state & tensors.keys() if name not in quantized}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for pattern in (*CONFIG_FILES, *TOKENIZER_FILES):
            for path in model.folder.glob(pattern):
                shutil.copyfile(path, partial / path.name)
        save_file(others, partial / UNQUANTIZED_FILE, metadata={"format": "pt"})
        save_weights(weights, partial / QUANTIZED_FILE)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except StoreError:
        raise
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {str(folder)!r}: {one_line(error)}; free space or change --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
    weights = load_weights(folder / QUANTIZED_FILE, device=device)
    with quiet_transformers():
        try:
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            others = load_file(folder / UNQUANTIZED_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"cannot load {str(folder)!r}: {one_line(error)}") from error
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
    files = ("config.json", QUANTIZED_FILE, UNQUANTIZED_FILE)
    loaded = CausalModel(
        name=folder.resolve().name,
        source=str(folder),
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        layers=layers,
        unquantized=unquantized,
        model_sha256=files_sha256(folder, files),
        tokenizer_sha256=files_sha256(folder, TOKENIZER_FILES),
    )
    return loaded, weights


def load_any_model(
    source: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[CausalModel, dict[str, QuantizedWeight]]:
    """A quantized folder, or any model that `hf_model.load_causal_model` takes; that one has no quantized weights.

    Raises:
        ModelError: it cannot be used.
    """
    if (Path(source) / QUANTIZED_FILE).is_file():
        return load_quantized_folder(Path(source), dtype=dtype, device=device)
    return load_causal_model(source, dtype=dtype, device=device), {}
