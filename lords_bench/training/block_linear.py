"""`BlockLinear`: quantization-aware training of block scales, the baseline of `LordsLinear`.

Normal-float (or any) levels with a scale per block, or integers with a scale and a zero point per block. Scales and
zero points are trained by the same surrogate gradients as B and A.
"""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lords_bench.errors import SpecError
from lords_bench.quant import QuantSpec
from lords_bench.reference.blocks import assign_blocks
from lords_bench.reference.codebooks import normalise_levels
from lords_bench.reference.eight_bit import trained_through_logarithm
from lords_bench.reference.fields import BlockField
from lords_bench.reference.methods import quantize
from lords_bench.reference.qat import CODE_MASK, Gradient, Grid, fake_quantize
from lords_bench.reference.storage import pack_weight, stored_field
from lords_bench.reference.weights import STORAGE_DTYPES, AffineWeight, BlockwiseWeight
from lords_bench.training.layer import QuantizedLinear, require_linear, trained
from lords_bench.training.ops import fake_quantized


class BlockLinear(QuantizedLinear):
    """A layer in QAT mode on block scales; built by `for_qat`.

    Attributes:
        weight: N×K, the dense weight.
        scale: N×(K/block) scales.
        zero: N×(K/block) zero points before rounding, or None.
        levels: `levels_L`; 0 … L-1 where there are zero points.
        gradient: surrogate of the training.
    """

    kept_dtypes = ("scale", "zero", "levels")
    weight: nn.Parameter
    scale: nn.Parameter
    zero: nn.Parameter | None
    levels: Tensor

    def __init__(
        self,
        *,
        spec: QuantSpec,
        tensors: dict[str, Tensor],
        bias: nn.Parameter | None,
        gradient: Gradient,
    ) -> None:
        n, k = tensors["weight"].shape
        super().__init__(in_features=k, out_features=n, spec=spec, mode="qat")
        self.gradient: Gradient = gradient
        self.register_parameter("bias", bias)
        self.register_parameter("zero", None)
        self._register(tensors)

    @classmethod
    def for_qat(
        cls, linear: nn.Module, spec: QuantSpec, *, gradient: Gradient = "lsq", learn_levels: bool | None = None
    ) -> Self:
        """A layer that trains the weight and the block scales of `linear`, from its post-training quantization.

        Args:
            linear: an `nn.Linear`; its weight and bias are shared, not copied.
            spec: block scales (`nf4`, `nf3`, `nf2`, `block-opt`, `int-rtn`), nearest assignment.
            gradient: surrogate, see `reference.qat`.
            learn_levels: train the levels as well; None is what the spec says.
        """
        linear = require_linear(linear)
        if spec.double_quant:
            raise SpecError("scales in 8 bits cannot be trained; leave double_quant out for QAT")
        start = quantize(linear.weight, spec)
        learned = spec.levels == "learned" if learn_levels is None else learn_levels
        if isinstance(start, AffineWeight):
            if learned:
                raise SpecError("integer groups with zero points have no levels to learn; use method 'block-opt'")
            integers_L = torch.arange(1 << spec.bits_per_code, dtype=torch.float32, device=linear.weight.device)
            tensors = {"scale": trained(start.scales()), "zero": trained(start.zeros()), "levels": integers_L}
        else:
            assert isinstance(start, BlockwiseWeight)
            levels_L = start.levels()
            field = start.field()
            tensors = {"scale": trained(field.scale_NG), "levels": nn.Parameter(levels_L) if learned else levels_L}
            spec = replace(spec, levels="learned") if learned else spec
        return cls(spec=spec, tensors={"weight": linear.weight, **tensors}, bias=linear.bias, gradient=gradient)

    def forward(self, x: Tensor) -> Tensor:
        """Y = x @ Ŵᵀ + bias; x (…, K)."""
        return functional.linear(x, self.fake_weight(), self.bias)

    def fake_weight(self) -> Tensor:
        """Ŵ_NK that QAT computes with, differentiable."""
        return fake_quantized(self._whole_blocks(), self._grid(), self.gradient)[:, : self.in_features]

    def quantization_parameters(self) -> dict[str, nn.Parameter]:
        """Scales, zero points, and levels where they are trained."""
        names = ("scale", "zero", "levels")
        return {name: value for name in names if isinstance(value := getattr(self, name), nn.Parameter)}

    @torch.no_grad()
    def export(self) -> BlockwiseWeight | AffineWeight:
        """The weight as post-training quantization would store it: scales rounded, then codes assigned."""
        spec, bits = self.spec, self.spec.bits_per_code
        block, levels_L = spec.block, self.levels
        if self.zero is not None:
            codes_NK = fake_quantize(self._whole_blocks(), self._grid())[1] & CODE_MASK
            field = stored_field(BlockField(scale_NG=self.scale, block=block), spec)
            assert isinstance(field, BlockField)
            zero_NG = self.zero.round().clamp(0, (1 << bits) - 1)
            field = replace(field, low_NG=-zero_NG * field.scale_NG)
        else:
            levels_L = levels_L.sort().values
            field = stored_field(BlockField(scale_NG=self.scale, block=block), spec)
            assert isinstance(field, BlockField)
            codes_NK = assign_blocks(self._whole_blocks(), field, levels_L)
            if spec.levels == "learned":
                levels_L, factor = normalise_levels(levels_L)
                field = stored_field(field.scaled(factor), spec)
        weight = pack_weight(spec, codes_NK[:, : self.in_features], field, levels_L)
        assert isinstance(weight, BlockwiseWeight | AffineWeight)
        return weight

    def _whole_blocks(self) -> Tensor:
        """The dense weight, a partial last block filled up with zeros, which no gradient reaches."""
        missing = -self.in_features % self.spec.block
        return functional.pad(self.weight, (0, missing)) if missing else self.weight

    def _grid(self) -> Grid:
        levels_L = self.levels.sort().values if self.levels.requires_grad else self.levels
        dtype = STORAGE_DTYPES[self.spec.scale_dtype]
        is_plain = self.spec.scale_bits is None
        scale_NG = self.scale if is_plain else trained_through_logarithm(self.scale, dtype)
        return Grid(first=scale_NG, a_RK=None, levels_L=levels_L, zero_NG=self.zero, scale_dtype=dtype)
