"""A Hugging Face causal language model as a set of weights that can be exchanged for quantized ones.

What is quantized: the weight of every `nn.Linear` except the output head (and whatever shares its tensor with an
embedding). What holds weights and is not `nn.Linear` (GPT-2's Conv1D, the fused three-dimensional experts of a
mixture, convolutions, routers) stays as it is and is listed by name with its share, so that a result on such a model
says how much of it was really quantized.

Quantized layers are measured by their dequantized weights: `swapped_weights` points each module at another tensor and
back again, without a copy and without reloading. It costs one more set of linear weights in memory.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lords_bench.errors import ModelError, reason_of
from lords_bench.integrations.stored_files import read_config, refusing, require_dense_stored
from lords_bench.source import files, sha256_of

# Codes and scales in a quantized folder of the earlier form.
QUANTIZED_FILE = "quantized.safetensors"
WEIGHT_FILES = ("config.json", "*.safetensors")
TOKENIZER_FILES = ("tokenizer*.json", "*.model", "vocab.*", "merges.txt", "special_tokens_map.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearLayer:
    """One layer to quantize: `name` is its path in the model, `module.weight` is weight_NK."""

    name: str
    module: nn.Linear

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K): out features, in features."""
        return self.module.out_features, self.module.in_features

    @property
    def weight_count(self) -> int:
        """N·K."""
        return self.module.out_features * self.module.in_features


@dataclass(frozen=True, kw_only=True, slots=True)
class UnquantizedModule:
    """A module that multiplies by weights and is left as it is; `kind` is its class."""

    name: str
    kind: str
    weight_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalModel:
    """A loaded model in evaluation mode, without gradients, and what of it can be quantized.

    Attributes:
        name: the folder's name or the hub name, for the reader.
        source: directory or hub name, as given.
        folder: where its files lie.
        layers: layers to quantize, in model order.
        unquantized: modules with weights of two or more dimensions left as they are; token embeddings are not counted.
        model_sha256: hash over the names and contents of config.json and the safetensors files.
        tokenizer_sha256: the same over the tokenizer's files.
    """

    name: str
    source: str
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    layers: tuple[LinearLayer, ...]
    unquantized: tuple[UnquantizedModule, ...]
    model_sha256: str
    tokenizer_sha256: str

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device

    @property
    def context_tokens(self) -> int | None:
        """Longest input in tokens, or None where the configuration does not say."""
        value = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return value if type(value) is int and value > 0 else None

    @property
    def unquantized_weights(self) -> int:
        """Number of weights in `unquantized`."""
        return sum(module.weight_count for module in self.unquantized)

    @property
    def unquantized_share(self) -> float:
        """`unquantized_weights` as a fraction of these and the layers' weights together."""
        return self.unquantized_weights / (self.unquantized_weights + sum(x.weight_count for x in self.layers))


