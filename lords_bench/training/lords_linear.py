"""`LordsLinear`: a linear layer on levels[codes] · (B @ A), in one of three modes.

    inference   codes packed, B and A in the storage dtype, nothing trained
    qat         dense weight, B and A trained together; Ŵ by fake quantization in every forward
    peft        codes packed and frozen, B and A trained as float32 masters

Inference and PEFT run the same operator on the same tensors, so merging an adapter is a change of mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lords_bench.errors import UsageError
from lords_bench.kernels.common.prepared import PreparedWeight, prepare
from lords_bench.products.ops import lords_matmul
from lords_bench.quant import QuantSpec
from lords_bench.reference.codebooks import assign_nearest, normalise_levels
from lords_bench.reference.eight_bit import trained_through_int8
from lords_bench.reference.fields import LowRankField
from lords_bench.reference.methods import quantize
from lords_bench.reference.packing import pack_codes
from lords_bench.reference.panels import compute_dtype
from lords_bench.reference.qat import Gradient, Grid
from lords_bench.reference.storage import stored_field, weight_of_field
from lords_bench.reference.weights import STORAGE_DTYPES, LordsWeight
from lords_bench.training.layer import Mode, QuantizedLinear, require_linear, tensors_sha256, trained
from lords_bench.training.ops import fake_quantized


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Stored:
    """What `prepare` reads."""

    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int


class LordsLinear(QuantizedLinear):
    """Built by `for_qat` from a linear layer, or by `from_weight` from a quantized weight.

    Attributes:
        scale_b: B_NR.
        scale_a: A_RK.
        levels: `levels_L`, trained where `for_qat` was asked to learn them.
        weight: N×K, the dense weight; QAT only.
        packed: int16 codes; inference and PEFT only.
        gradient: surrogate of QAT.
    """

    kept_dtypes = ("scale_b", "scale_a", "levels")
    adapter_names = ("scale_b", "scale_a")
    packed: Tensor
    weight: nn.Parameter
    scale_b: nn.Parameter
    scale_a: nn.Parameter
    levels: Tensor

    def __init__(
        self,
        *,
        shape: tuple[int, int],
        spec: QuantSpec,
        mode: Mode,
        tensors: dict[str, Tensor],
        bias: nn.Parameter | None,
        gradient: Gradient = "lsq",
    ) -> None:
        super().__init__(in_features=shape[1], out_features=shape[0], spec=spec, mode=mode)
        self.gradient: Gradient = gradient
        self._prepared: PreparedWeight | None = None
        self.register_parameter("bias", bias)
        self._register(tensors)

    @classmethod
    def for_qat(
        cls, linear: nn.Module, spec: QuantSpec, *, gradient: Gradient = "lsq", learn_levels: bool | None = None
    ) -> Self:
        """A layer that trains the weight, B and A of `linear`, from its post-training quantization.

        Args:
            linear: an `nn.Linear`; its weight and bias are shared, not copied.
            spec: low-rank scales, nearest assignment.
            gradient: surrogate, see `reference.qat`.
            learn_levels: train the levels as well; None is what the spec says.
        """
        linear = require_linear(linear)
        start = quantize(linear.weight, spec)
        assert isinstance(start, LordsWeight)
        levels_L = start.levels()
        learned = spec.levels == "learned" if learn_levels is None else learn_levels
        return cls(
            shape=start.shape,
            spec=replace(spec, levels="learned") if learned else spec,
            mode="qat",
            tensors={
                "weight": linear.weight,
                "scale_b": trained(start.b_NR),
                "scale_a": trained(start.a_RK),
                "levels": nn.Parameter(levels_L) if learned else levels_L,
            },
            bias=linear.bias,
            gradient=gradient,
        )

    @classmethod
    def from_weight(
        cls, weight: LordsWeight, bias: nn.Parameter | None = None, *, mode: Mode = "inference", rank: int | None = None
    ) -> Self:
        """A layer on a quantized weight, for inference or PEFT.

        Args:
            weight: codes are shared, not copied.
            bias: N floats or None.
            mode: `inference` or `peft`.
            rank: R of the trained factors, at least that of the weight; what is beyond it starts as zero columns of B
                and small random rows of A, so that the first step computes with the same scales.
        """
        b_NR, a_RK = weight.b_NR, weight.a_RK
        if mode == "peft":
            b_NR, a_RK = trained(b_NR), trained(a_RK)
            if rank is not None:
                b_NR, a_RK = _grown(b_NR, a_RK, rank, weight.spec.seed)
        else:
            b_NR, a_RK = (nn.Parameter(factor, requires_grad=False) for factor in (b_NR, a_RK))
        tensors = {"packed": weight.packed, "scale_b": b_NR, "scale_a": a_RK, "levels": weight.levels()}
        return cls(shape=weight.shape, spec=weight.spec, mode=mode, tensors=tensors, bias=bias)

    @property
    def rank(self) -> int:
        return int(self.scale_b.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Y = x @ Wᵀ + bias; x (…, K)."""
        if self.mode == "qat":
            return functional.linear(x, self.fake_weight(), self.bias)
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            return lords_matmul(x, self._operand(x.dtype), self.bias)

    def fake_weight(self) -> Tensor:
        """Ŵ_NK that QAT computes with, differentiable."""
        levels_L = self.levels.sort().values if self.levels.requires_grad else self.levels
        dtype = STORAGE_DTYPES[self.spec.scale_dtype]
        factors: tuple[Tensor, Tensor] = self.scale_b, self.scale_a
        b_NR, a_RK = factors if self.spec.scale_bits is None else trained_through_int8(*factors, dtype)
        grid = Grid(first=b_NR, a_RK=a_RK, levels_L=levels_L, scale_dtype=dtype)
        return fake_quantized(self.weight, grid, self.gradient)

    def quantization_parameters(self) -> dict[str, nn.Parameter]:
        """B, A, and levels where they are trained."""
        names = ("scale_b", "scale_a", "levels")
        return {name: value for name in names if isinstance(value := getattr(self, name), nn.Parameter)}

    @torch.no_grad()
    def export(self) -> LordsWeight:
        """The weight as post-training quantization would store it: B and A rounded, then, after QAT, codes assigned."""
        spec, levels_L = self.spec, self.levels
        field = stored_field(LowRankField(b_NR=self.scale_b, a_RK=self.scale_a), spec)
        if self.mode == "qat":
            levels_L = levels_L.sort().values
            codes_NK = assign_nearest(self.weight, field.expand().to(compute_dtype(self.weight.dtype)), levels_L)
            packed = pack_codes(codes_NK, spec.bits_per_code)
            if spec.levels == "learned":
                levels_L, factor = normalise_levels(levels_L)
                assert isinstance(field, LowRankField)
                field = stored_field(LowRankField(b_NR=field.b_NR * factor, a_RK=field.a_RK), spec)
        else:
            packed = self.packed
            if spec.rank is not None or self.rank != spec.rank_for(self.out_features, self.in_features):
                spec = replace(spec, rank=self.rank)
        weight = weight_of_field(spec, packed, self.in_features, field, levels_L)
        assert isinstance(weight, LordsWeight)
        return weight

    def merge(self) -> None:
        """Leave PEFT for inference: B and A take their storage dtype and stay where they are; nothing else changes.

        Raises:
            UsageError: the layer is in QAT, where there is nothing to merge.
        """
        if self.mode == "qat":
            raise UsageError("a layer in QAT has no adapter to merge; export it, or use to_inference")
        weight = self.export()
        self.spec, self.mode = weight.spec, "inference"
        self.scale_b = nn.Parameter(weight.b_NR, requires_grad=False)
        self.scale_a = nn.Parameter(weight.a_RK, requires_grad=False)
        self.forget_prepared()

    def base_sha256(self) -> str:
        """Hash of the codes and levels: an adapter belongs to a layer that has the same.

        Raises:
            UsageError: the layer is in QAT, where codes change.
        """
        if self.mode == "qat":
            raise UsageError("a layer in QAT has no fixed codes; export it first")
        return tensors_sha256({"packed": self.packed, "levels": self.levels}, self.spec.bits_per_code, self.in_features)

    def _operand(self, dtype: torch.dtype) -> PreparedWeight:
        if self.mode == "inference" and (self.scale_b.requires_grad or self.scale_a.requires_grad):
            raise UsageError("factors of a layer in inference mode require gradients; use prepare_peft to train them")
        if not self.packed.is_cuda:
            return prepare(self._stored(), dtype)
        # On a GPU preparing reads the levels, so it is done once; B and A of a step are put in every time.
        if self._prepared is None or self._prepared.dtype != dtype:
            with torch.no_grad():
                self._prepared = prepare(self._stored(), dtype)
        if self.mode == "inference":
            return self._prepared
        return self._prepared.with_factors(self.scale_b, self.scale_a)

    def _stored(self) -> _Stored:
        return _Stored(
            packed=self.packed,
            b_NR=self.scale_b,
            a_RK=self.scale_a,
            levels_L=self.levels,
            bits=self.spec.bits_per_code,
        )

    def forget_prepared(self) -> None:
        """Call this where a tensor of the layer was changed in place in inference mode on a GPU."""
        self._prepared = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT002  (of nn.Module)
        self.forget_prepared()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self.forget_prepared()
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}


def _grown(b_NR: Tensor, a_RK: Tensor, rank: int, seed: int) -> tuple[nn.Parameter, nn.Parameter]:
    extra = rank - b_NR.shape[1]
    if extra < 0:
        raise UsageError(f"rank {rank} is below the {b_NR.shape[1]} of the quantized weight; quantize with that rank")
    generator = torch.Generator().manual_seed(seed)
    rows_EK = torch.randn(extra, a_RK.shape[1], generator=generator).to(a_RK) * a_RK.detach().square().mean().sqrt()
    b_NR = functional.pad(b_NR.detach(), (0, extra))
    return nn.Parameter(b_NR), nn.Parameter(torch.cat((a_RK.detach(), rows_EK)))
