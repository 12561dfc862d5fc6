"""Layers on frozen codes of any format: `FrozenLinear`, and `LoraLinear`, which adds a trained adapter.

    FrozenLinear   y = x @ Qᵀ + bias
    LoraLinear     y = x @ Qᵀ + bias + s · (x @ downᵀ) @ upᵀ

Q is dequantized in the forward and again in the backward, so that no dense weight is kept between them. The adapter's
products run in its own dtype, or in autocast's where that is on.
"""

import json
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lords_bench.quant import QuantSpec
from lords_bench.reference.adapters import AdaptedWeight
from lords_bench.reference.checkpoint import spec_from_dict, spec_to_dict
from lords_bench.reference.packing import packed_codes
from lords_bench.reference.weights import STORAGE_DTYPES, QuantizedWeight, weight_from_tensors
from lords_bench.training.layer import Mode, QuantizedLinear, tensors_sha256, trained

_LIBRARY = torch.library.Library("lords_bench", "FRAGMENT")
_WEIGHT = "Tensor[] parts, str names, str spec, int n, int k"
_LIBRARY.define(f"frozen_matmul(Tensor x, {_WEIGHT}) -> Tensor")
_LIBRARY.define(f"frozen_matmul_grad_input(Tensor dy, {_WEIGHT}) -> Tensor")
_MATMUL = torch.ops.lords_bench.frozen_matmul.default
_GRAD_INPUT = torch.ops.lords_bench.frozen_matmul_grad_input.default


class FrozenLinear(QuantizedLinear):
    """A layer on a quantized weight of any format, in inference mode; for low-rank scales `LordsLinear` is faster.

    The tensors of the weight are buffers named `base_` and the name they have in the weight.
    """

    def __init__(self, weight: QuantizedWeight, bias: nn.Parameter | None = None, *, mode: Mode = "inference") -> None:
        n, k = weight.shape
        super().__init__(in_features=k, out_features=n, spec=weight.spec, mode=mode)
        self.register_parameter("bias", bias)
        self._base_names = tuple(weight.tensors())
        self.kept_dtypes = tuple(f"base_{name}" for name in self._base_names)
        for name, tensor in weight.tensors().items():
            self.register_buffer(f"base_{name}", tensor)
        self._spec_text = json.dumps(spec_to_dict(weight.spec))

    def forward(self, x: Tensor) -> Tensor:
        """Y = x @ Qᵀ + bias; x (…, K)."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        parts = list(self._base().values())
        y: Tensor = _MATMUL(x, parts, ",".join(self._base_names), self._spec_text, self.out_features, self.in_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def quantization_parameters(self) -> dict[str, nn.Parameter]:
        """None: all is frozen."""
        return {}

    def export(self) -> QuantizedWeight:
        """The weight it was made of."""
        return weight_from_tensors(self.spec, (self.out_features, self.in_features), self._base())

    def base_sha256(self) -> str:
        """Hash of the base: an additive adapter belongs to a layer that has the same."""
        # Whole K blocks: that is how codes of every K were stored when the first adapters were made.
        parts = self._base()
        codes = packed_codes(parts["packed"], self.spec.bits_per_code, self.in_features)
        return tensors_sha256({**parts, "packed": codes}, self._spec_text, self.in_features)

    def _base(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"base_{name}") for name in self._base_names}


class LoraLinear(FrozenLinear):
    """A layer in PEFT mode with an additive adapter; built by `from_weight`.

    Attributes:
        up: N×R, trained.
        down: R×K, trained.
        scaling: alpha / R.
    """

    adapter_names = ("up", "down")

    def __init__(self, weight: AdaptedWeight, bias: nn.Parameter | None = None) -> None:
        super().__init__(weight.base, bias, mode="peft")
        self.scaling = weight.scaling
        self.up, self.down = trained(weight.up_NR), trained(weight.down_RK)
        self.kept_dtypes = (*self.kept_dtypes, "up", "down")

    @classmethod
    def from_weight(cls, weight: AdaptedWeight, bias: nn.Parameter | None = None) -> Self:
        """A layer that trains the adapter of `weight`."""
        return cls(weight, bias)

    @property
    def rank(self) -> int:
        return int(self.up.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Y = x @ Wᵀ + bias; x (…, K)."""
        base_MN = super().forward(x)
        added_MN = functional.linear(functional.linear(x.to(self.down.dtype), self.down), self.up)
        return base_MN + (self.scaling * added_MN).to(base_MN.dtype)

    def quantization_parameters(self) -> dict[str, nn.Parameter]:
        """`up` and `down`."""
        return {"up": self.up, "down": self.down}

    @torch.no_grad()
    def export(self) -> AdaptedWeight:
        """The base with its adapter beside it, in the storage dtype; adding them would quantize anew."""
        storage = STORAGE_DTYPES[self.spec.scale_dtype]
        return AdaptedWeight(
            base=super().export(),
            up_NR=self.up.detach().to(storage),
            down_RK=self.down.detach().to(storage),
            scaling=self.scaling,
        )


@lru_cache(maxsize=64)
def _spec(text: str) -> QuantSpec:
    return spec_from_dict(json.loads(text))


def _dense(weight: tuple[Any, ...], dtype: torch.dtype) -> Tensor:
    parts, names, spec, n, k = weight
    tensors = dict(zip(names.split(","), parts, strict=True))
    return weight_from_tensors(_spec(spec), (n, k), tensors).dequantize(dtype)


def _matmul(x: Tensor, *weight: Any) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return x @ _dense(weight, x.dtype).t()


def _matmul_fake(x: Tensor, _parts: Any, _names: str, _spec: str, n: int, _k: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], n))


def _grad_input(dy: Tensor, *weight: Any) -> Tensor:
    with torch.autocast(dy.device.type, enabled=False):
        return dy @ _dense(weight, dy.dtype)


def _grad_input_fake(dy: Tensor, _parts: Any, _names: str, _spec: str, _n: int, k: int) -> Tensor:
    return dy.new_empty((*dy.shape[:-1], k))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    _x, parts, *described = inputs
    ctx.save_for_backward(*parts)
    ctx.described = described


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    parts = list(ctx.saved_tensors)
    dx = _GRAD_INPUT(dy, parts, *ctx.described) if ctx.needs_input_grad[0] else None
    return (dx, [None] * len(parts), None, None, None, None)  # type: ignore[return-value]


for _name, _implementation, _fake in (
    ("frozen_matmul", _matmul, _matmul_fake),
    ("frozen_matmul_grad_input", _grad_input, _grad_input_fake),
):
    for _key in ("CPU", "CUDA"):
        _LIBRARY.impl(_name, _implementation, _key)
    torch.library.register_fake(f"lords_bench::{_name}", _fake, lib=_LIBRARY)
torch.library.register_autograd("lords_bench::frozen_matmul", _backward, setup_context=_setup_context, lib=_LIBRARY)
