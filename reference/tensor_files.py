"""Safetensors files, whole or not at all.

A file is written beside its place and moved there whole, so a crash or a full disk leaves either the old file or none.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lords_bench.errors import ModelError, StoreError


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors by name, from any device.

    Raises:
        StoreError: the file cannot be written; what was there before is untouched.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(stored, partial, metadata=dict(metadata))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {path}: {one_line(error)}; free space or choose another folder") from error
    finally:
        partial.unlink(missing_ok=True)


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


def one_line(error: Exception) -> str:
    """The message of an error on one line, or its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
