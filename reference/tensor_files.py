"""Safetensors files, whole or not at all, and believed by their headers before a tensor is read.

A crash or a full disk leaves either the old file or none: `lords_bench.files`. The header of a file says the dtype and
shape of every tensor; whoever knows what they must be asks it first, for a loader that converts to the dtype it wants
makes wrong numbers out of a wrong header.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lords_bench.errors import ModelError
from lords_bench.files import whole_file

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


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors by name, from any device.

    Raises:
        StoreError: the file cannot be written; what was there before is untouched.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path, remedy="choose another folder") as part, disk_refusals():
        save_file(stored, part, metadata=dict(metadata))


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
        raise OSError(number, one_line(error)) from error


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
    return ModelError(f"{path} is no whole safetensors file ({one_line(error)}); fetch it again")
