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

from lords_bench.errors import LordsBenchError, ModelError, SpecError, reason_of
from lords_bench.json_object import object_of
from lords_bench.quant import Codebook, QuantSpec
from lords_bench.reference.double_quant import RUN
from lords_bench.reference.packing import packed_shape, stored_layout
from lords_bench.reference.tensor_files import (
    DtypeAndShape,
    StoredLayout,
    is_there,
    read_header,
    read_tensors,
    write_tensors,
)
from lords_bench.reference.weights import (
    STORAGE_DTYPES,
    AffineWeight,
    BlockwiseWeight,
    LordsWeight,
    QuantizedWeight,
    needs_stored_levels,
    weight_from_tensors,
)

FORMAT = "lords-bench/checkpoint"
VERSION = "1.0"
# What a reader makes numbers of; a description that leaves one out would be read with a method's default.
STATED_FIELDS = ("bits", "block", "scales", "levels", "scale_dtype", "double_quant")


def save_weights(weights: Mapping[str, QuantizedWeight], path: Path | str) -> None:
    """Write quantized weights by name; `load_weights` returns them bit for bit.

    Raises:
        StoreError: the file cannot be written; what was there before is untouched.
        ModelError: a weight is none, or has tensors beyond those of its spec, such as an additive adapter.
    """
    tensors = {
        f"{name}.{part}": tensor for name, weight in weights.items() for part, tensor in tensors_to_store(name, weight)
    }
    described = {name: {"shape": weight.shape, "spec": spec_to_dict(weight.spec)} for name, weight in weights.items()}
    metadata = {"format": FORMAT, "version": VERSION, "weights": json.dumps(described, sort_keys=True)}
    write_tensors(tensors, Path(path), metadata)


