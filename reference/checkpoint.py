"""Quantized weights on disk: one safetensors file, nothing pickled.

The file's metadata names this format and its version and holds the shape and `QuantSpec` of every weight as JSON; its
tensors are called `<weight>.<tensor>`. It is believed only after every tensor proved to have the dtype and shape that
its spec implies.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lords_bench.errors import LordsBenchError, ModelError, one_line
from lords_bench.reference.double_quant import RUN
from lords_bench.reference.packing import packed_shape
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.reference.weights import (
    STORAGE_DTYPES,
    QuantizedWeight,
    needs_stored_levels,
    weight_from_tensors,
)
from lords_bench.spec.codebook import Codebook
from lords_bench.spec.quant import QuantSpec

FORMAT = "lords-bench/checkpoint"
VERSION = "1.0"

DtypeAndShape = tuple[torch.dtype, tuple[int, ...]]


def save_weights(weights: Mapping[str, QuantizedWeight], path: Path | str) -> None:
    """Write quantized weights by name; `load_weights` returns them bit for bit.

    Raises:
        StoreError: the file cannot be written; what was there before is untouched.
        ModelError: a weight is none, or has tensors beyond those of its spec, such as an additive adapter.
    """
    tensors = {
        f"{name}.{part}": tensor for name, weight in weights.items() for part, tensor in tensors_to_store(name, weight)
    }
    described = {name: {"shape": weight.shape, "spec": asdict(weight.spec)} for name, weight in weights.items()}
    metadata = {"format": FORMAT, "version": VERSION, "weights": json.dumps(described, sort_keys=True)}
    write_tensors(tensors, Path(path), metadata)


def load_weights(path: Path | str, *, device: torch.device | str = "cpu") -> dict[str, QuantizedWeight]:
    """Read what `save_weights` wrote.

    Raises:
        ModelError: the file is missing, truncated, not of this format, of an unknown version, or its tensors are not
            those its specs imply, or hold non-finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"no checkpoint at {path}; give the file that save_weights wrote")
    tensors, metadata = read_tensors(path)
    _check_format(metadata, path)
    loaded: dict[str, QuantizedWeight] = {}
    for name, description in _descriptions(metadata, path).items():
        spec, shape = _decode(description, f"weight {name!r} of {path}")
        where = f"weight {name!r} of {path}"
        parts = {part: tensors.pop(f"{name}.{part}", None) for part in expected_tensors(spec, shape, where)}
        loaded[name] = checked_weight(spec, shape, parts, where).to(device)
    if tensors:
        raise ModelError(f"{path} holds {len(tensors)} tensors of no weight, such as {min(tensors)!r}; fetch it again")
    return loaded


def tensors_to_store(name: str, weight: QuantizedWeight) -> list[tuple[str, Tensor]]:
    """Every tensor of a weight with its name.

    Raises:
        ModelError: the weight is none, or has tensors beyond those of its spec, such as an additive adapter.
    """
    found: object = weight
    if not hasattr(found, "tensors"):
        raise ModelError(f"weight {name!r} is a {type(found).__name__}; give what quantize or export returned")
    tensors = weight.tensors()
    foreign = tensors.keys() - expected_tensors(weight.spec, weight.shape, f"weight {name!r}")
    if foreign:
        raise ModelError(f"weight {name!r} has an adapter ({min(foreign)}); save its base here, the adapter apart")
    return list(tensors.items())


def checked_weight(
    spec: QuantSpec, shape: tuple[int, int], parts: Mapping[str, Tensor | None], where: str
) -> QuantizedWeight:
    """The weight of these tensors, once each proved to be what `spec` and `shape` imply.

    Args:
        spec: of the weight.
        shape: (N, K).
        parts: tensors by the names of `expected_tensors`; None where one is missing.
        where: what an error calls the weight.

    Raises:
        ModelError: a tensor is missing, of another dtype or shape, not finite, or holds codes beyond the levels.
    """
    weight = weight_from_tensors(spec, shape, _checked(parts, expected_tensors(spec, shape, where), where))
    _check_codes(weight, where)
    return weight


def spec_from_dict(values: Mapping[str, Any]) -> QuantSpec:
    """The inverse of `dataclasses.asdict` for a spec, also after a way through JSON.

    Raises:
        SpecError: values that no spec has; KeyError, TypeError or ValueError where they are of a wrong kind.
    """
    own = values.get("levels")
    if isinstance(own, dict):
        codebook = Codebook(name=str(own["name"]), levels=tuple(float(level) for level in own["levels"]))
        return QuantSpec(**{**values, "levels": codebook})
    return QuantSpec(**values)


