"""`LordsConfig`: the `quantization_config` of a quantized model's config.json.

It says how every linear layer but the output head is quantized, which layers are not, and where a layer differs.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from re import error as PatternError  # noqa: N812  (its name since Python 3.13)
from re import fullmatch
from typing import Any, Self

from transformers.utils.quantization_config import QuantizationConfigMixin

from lords_bench.errors import SpecError, one_line
from lords_bench.reference.checkpoint import spec_from_dict
from lords_bench.reference.weights import QuantizedWeight
from lords_bench.spec.quant import QuantSpec

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
            SpecError: an option that does not exist, or one of `QuantSpec` that it refuses.
        """
        unknown = sorted(spec.keys() - set(_SPEC_FIELDS))
        if unknown:
            raise SpecError(f"quantization_config has unknown {', '.join(unknown)}; known: {', '.join(_SPEC_FIELDS)}")
        if quant_method != METHOD:
            raise SpecError(f"quant_method is {quant_method!r}, not {METHOD!r}; use the class of that method")
        if str(format_version).partition(".")[0] != VERSION.partition(".")[0]:
            raise SpecError(f"quantization_config has version {format_version!r}, not {VERSION}; update lords_bench")
        self.quant_method: Any = quant_method
        self.format_version = format_version
        self.modules_to_not_convert = list(modules_to_not_convert or ())
        own = _spec("quantization_config", spec)
        for name, value in _plain(own).items():
            setattr(self, name, value)
        self.layer_specs = {name: dict(changes) for name, changes in (layer_specs or {}).items()}
        for name in self.layer_specs:
            self.spec_of(name)

    @classmethod
    def describing(cls, weights: Mapping[str, QuantizedWeight], unquantized: Sequence[str]) -> Self:
        """The configuration of these weights by layer name, and of the layers left as they are."""
        common = Counter(weight.spec for weight in weights.values()).most_common(1)[0][0]
        plain = _plain(common)
        layer_specs = {
            name: {field: value for field, value in _plain(weight.spec).items() if value != plain[field]}
            for name, weight in weights.items()
            if weight.spec != common
        }
        return cls(modules_to_not_convert=unquantized, layer_specs=layer_specs, **plain)

    @property
    def spec(self) -> QuantSpec:
        """Of every layer that is not in `layer_specs`."""
        return _spec("quantization_config", {name: getattr(self, name) for name in _SPEC_FIELDS})

    def spec_of(self, layer: str) -> QuantSpec:
        """How a layer is quantized.

        Raises:
            SpecError: values that no spec has.
        """
        changes = self.layer_specs.get(layer)
        return self.spec if changes is None else _spec(f"layer {layer!r}", _plain(self.spec) | changes)

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
        raise SpecError(f"modules_to_not_convert has {pattern!r}, no name and no pattern: {one_line(error)}") from error


def _plain(spec: QuantSpec) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return plain


def _spec(where: str, values: Mapping[str, Any]) -> QuantSpec:
    try:
        return spec_from_dict(values)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{where} is malformed ({one_line(error)}); see QuantSpec") from error
