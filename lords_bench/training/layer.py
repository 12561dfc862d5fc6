"""`QuantizedLinear`: what every trained quantized layer offers, in place of an `nn.Linear`."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, Self

import torch
from torch import Tensor, nn

from lords_bench.errors import UsageError
from lords_bench.quant import QuantSpec
from lords_bench.reference.weights import QuantizedWeight

Mode = Literal["inference", "qat", "peft"]


class QuantizedLinear(nn.Module, ABC):
    """A linear layer whose weight is quantized; x (…, K) -> (…, N), as `nn.Linear`.

    Attributes:
        in_features: K.
        out_features: N.
        spec: how the weight is quantized.
        mode: `inference`, `qat` or `peft`.
        bias: N floats or None.
    """

    # Names of the small tensors that keep their dtype when the module is converted to another.
    kept_dtypes: tuple[str, ...] = ()
    # Names of the parameters that an adapter consists of.
    adapter_names: tuple[str, str]
    bias: nn.Parameter | None

    def __init__(self, *, in_features: int, out_features: int, spec: QuantSpec, mode: Mode) -> None:
        super().__init__()
        self.in_features, self.out_features, self.spec, self.mode = in_features, out_features, spec, mode

    def _register(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    @abstractmethod
    def export(self) -> QuantizedWeight:
        """The weight as it would be stored now, on the layer's device."""

    @abstractmethod
    def quantization_parameters(self) -> dict[str, nn.Parameter]:
        """The trained tensors that are neither the dense weight nor the bias, by their names in this module."""

    def extra_repr(self) -> str:
        """Shape, bits and mode."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"method={self.spec.method}, bits={self.spec.bits_per_code}, mode={self.mode}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT002  (of nn.Module)
        """Devices follow `fn`, and so do dtypes, but for the tensors in `kept_dtypes`, whose digits matter."""
        kept = [getattr(self, name) for name in self.kept_dtypes if getattr(self, name, None) is not None]
        kept_ids = {id(tensor) for tensor in kept} | {id(tensor.grad) for tensor in kept if tensor.grad is not None}

        def convert(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            if id(tensor) not in kept_ids or converted.dtype == tensor.dtype:
                return converted
            return tensor.to(converted.device)

        applied: Self = super()._apply(convert, recurse)  # type: ignore[no-untyped-call]
        return applied


def tensors_sha256(tensors: Mapping[str, Tensor], *about: object) -> str:
    """Hash over facts and over the names, dtypes, shapes and bytes of tensors, in order of name."""
    digest = hashlib.sha256(repr(about).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def trained(tensor: Tensor) -> nn.Parameter:
    """A float32 master copy to train; float64 stays."""
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return nn.Parameter(tensor.detach().to(dtype).clone())


def require_linear(linear: nn.Module) -> nn.Linear:
    """The module, if it is an `nn.Linear` and not a class derived from it.

    Raises:
        UsageError: it is anything else.
    """
    if type(linear) is not nn.Linear:
        raise UsageError(f"cannot quantize a {type(linear).__name__}; give an nn.Linear")
    return linear
