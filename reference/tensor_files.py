"""Safetensors files, whole or not at all.

A crash or a full disk leaves either the old file or none: `lords_bench.files`.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lords_bench.errors import ModelError
from lords_bench.files import whole_file


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


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name on the CPU, and the metadata of the file.

    Raises:
        ModelError: the file is missing, truncated or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no whole safetensors file ({one_line(error)}); fetch it again") from error
