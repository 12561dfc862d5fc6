"""`LordsConfig`: the `quantization_config` of a quantized model's config.json.

It says how every linear layer but the output head is quantized, which layers are not, and where a layer differs.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from re import error as PatternError  # noqa: N812  (its name since Python 3.13)
from re import fullmatch
from typing import Any, Self

from transformers.utils.quantization_config import QuantizationConfigMixin

from lords_bench.errors import ModelError, SpecError, reason_of
from lords_bench.quant import QuantSpec
from lords_bench.reference.checkpoint import spec_from_dict, spec_to_dict, stored_spec
from lords_bench.reference.weights import QuantizedWeight

METHOD = "lords"
VERSION = "1.0"
_SPEC_FIELDS = tuple(field.name for field in fields(QuantSpec))


class LordsConfig(QuantizationConfigMixin):
    """What `AutoModelForCausalLM.from_pretrained(..., quantization_config=...)` takes, and what config.json holds.

    Its attributes are JSON: the fields of `QuantSpec` and the arguments below.
    """

    def __init__(
        self,
        *,
        modules_to_not_convert: Sequence[str] | None = None,
        layer_specs: Mapping[str, Mapping[str, Any]] | None = None,
        format_version: str = VERSION,
        quant_method: str = METHOD,
        **spec: Any,
    ) -> None:
        """A request, or the description of what is stored.

        Args:
            modules_to_not_convert: layers that stay as they are, each by its whole name, by the first or last parts of
                it (`model.layers.0`, `down_proj`), or by a regular expression of the whole name.
            layer_specs: fields of `QuantSpec` that differ, by the layer's whole name.
            format_version: of what is stored.
            quant_method: `lords`; transformers passes it back.
            spec: the fields of `QuantSpec`.

        Raises:
            SpecError: an option that does not exist, one of a wrong type, or one of `QuantSpec` that it refuses.
        """
        unknown = sorted(spec.keys() - set(_SPEC_FIELDS))
        if unknown:
            raise SpecError(f"quantization_config has unknown {', '.join(unknown)}; known: {', '.join(_SPEC_FIELDS)}")
        if quant_method != METHOD:
            raise SpecError(f"quant_method is {quant_method!r}, not {METHOD!r}; use the class of that method")
        # Out of somebody's JSON anything comes here.
        found: object = format_version
        if not isinstance(found, str) or found.partition(".")[0] != VERSION.partition(".")[0]:
            raise SpecError(f"quantization_config has version {found!r}, not {VERSION}; update lords_bench")
        self.quant_method: Any = quant_method
        self.format_version = format_version
        self.modules_to_not_convert = _names(modules_to_not_convert)
        own = _spec("quantization_config", spec)
        for name, value in _plain(own).items():
            setattr(self, name, value)
        self.layer_specs = _changes_by_layer(layer_specs)
        for name in self.layer_specs:
            self.spec_of(name)

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:  # noqa: FBT002  (of transformers)
        """The description that a config.json holds.

        Raises:
            SpecError: as for a request, or a field that decides how tensors are read is missing.
        """
        _read_spec("quantization_config", stored_spec, {k: v for k, v in config_dict.items() if k in _SPEC_FIELDS})
        return super().from_dict(  # type: ignore[no-untyped-call]
            dict(config_dict), return_unused_kwargs=return_unused_kwargs, **kwargs
        )

    @classmethod
    def describing(cls, weights: Mapping[str, QuantizedWeight], unquantized: Sequence[str]) -> Self:
        """The configuration of these weights by layer name, and of the layers left as they are."""
        common = Counter(weight.spec for weight in weights.values()).most_common(1)[0][0]
        every = _json(asdict(common))
        layer_specs = {
            name: {field: value for field, value in _json(asdict(weight.spec)).items() if value != every[field]}
            for name, weight in weights.items()
            if weight.spec != common
        }
        return cls(modules_to_not_convert=unquantized, layer_specs=layer_specs, **_plain(common))

    @property
    def spec(self) -> QuantSpec:
        """Of every layer that is not in `layer_specs`."""
        values = {name: getattr(self, name) for name in _SPEC_FIELDS if hasattr(self, name)}
        return _spec("quantization_config", values)

    def spec_of(self, layer: str) -> QuantSpec:
        """How a layer is quantized.

        Raises:
            SpecError: values that no spec has.
        """
        changes = self.layer_specs.get(layer)
        return self.spec if changes is None else _spec(f"layer {layer!r}", _plain(self.spec) | changes)

    def specs_of(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[QuantSpec, tuple[int, int]]]:
        """Spec and shape of every layer that is quantized, of a model with layers of these shapes (N, K).

        Raises:
            ModelError: `layer_specs` names another layer.
            SpecError: values that no spec has.
        """
        chosen = {name: (self.spec_of(name), shape) for name, shape in shapes.items() if self.converts(name)}
        absent = sorted(self.layer_specs.keys() - chosen.keys())
        if absent:
            raise ModelError(f"quantization_config names layer {absent[0]!r}, which the model does not quantize")
        return chosen

    def converts(self, layer: str) -> bool:
        """Whether a layer is quantized, as far as `modules_to_not_convert` says.

        Raises:
            SpecError: an entry that is neither a name nor a regular expression.
        """
        return not any(_matches(pattern, layer) for pattern in self.modules_to_not_convert)


def _matches(pattern: str, layer: str) -> bool:
    if layer == pattern or layer.startswith(f"{pattern}.") or layer.endswith(f".{pattern}"):
        return True
    try:
        return fullmatch(pattern, layer) is not None
    except PatternError as error:
        raise SpecError(
            f"modules_to_not_convert has {pattern!r}, no name and no pattern: {reason_of(error)}"
        ) from error


def _plain(spec: QuantSpec) -> dict[str, Any]:
    return _json(spec_to_dict(spec))


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _spec(where: str, values: Mapping[str, Any]) -> QuantSpec:
    return _read_spec(where, spec_from_dict, values)


def _read_spec(where: str, read: Callable[[Mapping[str, Any]], QuantSpec], values: Mapping[str, Any]) -> QuantSpec:
    try:
        return read(values)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error


def _names(found: object) -> list[str]:
    """`modules_to_not_convert`, if it is a list of names."""
    if found is None:
        return []
    if isinstance(found, str) or not isinstance(found, Sequence) or not all(isinstance(name, str) for name in found):
        raise SpecError(f"modules_to_not_convert is {found!r:.60}, no list of names; give names of layers")
    return list(found)


def _changes_by_layer(found: object) -> dict[str, dict[str, Any]]:
    """`layer_specs`, if it is fields by layer."""
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not all(isinstance(changes, Mapping) for changes in found.values()):
        raise SpecError(
            f"layer_specs is {found!r:.60}, not fields of QuantSpec by layer; give {{name: {{field: value}}}}"
        )
    return {str(name): dict(changes) for name, changes in found.items()}