def load_weights(path: Path | str, *, device: torch.device | str = "cpu") -> dict[str, QuantizedWeight]:
    """Read what `save_weights` wrote.

    Raises:
        ModelError: the file is missing, truncated, not of this format, of an unknown version, or its tensors are not
            those its specs imply, or hold non-finite numbers.
    """
    path = Path(path)
    if not is_there(path):
        raise ModelError(f"no checkpoint at {path}; give the file that save_weights wrote")
    header, metadata = read_header(path)
    _check_format(metadata, path)
    described = {
        name: _decode(description, f"weight {name!r} of {path}")
        for name, description in _descriptions(metadata, path).items()
    }
    foreign = set(header)
    for name, (spec, shape) in described.items():
        where = f"weight {name!r} of {path}"
        expected = expected_tensors(spec, shape, where, codes=header.get(f"{name}.packed"))
        require_layout(expected, {part: header.get(f"{name}.{part}") for part in expected}, where)
        foreign -= {f"{name}.{part}" for part in expected}
    if foreign:
        raise ModelError(f"{path} holds {len(foreign)} tensors of no weight, such as {min(foreign)!r}; fetch it again")
    tensors, _metadata = read_tensors(path)
    loaded: dict[str, QuantizedWeight] = {}
    for name, (spec, shape) in described.items():
        where = f"weight {name!r} of {path}"
        parts = {part: tensors[f"{name}.{part}"] for part in expected_tensors(spec, shape, where)}
        loaded[name] = checked_weight(spec, shape, parts, where).to(device)
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
        ModelError: a tensor is missing, of another dtype or shape, not finite, holds codes beyond the levels, or levels
            that are not the spec's.
    """
    found = parts.get("packed")
    codes = None if found is None else (found.dtype, tuple(found.shape))
    expected = expected_tensors(spec, shape, where, codes=codes)
    weight = weight_from_tensors(spec, shape, _checked(parts, expected, where))
    _check_codes(weight, where)
    _check_scales(weight, where)
    _check_levels(weight, parts.get("levels_L"), where)
    return weight


def spec_to_dict(spec: QuantSpec) -> dict[str, Any]:
    """The fields of a spec by name; one that came later is left out as long as it has its default.

    So what an earlier version could write is still written alike, and read by it.
    """
    late = {field.name: field.default for field in fields(spec) if "since" in field.metadata}
    return {name: value for name, value in asdict(spec).items() if name not in late or value != late[name]}


def spec_from_dict(values: Mapping[str, Any]) -> QuantSpec:
    """The inverse of `spec_to_dict`, also after a way through JSON.

    Raises:
        SpecError: a field that no spec has, or a value of a wrong kind.
    """
    known = {field.name for field in fields(QuantSpec)}
    unknown = sorted(map(repr, values.keys() - known))
    if unknown:
        raise SpecError(f"unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}; update lords_bench")
    own = values.get("levels")
    return QuantSpec(**{**values, "levels": _codebook(own)}) if isinstance(own, dict) else QuantSpec(**values)


def stored_spec(values: Mapping[str, Any]) -> QuantSpec:
    """`spec_from_dict` for what describes stored tensors.

    Raises:
        SpecError: as there, or a field that decides how they are read is missing.
    """
    unstated = [name for name in STATED_FIELDS if values.get(name) is None]
    if unstated:
        raise SpecError(f"{unstated[0]} is not stated; a description of stored weights has {', '.join(STATED_FIELDS)}")
    return spec_from_dict(values)


def _codebook(own: Mapping[str, Any]) -> Codebook:
    name, levels = own.get("name"), own.get("levels")
    # Digits of a string would pass for levels, and no float holds each of JSON's integers.
    is_list = isinstance(levels, list | tuple) and all(type(level) in {int, float} for level in levels)
    if own.keys() != {"name", "levels"} or not isinstance(name, str) or not is_list:
        raise SpecError(f"levels={own!r:.80} is a malformed codebook; give its name and a list of numbers")
    assert levels is not None
    if not all(-1 <= level <= 1 for level in levels):
        raise SpecError(f"codebook {name!r} has a level outside [-1, 1]: {levels!r:.80}; scale them first")
    return Codebook(name=name, levels=tuple(map(float, levels)))


def _check_format(metadata: Mapping[str, str], path: Path) -> None:
    found = metadata.get("format")
    if found != FORMAT:
        raise ModelError(f"{path} has format {found!r}, not {FORMAT!r}; give a file that save_weights wrote")
    version = metadata.get("version", "")
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ModelError(f"{path} has checkpoint version {version!r}, this is {VERSION}; update lords_bench")


def _descriptions(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        return object_of(metadata.get("weights", ""))
    except ValueError as error:
        raise ModelError(f"{path} has a malformed list of weights ({reason_of(error)}); fetch it again") from error


def _decode(description: Any, where: str) -> tuple[QuantSpec, tuple[int, int]]:
    """Spec and shape of one weight."""
    if not isinstance(description, dict) or not isinstance(description.get("spec"), dict):
        raise ModelError(f"{where} has no spec; fetch the file again")
    try:
        spec = stored_spec(description["spec"])
    except SpecError as error:
        raise ModelError(f"{where} is described wrongly ({error}); fetch the file again") from error
    shape = description.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        raise ModelError(f"{where} is described wrongly (shape {shape!r:.60}); fetch the file again")
    return spec, (shape[0], shape[1])


def expected_tensors(
    spec: QuantSpec, shape: tuple[int, int], where: str, *, codes: StoredLayout | None = None
) -> Mapping[str, DtypeAndShape]:
    """Dtype and shape of every tensor that a weight of this spec and shape stores.

    Args:
        spec: of the weight.
        shape: (N, K).
        where: what an error calls the weight.
        codes: what the codes are stored as, if it is known: an earlier version stored the padding of a partial last
            block as well, which is read as it is.

    Raises:
        ModelError: no weight of that shape has this spec; `where` is what the message calls it.
    """
    n, k = shape
    bits, scale_dtype = spec.bits_per_code, STORAGE_DTYPES[spec.scale_dtype]
    padded = torch.int16, packed_shape(n, k, bits)
    expected: dict[str, DtypeAndShape] = {"packed": padded if codes == padded else stored_layout(n, k, bits)}
    if needs_stored_levels(spec):
        count = 1 << bits if spec.codebook is None else len(spec.codebook.levels)
        expected["levels_L"] = (torch.float32, (count,))
    if spec.is_low_rank:
        try:
            rank = spec.rank_for(n, k)
        except LordsBenchError as error:
            raise ModelError(f"{where} is described wrongly ({error}); fetch the file again") from error
        if spec.scale_bits is None:
            return expected | {"b_NR": (scale_dtype, (n, rank)), "a_RK": (scale_dtype, (rank, k))}
        return expected | {
            "b_codes_NR": (torch.int8, (n, rank)),
            "a_codes_RK": (torch.int8, (rank, k)),
            "rank_scale_R": (scale_dtype, (rank,)),
        }
    blocks = -(-k // spec.block)
    if spec.double_quant:
        return expected | {
            "scale_codes_NG": (torch.uint8, (n, blocks)),
            "run_absmax": (torch.float32, (-(-n * blocks // RUN),)),
            "mean": (torch.float32, (1,)),
        }
    if spec.scale_bits is None:
        expected["scale_NG"] = (scale_dtype, (n, blocks))
    else:
        expected |= {"scale_codes_NG": (torch.uint8, (n, blocks)), "scale_range": (scale_dtype, (2,))}
    if spec.scales == "affine":
        expected["packed_zeros"] = (torch.uint8, (-(-n * blocks * bits // 8),))
    return expected


def require_layout(expected: Mapping[str, DtypeAndShape], found: Mapping[str, StoredLayout | None], where: str) -> None:
    """Does nothing where every tensor of a weight has its dtype and shape, in a header or in memory.

    Args:
        expected: by the names of `expected_tensors`.
        found: by the same names; None where a tensor is missing.
        where: what an error calls the weight.

    Raises:
        ModelError: a tensor is missing, or of another dtype or shape.
    """
    for part, (dtype, shape) in expected.items():
        layout = found.get(part)
        if layout is None:
            raise ModelError(f"{where} lacks tensor {part!r}; fetch the file again")
        if layout != (dtype, shape):
            raise ModelError(
                f"{where} has {part!r} as {layout[0]} {layout[1]}, not {dtype} {shape}; fetch the file again"
            )


def _checked(
    parts: Mapping[str, Tensor | None], expected: Mapping[str, DtypeAndShape], where: str
) -> dict[str, Tensor]:
    """The tensors themselves, once they are what was expected and finite."""
    present = {part: tensor for part, tensor in parts.items() if tensor is not None}
    require_layout(expected, {part: (tensor.dtype, tuple(tensor.shape)) for part, tensor in present.items()}, where)
    checked = {part: present[part] for part in expected}
    for part, tensor in checked.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where} has non-finite numbers in {part!r}; quantize it again")
    return checked


def _check_codes(weight: QuantizedWeight, where: str) -> None:
    """Refuses codes beyond the levels; only a codebook that does not use all its bits leaves room for them."""
    codebook, bits = weight.spec.codebook, weight.spec.bits_per_code
    if codebook is None or len(codebook.levels) == 1 << bits:
        return
    largest = int(weight.codes().max())
    if largest >= len(codebook.levels):
        raise ModelError(f"{where} has code {largest}, codebook {codebook.name!r} ends earlier; fetch the file again")


def _check_scales(weight: QuantizedWeight, where: str) -> None:
    """Refuses constants of 8-bit scales that expand to no numbers."""
    if weight.spec.scale_bits is None:
        return
    expanded: tuple[Tensor, ...] = ()
    if isinstance(weight, LordsWeight):
        expanded = (weight.b_NR, weight.a_RK)
    elif isinstance(weight, BlockwiseWeight | AffineWeight):
        expanded = (weight.scales(),)
    if not all(bool(torch.isfinite(numbers).all()) for numbers in expanded):
        raise ModelError(f"{where} has constants of 8-bit scales that give no numbers; quantize it again")


def _check_levels(weight: QuantizedWeight, levels_L: Tensor | None, where: str) -> None:
    """Refuses stored levels that contradict the codebook of the spec: only learned ones stand in the file alone."""
    codebook = weight.spec.codebook
    if codebook is None or levels_L is None:
        return
    stated_L = torch.tensor(codebook.levels, dtype=levels_L.dtype, device=levels_L.device)
    if not torch.equal(levels_L, stated_L):
        raise ModelError(f"{where} stores other levels than its codebook {codebook.name!r} has; fetch the file again")
