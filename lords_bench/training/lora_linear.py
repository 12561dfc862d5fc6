"""`LoraLinear`: an additive adapter on a frozen quantized base, the baselines of LoRDS fine-tuning.

Y = x @ Qᵀ + s · (x @ downᵀ) @ upᵀ + bias. The base is dequantized for every product and not kept for the backward.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lords_bench.reference.adapters import AdaptedWeight
from lords_bench.reference.weights import STORAGE_DTYPES, QuantizedWeight
from lords_bench.training.layer import QuantizedLinear, trained


class LoraLinear(QuantizedLinear):
    """A layer in PEFT mode with an additive adapter; built by `from_weight`.

    Attributes:
        up: N×R, trained.
        down: R×K, trained.
        scaling: alpha / R.
    """

    kept_dtypes = ("up", "down")
    adapter_names = ("up", "down")

    def __init__(self, weight: AdaptedWeight, bias: nn.Parameter | None = None) -> None:
        n, k = weight.shape
        super().__init__(in_features=k, out_features=n, spec=weight.spec, mode="peft")
        self.scaling = weight.scaling
        self.register_parameter("bias", bias)
        self.up, self.down = trained(weight.up_NR), trained(weight.down_RK)
        self.base = weight.base

    @classmethod
    def from_weight(cls, weight: AdaptedWeight, bias: nn.Parameter | None = None) -> Self:
        """A layer that trains the adapter of `weight`."""
        return cls(weight, bias)

    @property
    def rank(self) -> int:
        """R."""
        return int(self.up.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Y = x @ Wᵀ + bias; x (…, K)."""
        base_MN = functional.linear(x, self.base.dequantize(x.dtype), self.bias)
        added_MN = functional.linear(functional.linear(x.to(self.down.dtype), self.down), self.up)
        return base_MN + (self.scaling * added_MN).to(base_MN.dtype)

    def quantization_parameters(self) -> dict[str, nn.Parameter]:
        """`up` and `down`."""
        return {"up": self.up, "down": self.down}

    @torch.no_grad()
    def export(self) -> QuantizedWeight:
        """The base with its adapter beside it, in the storage dtype; adding them would quantize anew."""
        storage = STORAGE_DTYPES[self.spec.scale_dtype]
        return AdaptedWeight(
            base=self.base,
            up_NR=self.up.detach().to(storage),
            down_RK=self.down.detach().to(storage),
            scaling=self.scaling,
        )
