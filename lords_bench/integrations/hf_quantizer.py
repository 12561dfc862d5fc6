"""The plug-in for transformers: once this module is imported, `from_pretrained` quantizes and loads what is quantized.

    import lords_bench.integrations.hf_quantizer  # before any from_pretrained of a quantized folder
    model = AutoModelForCausalLM.from_pretrained(source, quantization_config=LordsConfig(bits=4, block=64))
    model.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)

`from_pretrained` below is the last line with every complaint as a one-line ModelError. Without this import transformers
refuses such a folder for its shapes (`stored_linear`).
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer

from lords_bench.errors import LordsBenchError, ModelError, SpecError
from lords_bench.integrations.hf_config import METHOD, LordsConfig
from lords_bench.integrations.hf_model import is_quantized_folder, quantizable_layers, quiet_transformers
from lords_bench.integrations.stored_files import (
    check_folder,
    meta_model,
    refusing,
    require_all_read,
    require_dense_stored,
    require_inside,
    require_stored,
    stored_headers,
)
from lords_bench.integrations.stored_linear import (
    STORED_CODES,
    StoredLinear,
    stored_layouts,
    stored_name,
    weight_in_state,
)
from lords_bench.quant import QuantSpec
from lords_bench.reference.checkpoint import tensors_to_store
from lords_bench.reference.methods import quantize
from lords_bench.reference.tensor_files import StoredLayout

# Options that name other files than those of a folder, or code that is not transformers'.
_OTHER_FILES = frozenset({"config", "gguf_file", "state_dict", "subfolder", "trust_remote_code", "variant"})


class QuantizeOnLoad(ConversionOps):
    """A dense weight of a checkpoint to the stored tensors of its layer."""

    def __init__(self, failures: list[LordsBenchError]) -> None:
        self._failures = failures

    @torch.no_grad()
    def convert(  # type: ignore[override]
        self, input_dict: dict[str, Any], *, model: Any, full_layer_name: str, **_: Any
    ) -> dict[str, Tensor]:
        """The tensors that replace the one weight in `input_dict`; none where it cannot be quantized so."""
        (value,) = input_dict.values()
        weight_NK = value[0] if isinstance(value, list) else value
        name = full_layer_name.removesuffix(f".{STORED_CODES}")
        layer = model.get_submodule(name)
        try:
            stored = tensors_to_store(name, quantize(weight_NK, layer.spec))
        except LordsBenchError as error:
            # Raised once the rest is loaded: transformers would turn it into a report of its own.
            self._failures.append(type(error)(f"layer {name}: {error}"))
            return {}
        layer.expect_codes()
        return {f"{name}.{stored_name(part)}": tensor for part, tensor in stored}


class LordsHfQuantizer(HfQuantizer):
    """What transformers asks while it loads, saves or dequantizes a model."""

    requires_calibration = False
    quantization_config: LordsConfig

    def __init__(self, quantization_config: LordsConfig, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        self._failures: list[LordsBenchError] = []

    def validate_environment(self, *_: Any, **__: Any) -> None:
        """Refuses to quantize on loading what needs calibration inputs.

        Raises:
            SpecError: it does.
        """
        config = self.quantization_config
        specs = [config.spec, *(config.spec_of(name) for name in config.layer_specs)]
        needy = [spec.method for spec in specs if spec.needs_hessian]
        if needy and not self.pre_quantized:
            raise SpecError(
                f"method {needy[0]!r} needs calibration inputs, so it cannot quantize on loading; "
                f"run lords-bench quantize --method {needy[0]} and load its folder"
            )

    def update_attn_implementation(self, config: Any) -> Any:
        """Looks at the files of a folder, for transformers asks this before it reads the index or builds the model.

        Releases in which it was not asked build the model first.

        Raises:
            ModelError: see `check_folder`; or no model can be built of the config, or one of too many modules.
        """
        folder = Path(config.name_or_path)
        if folder.is_dir():
            with refusing(folder):
                stored = check_folder(folder)
                if stored is not None and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
                    meta_model(config, stored)
        return config

    def _process_model_before_weight_loading(
        self, model: Any, *, checkpoint_files: Sequence[str] | None = None, **_: Any
    ) -> None:
        config = self.quantization_config
        linear_layers, others = quantizable_layers(model)
        modules = {layer.name: layer.module for layer in linear_layers}
        layers = config.specs_of({layer.name: layer.shape for layer in linear_layers})
        stored = self._check_files(model, checkpoint_files or (), layers)
        if not layers:
            raise ModelError(f"a {type(model).__name__} has no nn.Linear to quantize; load it unquantized")
        head = model.get_output_embeddings()
        left = [f"{other.name} ({other.kind})" for other in others if model.get_submodule(other.name) is not head]
        if left and not self.pre_quantized:
            warnings.warn(
                f"only nn.Linear is quantized; {len(left)} other modules with weights stay as they are: "
                f"{', '.join(left[:3])}{', …' if len(left) > 3 else ''}",
                stacklevel=2,
            )
        for name, (spec, shape) in layers.items():
            linear = modules[name]
            codes = stored.get(f"{name}.{STORED_CODES}") if self.pre_quantized else None
            layer = StoredLinear(spec, shape, linear.bias, where=f"layer {name}", codes=codes)
            if not self.pre_quantized:
                layer.expect_dense(linear.weight.dtype)
            model.set_submodule(name, layer)

    def _check_files(
        self, model: Any, files: Sequence[str], layers: Mapping[str, tuple[QuantSpec, tuple[int, int]]]
    ) -> Mapping[str, StoredLayout]:
        """Holds the model, on the meta device, against the headers of its files: transformers converts what it reads.

        Returns:
            What each tensor is stored as; nothing without headers.

        Raises:
            ModelError: they do not fit, lie outside the model's folder, or are of a kind without headers.
        """
        if not files or not all(file.endswith(".safetensors") for file in files):
            if self.pre_quantized:
                raise ModelError(f"{model.name_or_path!r} has no safetensors; load a folder that save_pretrained wrote")
            return {}
        folder = Path(model.name_or_path)
        if folder.is_dir():
            require_inside(files, folder)
        stored = stored_headers([Path(file) for file in files])
        quantized = layers if self.pre_quantized else {}
        require_stored(model, stored, stored_layouts(quantized, stored.tensors))
        return stored.tensors

    def param_needs_quantization(self, model: Any, param_name: str, **_: Any) -> bool:
        """Whether the tensor is the dense weight of a layer to quantize."""
        name, _dot, part = param_name.rpartition(".")
        layer = model.get_submodule(name)
        return isinstance(layer, StoredLinear) and part == STORED_CODES and isinstance(layer.weight, nn.Parameter)

    def get_quantize_ops(self) -> QuantizeOnLoad:
        return QuantizeOnLoad(self._failures)

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        if self._failures:
            raise self._failures[0]
        for name, layer in model.named_modules():
            # What accelerate offloads is not here to be checked.
            if isinstance(layer, StoredLinear) and not hasattr(layer, "_hf_hook"):
                _require_loaded(name, layer)
        if self.pre_quantized:
            require_all_read(model, model._keys_to_ignore_on_load_missing or ())  # noqa: SLF001  (of transformers)
        model.requires_grad_(requires_grad=False)
        return model

    def is_serializable(self) -> bool:
        """Yes: the stored tensors are the layers' state."""
        return True

    @property
    def is_trainable(self) -> bool:
        """No: `lords_bench.prepare_qat` and `prepare_peft` train, from the unquantized model."""
        return False

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> Any:
        for name, layer in list(model.named_modules()):
            if not isinstance(layer, StoredLinear):
                continue
            weight_NK = layer.export().dequantize(dtype or torch.float32)
            linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            linear.weight = nn.Parameter(weight_NK, requires_grad=False)
            linear.register_parameter("bias", layer.bias)
            model.set_submodule(name, linear)
        return model