def load_causal_model(source: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> CausalModel:
    """Loads a causal language model and its tokenizer from a directory or by hub name; safetensors only.

    Args:
        source: a Hugging Face model directory, or a hub name such as `Qwen/Qwen3-0.6B`.
        dtype: dtype of the weights and of the computation.
        device: where to put them.

    Raises:
        ModelError: missing directory, unknown hub name, truncated or missing weights, non-finite weights, not a causal
            language model, no linear layer to quantize; one line.
    """
    folder = _model_folder(source)
    if is_quantized_folder(folder):
        raise ModelError(f"{source!r} is quantized already; give the unquantized model it came from")
    with quiet_transformers(), refusing(source):
        require_dense_stored(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    model: Any = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise ModelError(
            f"{source!r} lacks {len(missing)} weights, {missing[0]} among them; the checkpoint is incomplete"
        )
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(f"{source!r}: weight {name} holds non-finite values; use an undamaged checkpoint")
    model.to(device).eval().requires_grad_(False)
    layers, unquantized = quantizable_layers(model)
    if not layers:
        kinds = ", ".join(f"{module.name} ({module.kind})" for module in unquantized[:3])
        raise ModelError(f"{source!r} has no nn.Linear to quantize; its weights are in {kinds or 'embeddings only'}")
    return CausalModel(
        name=folder.resolve().name if Path(source).expanduser().is_dir() else source,
        source=source,
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        layers=layers,
        unquantized=unquantized,
        model_sha256=files_sha256(folder, WEIGHT_FILES),
        tokenizer_sha256=files_sha256(folder, TOKENIZER_FILES),
    )


def is_quantized_folder(folder: Path) -> bool:
    """Whether a folder holds a model quantized by this project; one without a readable config.json holds none."""
    try:
        if (folder / QUANTIZED_FILE).is_file():
            return True
        described = read_config(folder).get("quantization_config")
    except (OSError, ModelError):
        return False
    return isinstance(described, dict) and described.get("quant_method") == "lords"


def quantizable_layers(model: PreTrainedModel) -> tuple[tuple[LinearLayer, ...], tuple[UnquantizedModule, ...]]:
    """The layers to quantize and the modules left as they are, both in model order.

    A weight shared by several layers is listed once, and swapped in all of them, since they hold one Parameter.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings()
    layers: list[LinearLayer] = []
    unquantized: list[UnquantizedModule] = []
    seen = set(embeddings)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        own = {id(p): p for p in module.parameters(recurse=False) if p.ndim >= 2 and id(p) not in seen}
        if not own:
            continue
        seen.update(own)
        if isinstance(module, nn.Linear) and module is not head:
            layers.append(LinearLayer(name=name, module=module))
        else:
            count = sum(parameter.numel() for parameter in own.values())
            unquantized.append(UnquantizedModule(name=name, kind=type(module).__name__, weight_count=count))
    return tuple(layers), tuple(unquantized)


@contextmanager
def swapped_weights(layers: tuple[LinearLayer, ...], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block, each layer named in `weights` computes with that tensor; afterwards with its own again.

    Args:
        layers: layers of the model.
        weights: weight_NK by layer name, in the model's dtype and on its device; {} changes nothing.

    Raises:
        ModelError: a name that is no layer, or a shape that is not the layer's.
    """
    by_name = {layer.name: layer for layer in layers}
    for name, weight in weights.items():
        if name not in by_name:
            raise ModelError(f"no linear layer {name!r} in the model; it has {', '.join(by_name)}")
        if tuple(weight.shape) != by_name[name].shape:
            raise ModelError(f"weight of {name} is {tuple(weight.shape)}, the layer is {by_name[name].shape}")
    originals = {name: by_name[name].module.weight.data for name in weights}
    try:
        for name, weight in weights.items():
            by_name[name].module.weight.data = weight
        yield
    finally:
        for name, original in originals.items():
            by_name[name].module.weight.data = original


def files_sha256(folder: Path, patterns: tuple[str, ...]) -> str:
    """Hash over names and contents of the files in `folder` that match, in order of name."""
    return sha256_of(files(folder, *(path.name for pattern in patterns for path in folder.glob(pattern))))


def _model_folder(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise ModelError(f"{source!r} holds no config.json; give a Hugging Face model directory")
            return path
        if path.exists():
            raise ModelError(f"{source!r} is a file; give the model's directory")
    # No home of that name, or a path that is longer than the system takes.
    except (OSError, RuntimeError) as error:
        raise ModelError(f"no model directory {source!r:.80}: {reason_of(error)}; check the path") from error
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise ModelError(f"no model directory {source!r}; check the path")
    try:
        return Path(
            snapshot_download(source, allow_patterns=[*WEIGHT_FILES, *TOKENIZER_FILES, "*.safetensors.index.json"])
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"no directory {source!r}, and the hub does not give it: {reason_of(error)}") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without load reports and progress bars: what matters of them is raised as ModelError."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