def _check_format(metadata: Mapping[str, str], path: Path) -> None:
    found = metadata.get("format")
    if found != FORMAT:
        raise ModelError(f"{path} has format {found!r}, not {FORMAT!r}; give a file that save_weights wrote")
    version = metadata.get("version", "")
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ModelError(f"{path} has checkpoint version {version!r}, this is {VERSION}; update lords_bench")


def _descriptions(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        described = json.loads(metadata.get("weights", ""))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} has a malformed list of weights ({one_line(error)}); fetch it again") from error
    if not isinstance(described, dict):
        raise ModelError(f"{path} lists its weights as {type(described).__name__}, not by name; fetch it again")
    return described


def _decode(description: Any, where: str) -> tuple[QuantSpec, tuple[int, int]]:
    """Spec and shape of one weight."""
    if not isinstance(description, dict) or not isinstance(description.get("spec"), dict):
        raise ModelError(f"{where} has no spec; fetch the file again")
    values = dict(description["spec"])
    unknown = sorted(values.keys() - {field.name for field in fields(QuantSpec)})
    if unknown:
        raise ModelError(f"{where} has a spec with unknown {', '.join(unknown)}; update lords_bench")
    try:
        spec = spec_from_dict(values)
        n, k = (int(size) for size in description["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{where} is described wrongly ({one_line(error)}); fetch the file again") from error
    if n < 1 or k < 1:
        raise ModelError(f"{where} has shape {(n, k)}; fetch the file again")
    return spec, (n, k)


def expected_tensors(spec: QuantSpec, shape: tuple[int, int], where: str) -> Mapping[str, DtypeAndShape]:
    """Dtype and shape of every tensor that a weight of this spec and shape stores.

    Raises:
        ModelError: no weight of that shape has this spec; `where` is what the message calls it.
    """
    n, k = shape
    bits, scale_dtype = spec.bits_per_code, STORAGE_DTYPES[spec.scale_dtype]
    expected: dict[str, DtypeAndShape] = {"packed": (torch.int16, packed_shape(n, k, bits))}
    if needs_stored_levels(spec):
        count = 1 << bits if spec.codebook is None else len(spec.codebook.levels)
        expected["levels_L"] = (torch.float32, (count,))
    if spec.is_low_rank:
        try:
            rank = spec.rank_for(n, k)
        except LordsBenchError as error:
            raise ModelError(f"{where} is described wrongly ({error}); fetch the file again") from error
        return expected | {"b_NR": (scale_dtype, (n, rank)), "a_RK": (scale_dtype, (rank, k))}
    if k % spec.block:
        raise ModelError(f"{where} has block {spec.block} and {k} in features; fetch the file again")
    blocks = k // spec.block
    if spec.double_quant:
        return expected | {
            "scale_codes_NG": (torch.uint8, (n, blocks)),
            "run_absmax": (torch.float32, (-(-n * blocks // RUN),)),
            "mean": (torch.float32, (1,)),
        }
    expected["scale_NG"] = (scale_dtype, (n, blocks))
    if spec.scales == "affine":
        expected["packed_zeros"] = (torch.uint8, (-(-n * blocks * bits // 8),))
    return expected


def _checked(
    parts: Mapping[str, Tensor | None], expected: Mapping[str, DtypeAndShape], where: str
) -> dict[str, Tensor]:
    """The tensors themselves, once they are what was expected and finite."""
    checked: dict[str, Tensor] = {}
    for part, (dtype, shape) in expected.items():
        tensor = parts.get(part)
        if tensor is None:
            raise ModelError(f"{where} lacks tensor {part!r}; fetch the file again")
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ModelError(f"{where} has {part!r} as {found}, not {dtype} {shape}; fetch the file again")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where} has non-finite numbers in {part!r}; quantize it again")
        checked[part] = tensor
    return checked


def _check_codes(weight: QuantizedWeight, where: str) -> None:
    """Refuses codes beyond the levels; only a codebook that does not use all its bits leaves room for them."""
    codebook, bits = weight.spec.codebook, weight.spec.bits_per_code
    if codebook is None or len(codebook.levels) == 1 << bits:
        return
    largest = int(weight.codes().max())
    if largest >= len(codebook.levels):
        raise ModelError(f"{where} has code {largest}, codebook {codebook.name!r} ends earlier; fetch the file again")