def register() -> None:
    """Make transformers know the method; again is nothing."""
    if METHOD not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        register_quantization_config(METHOD)(LordsConfig)
    if METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantizer(METHOD)(LordsHfQuantizer)


def from_pretrained(source: str | Path, **options: Any) -> PreTrainedModel:
    """`AutoModelForCausalLM.from_pretrained` for quantized and other models, that refuses what does not fit.

    Args:
        source: a folder or a hub name.
        options: passed on, such as `dtype`, `device_map`, or `quantization_config=LordsConfig(bits=4)` to quantize.

    Raises:
        ModelError: missing or left-over tensors, tensors of a wrong shape or dtype, truncated files; one line.
        SpecError, WeightError: it cannot be quantized as asked.
    """
    register()
    with quiet_transformers(), refusing(source):
        folder = Path(source)
        if folder.is_dir() and not _OTHER_FILES & options.keys():
            if is_quantized_folder(folder) or "quantization_config" in options:
                check_folder(folder)
            else:
                require_dense_stored(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, **options, output_loading_info=True)
    model, found = loaded
    for kind, complaint in (("missing_keys", "is missing"), ("unexpected_keys", "is of no layer")):
        if found[kind]:
            raise ModelError(f"{str(source)!r}: tensor {min(found[kind])} {complaint}; fetch it or quantize it again")
    result: PreTrainedModel = model
    return result


def _require_loaded(name: str, layer: StoredLinear) -> None:
    """Refuses a layer of which the checkpoint held nothing, or something else.

    Raises:
        ModelError: it does.
    """
    if isinstance(layer.weight, nn.Parameter):
        raise ModelError(f"the checkpoint lacks {name}.{STORED_CODES}; give a whole one")
    # The loader marks what it loaded, and fills up the rest with whatever was in memory.
    loaded = {
        f"{name}.{key}": tensor
        for key, tensor in layer.stored_tensors().items()
        if getattr(tensor, "_is_hf_initialized", False)
    }
    weight_in_state(layer.spec, layer.shape, loaded, name, f"layer {name}")


register()
