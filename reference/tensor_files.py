"""Safetensors files, whole or not at all, and believed by their headers before a tensor is read.

A crash or a full disk leaves either the old file or none: `lords_bench.files`. The header of a file says the dtype and
shape of every tensor; whoever knows what they must be asks it first, for a loader that converts to the dtype it wants
makes wrong numbers out of a wrong header.
"""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lords_bench.errors import ModelError, reason_of
from lords_bench.files import whole_file
from lords_bench.json_object import object_of

# By the name in a header; a dtype that is not here, such as one of 8-bit floats, keeps that name.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

DtypeAndShape = tuple[torch.dtype, tuple[int, ...]]
# What a header says, which may be a dtype that is not ours.
StoredLayout = tuple[torch.dtype | str, tuple[int, ...]]

# In the metadata of every file that is written here: how many numbers it holds of each dtype. The dtype of an embedding
# or of an adapter is nowhere else, and the bytes of one 16-bit dtype make numbers of some kind in the other.
NUMBERS_KEY = "lords_bench.numbers"


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors by name, from any device.

    Raises:
        StoreError: the file cannot be written; what was there before is untouched.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path, remedy="choose another folder") as part, disk_refusals():
        save_file(stored, part, metadata={**metadata, **written_numbers(stored)})


@contextmanager
def disk_refusals() -> Iterator[None]:
    """Makes what safetensors raises while it writes an OSError, as other libraries do.

    Raises:
        OSError: the disk is full, or refuses for another reason.
    """
    try:
        yield
    except SafetensorError as error:
        number = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(number, reason_of(error)) from error


def written_numbers(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The metadata by which `require_as_written` knows the file that holds these tensors."""
    layouts = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    return {NUMBERS_KEY: json.dumps(_numbers_by_dtype(layouts))}


def require_as_written(header: Mapping[str, StoredLayout], metadata: Mapping[str, str], path: Path) -> None:
    """Does nothing where a header holds as many numbers of each dtype as were written, or nobody wrote that down.

    Raises:
        ModelError: it holds others.
    """
    if NUMBERS_KEY not in metadata:
        return
    try:
        written = object_of(metadata[NUMBERS_KEY])
    except ValueError as error:
        raise ModelError(f"{path} says wrongly what was written ({reason_of(error)}); fetch it again") from error
    found = _numbers_by_dtype(header)
    for dtype in {**found, **written}:
        if found.get(dtype, 0) != written.get(dtype):
            raise ModelError(
                f"the header of {path} has {found.get(dtype, 0)} numbers of {dtype:.20}, written were "
                f"{written.get(dtype, 0)!r:.20}; fetch it again"
            )


def _numbers_by_dtype(layouts: Mapping[str, StoredLayout]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for dtype, shape in layouts.values():
        counts[str(dtype)] = counts.get(str(dtype), 0) + prod(shape)
    return dict(sorted(counts.items()))


def is_there(path: Path) -> bool:
    """Whether a path is a file; one that is longer than the system takes is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_header(path: Path) -> tuple[dict[str, StoredLayout], dict[str, str]]:
    """Dtype and shape of every tensor by name, and the metadata of the file; no tensor is read.

    safetensors itself refuses a header of more than 100 MB, and one whose tensors are not exactly the file's bytes.

    Raises:
        ModelError: the file is missing, truncated or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _not_whole(path, error) from error
    return {name: (DTYPES.get(dtype, dtype), shape) for name, (dtype, shape) in found.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name on the CPU, and the metadata of the file.

    Raises:
        ModelError: the file is missing, truncated or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is no whole safetensors file ({reason_of(error)}); fetch it again")
