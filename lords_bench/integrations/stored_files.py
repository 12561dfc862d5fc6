"""What a model's folder claims and what its files hold, compared before a tensor is read or made.

A config.json is a claim: sizes of a model, dtypes of its quantized weights. A loader that believes it makes room for
what no file holds, and converts what a file holds to what was claimed, so that a wrong dtype becomes wrong numbers.
Here the headers of the weight files say what is there (`stored_headers`); the model is built on the meta device, where
a number costs nothing (`meta_model`); and each is held against the other (`require_stored`). Every way of loading a
folder goes through these, so that all refuse the same.

The limits of what a folder may ask for stand here, in `tensor_files` (headers) and in `json_object` (JSON).
"""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from lords_bench.errors import LordsBenchError, ModelError, reason_of
from lords_bench.json_object import read_object
from lords_bench.reference.checkpoint import require_layout
from lords_bench.reference.tensor_files import DtypeAndShape, StoredLayout, read_header, require_as_written

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# The largest model on the hub has 163 parts.
MOST_PARTS = 10_000
# Beyond those that hold a tensor, a model has containers, activations and dropouts: some ten for each of its layers,
# which have nine tensors. More than this is a model of more layers than the files have.
MODULES_PER_TENSOR = 64
# What a model makes that no file holds. Frequencies of rotary positions take kilobytes; causal masks of older models
# 134 MB at most (32 layers of 2,048 × 2,048).
MOST_BUFFER_BYTES = 256 << 20
# Tied weights are in memory once and may be counted twice.
COUNTED_TWICE = 2

NO_LAYERS: Mapping[str, Mapping[str, DtypeAndShape]] = MappingProxyType({})
_COUNTS_LAYERS = re.compile(r"(^|_)layers?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredHeaders:
    """The tensors of a folder by name, out of the headers of `files`, and the metadata where that is one file."""

    files: tuple[Path, ...]
    tensors: Mapping[str, StoredLayout]
    metadata: Mapping[str, str]

    @property
    def numbers(self) -> int:
        """How many numbers they are."""
        return sum(prod(shape) for _dtype, shape in self.tensors.values())


@contextmanager
def refusing(source: str | Path) -> Iterator[None]:
    """Inside, whatever a library raises over the files of `source` is a ModelError of one line.

    A field of another type than a library expects gives any exception there is: a missing attribute, an operand of the
    wrong kind, a plain `Exception` of a tokenizer.

    Raises:
        ModelError: the block raised something that is not ours.
    """
    try:
        yield
    except LordsBenchError:
        raise
    except Exception as error:
        file = error.filename if isinstance(error, OSError) else None
        where = f" ({Path(file).name})" if isinstance(file, str) else ""
        raise ModelError(f"cannot load {str(source)!r}{where}: {reason_of(error)}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of config.json.

    Raises:
        ModelError: it is missing or no object.
    """
    try:
        return read_object(folder / CONFIG_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{CONFIG_FILE} of {str(folder)!r} cannot be read: {reason_of(error)}; fetch it again"
        ) from error


def weight_files(folder: Path, *, named: object = None) -> tuple[Path, ...]:
    """The files that hold the model's tensors: one, or the parts that its index names; none without safetensors.

    Args:
        folder: of the model.
        named: the file that config.json names (`transformers_weights`), if it does.

    Raises:
        ModelError: an index that is malformed, or names a file that is not in the folder.
    """
    if named is not None:
        path = _inside(folder, named, CONFIG_FILE)
        return _parts(path, folder) if path.name.endswith(".index.json") else (path,)
    if (folder / MODEL_FILE).is_file():
        return (folder / MODEL_FILE,)
    index = folder / INDEX_FILE
    return _parts(index, folder) if index.is_file() else ()


def require_inside(files: Iterable[str | Path], folder: Path) -> None:
    """Refuses weight files of a folder that lie elsewhere.

    Raises:
        ModelError: one does.
    """
    for file in files:
        _inside(folder, str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file, "its index")


def stored_headers(files: Sequence[Path]) -> StoredHeaders:
    """The headers of all files.

    Raises:
        ModelError: a file is no whole safetensors file, or two hold a tensor of one name.
    """
    tensors: dict[str, StoredLayout] = {}
    metadata: dict[str, str] = {}
    for file in files:
        header, metadata = read_header(file)
        twice = sorted(tensors.keys() & header.keys())
        if twice:
            raise ModelError(f"tensor {twice[0]!r} is in {file} and in another part of the model; fetch it again")
        tensors |= header
    return StoredHeaders(files=tuple(files), tensors=tensors, metadata=metadata if len(files) == 1 else {})


def require_few_layers(config: Mapping[str, Any], stored: StoredHeaders) -> None:
    """Refuses a config that counts more layers than there are tensors: a model is built layer by layer.

    Raises:
        ModelError: it does.
    """
    waiting: list[Mapping[str, Any]] = [config]
    while waiting:
        for key, value in waiting.pop().items():
            if isinstance(value, dict):
                waiting.append(value)
            elif isinstance(value, int) and _COUNTS_LAYERS.search(key) and value > len(stored.tensors):
                raise ModelError(
                    f"{CONFIG_FILE} has {key} = {value}, the files hold {len(stored.tensors)} tensors; fetch it again"
                )


def meta_model(config: PreTrainedConfig, stored: StoredHeaders) -> PreTrainedModel:
    """The model of a config on the meta device, where it takes no memory.

    Raises:
        ModelError: it has more modules than the tensors that are stored can fill.
    """
    plain = deepcopy(config)
    # What is quantized has ordinary layers here: only their shapes are asked for.
    plain.__dict__.pop("quantization_config", None)
    with torch.device("meta"), _few_modules(1000 + MODULES_PER_TENSOR * len(stored.tensors)):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(plain)
    return model


def require_stored(
    model: PreTrainedModel, stored: StoredHeaders, layers: Mapping[str, Mapping[str, DtypeAndShape]] = NO_LAYERS
) -> None:
    """Refuses a model that is larger than what is stored, or of which the files hold something else.

    Args:
        model: on the meta device.
        stored: the headers of its files.
        layers: by the name of each layer that is stored quantized, the tensors that it is stored as, by their names in
            the layer. With them the tensors of other layers are held against the model's by their names, which a
            loader of dense models may translate.

    Raises:
        ModelError: parameters are more numbers than the files hold; large buffers are in no file; a tensor of a
            quantized layer is missing or of another dtype or shape; another has a wrong shape, or is of floats where
            integers are due, or the other way round; there are not as many numbers of a dtype as were written.
    """
    for name, expected in layers.items():
        require_layout(expected, {part: stored.tensors.get(f"{name}.{part}") for part in expected}, f"layer {name}")
    dense = {f"{name}.weight" for name in layers}
    claimed = sum(parameter.numel() for name, parameter in model.named_parameters() if name not in dense)
    if claimed > COUNTED_TWICE * stored.numbers:
        raise ModelError(f"{CONFIG_FILE} claims {claimed:,} numbers, the files hold {stored.numbers:,}; fetch it again")
    state = model.state_dict()
    made = sum(buffer.nbytes for name, buffer in model.named_buffers() if name not in state)
    if made > MOST_BUFFER_BYTES:
        raise ModelError(
            f"{CONFIG_FILE} claims buffers of {made:,} bytes, more than {MOST_BUFFER_BYTES:,}; fetch it again"
        )
    own = {f"{name}.{part}" for name, expected in layers.items() for part in expected}
    for name in (state.keys() & stored.tensors.keys()) - own - dense if layers else ():
        _require_like(state[name], stored.tensors[name], name)
    for file in stored.files:
        require_as_written(stored.tensors, stored.metadata, file)


def _require_like(tensor: Tensor, layout: StoredLayout, name: str) -> None:
    dtype, shape = layout
    is_float = isinstance(dtype, torch.dtype) and dtype.is_floating_point
    if shape != tuple(tensor.shape) or is_float != tensor.is_floating_point():
        wanted = f"{'floats' if tensor.is_floating_point() else tensor.dtype} {tuple(tensor.shape)}"
        raise ModelError(f"tensor {name} is stored as {dtype} {shape}, not as {wanted}; fetch it again")


def check_folder(folder: Path) -> StoredHeaders | None:
    """What can be refused by files alone, before a library reads any: see the functions above.

    Returns:
        The headers of the folder's files; None where it has no safetensors.

    Raises:
        ModelError: a file cannot be read or lies elsewhere, or the config counts more layers than there are tensors.
    """
    fields = read_config(folder)
    files = weight_files(folder, named=fields.get("transformers_weights"))
    if not files:
        return None
    stored = stored_headers(files)
    require_few_layers(fields, stored)
    return stored


def require_dense_stored(folder: Path) -> None:
    """Refuses a folder of an unquantized model that claims more than its files hold.

    Raises:
        ModelError: it does, or a file cannot be read or lies elsewhere.
    """
    stored = check_folder(folder)
    if stored is not None:
        require_stored(meta_model(AutoConfig.from_pretrained(folder), stored), stored)


def _parts(index: Path, folder: Path) -> tuple[Path, ...]:
    try:
        fields = read_object(index)
    except (OSError, ValueError) as error:
        raise ModelError(f"{index} cannot be read: {reason_of(error)}; fetch it again") from error
    weight_map, metadata = fields.get("weight_map"), fields.get("metadata")
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(metadata, dict):
        raise ModelError(f"{index} has no weight_map or no metadata; fetch it again")
    names = set()
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise ModelError(f"{index} has {name!r:.60} as the file of {tensor!r:.60}, no name; fetch it again")
        names.add(name)
    if len(names) > MOST_PARTS:
        raise ModelError(f"{index} names {len(names):,} files, more than {MOST_PARTS:,}; fetch it again")
    return tuple(_inside(folder, name, index.name) for name in sorted(names))


def _inside(folder: Path, name: object, said_by: str) -> Path:
    """The file of that name in the folder, or in the hub's cache where the folder is a snapshot of it."""
    refusal = ModelError(f"{said_by} of {str(folder)!r} names {name!r:.80}, which is no file of it; fetch it again")
    if not isinstance(name, str) or not name.endswith((".safetensors", ".index.json")) or ".." in Path(name).parts:
        raise refusal
    try:
        root, path = folder.resolve(), (folder / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise refusal from error
    # A snapshot is links into a folder beside it: models--x--y/snapshots/<commit> and models--x--y/blobs.
    roots = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    if not any(path.is_relative_to(allowed) for allowed in roots):
        raise refusal
    return folder / name


@contextmanager
def _few_modules(most: int) -> Iterator[None]:
    """Ends what this thread builds once it has more modules than that."""
    thread, count = threading.get_ident(), 0

    def counted(*_: object) -> None:
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count > most:
                raise ModelError(
                    f"{CONFIG_FILE} claims more than {most:,} modules, more than the files have tensors for"
                )

    handle = register_module_module_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()


def require_all_read(model: nn.Module, ignored: Iterable[str]) -> None:
    """Refuses a loaded model of which some parameter came from no file.

    Args:
        model: as transformers loaded it: it marks what it read, and makes up the rest.
        ignored: regular expressions of names that it makes up on purpose.

    Raises:
        ModelError: a parameter did.
    """
    patterns = [re.compile(pattern) for pattern in ignored]
    for name, parameter in model.named_parameters():
        # What accelerate offloads is on no device, and not here to be checked.
        read = parameter.is_meta or getattr(parameter, "_is_hf_initialized", False)
        if not read and not any(pattern.search(name) for pattern in patterns):
            raise ModelError(f"the checkpoint lacks {name}; give a whole one")
