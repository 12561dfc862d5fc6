"""`StoredLinear`: a linear layer on a stored quantized weight, for inference, as checkpoints of transformers hold it.

Its state is the weight's tensors by their own names, but for the codes, which are called `weight`: a loader that does
not know the format finds there a tensor of another shape and refuses, where it would make up a missing one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from lords_bench.kernels.common.prepared import PreparedWeight, prepare
from lords_bench.products.ops import lords_matmul
from lords_bench.quant import QuantSpec
from lords_bench.reference.checkpoint import checked_weight, expected_tensors
from lords_bench.reference.tensor_files import DtypeAndShape, StoredLayout
from lords_bench.reference.weights import LordsWeight, QuantizedWeight, weight_from_tensors

# The codes of a weight, and what a checkpoint calls them.
CODES, STORED_CODES = "packed", "weight"


def stored_name(part: str) -> str:
    """Name in a layer's state of the tensor that a weight calls `part`."""
    return STORED_CODES if part == CODES else part


def stored_layout(
    spec: QuantSpec, shape: tuple[int, int], where: str, *, codes: StoredLayout | None = None
) -> dict[str, DtypeAndShape]:
    """Dtype and shape of every tensor that a layer of (N, K) is stored as, by its name in the layer's state.

    `codes` is what its codes are stored as, if that is known; see `expected_tensors`.

    Raises:
        ModelError: no weight of that shape has this spec; `where` is what the message calls it.
    """
    return {stored_name(part): layout for part, layout in expected_tensors(spec, shape, where, codes=codes).items()}


def stored_layouts(
    layers: Mapping[str, tuple[QuantSpec, tuple[int, int]]], found: Mapping[str, StoredLayout]
) -> dict[str, dict[str, DtypeAndShape]]:
    """`stored_layout` of every layer by name, its codes as the headers `found` have them.

    Raises:
        ModelError: no weight of a layer's shape has its spec.
    """
    return {
        name: stored_layout(spec, shape, f"layer {name}", codes=found.get(f"{name}.{STORED_CODES}"))
        for name, (spec, shape) in layers.items()
    }


def weight_in_state(
    spec: QuantSpec, shape: tuple[int, int], state: Mapping[str, Tensor], layer: str, where: str
) -> QuantizedWeight:
    """A layer's weight from a model's state.

    Args:
        spec: of the layer.
        shape: (N, K).
        state: tensors by name, those of the layer beginning with `layer` and a dot.
        layer: name of the layer in `state`.
        where: what an error calls the weight.

    Raises:
        ModelError: a tensor is missing, of another dtype or shape, not finite, or holds codes beyond the levels.
    """
    names = expected_tensors(spec, shape, where)
    return checked_weight(spec, shape, {part: state.get(f"{layer}.{stored_name(part)}") for part in names}, where)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Operand:
    """What `prepare` reads."""

    packed: Tensor
    b_NR: Tensor
    a_RK: Tensor
    levels_L: Tensor
    bits: int


class StoredLinear(nn.Module):
    """x (…, K) -> (…, N), as `nn.Linear`. Low-rank scales run packed, other formats through the dense weight.

    Attributes:
        in_features: K.
        out_features: N.
        spec: how the weight is quantized.
        weight: the packed codes; before a weight is quantized on loading, a place for the dense one.
        bias: N floats or None.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        spec: QuantSpec,
        shape: tuple[int, int],
        bias: nn.Parameter | None,
        *,
        where: str,
        codes: StoredLayout | None = None,
    ) -> None:
        """A layer without values, on the meta device; `codes` as for `stored_layout`.

        Raises:
            ModelError: no weight of that shape has this spec; `where` is what the message calls it.
        """
        super().__init__()
        self.out_features, self.in_features = shape
        self.spec = spec
        self._parts = expected_tensors(spec, shape, where, codes=codes)
        self._prepared: dict[torch.dtype, tuple[tuple[Tensor, ...], PreparedWeight]] = {}
        self.register_parameter("bias", bias)
        self.expect_codes()

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.out_features, self.in_features

    def expect_dense(self, dtype: torch.dtype) -> None:
        """Make `weight` the place of the dense weight_NK."""
        del self.weight
        self.weight: Any = nn.Parameter(torch.empty(self.shape, dtype=dtype, device="meta"), requires_grad=False)

    def expect_codes(self) -> None:
        """Make every stored tensor a place without a value."""
        self._parameters.pop(STORED_CODES, None)
        for part, (dtype, shape) in self._parts.items():
            self.register_buffer(stored_name(part), torch.empty(shape, dtype=dtype, device="meta"))

    def stored_tensors(self) -> dict[str, Tensor]:
        """The tensors of the weight, by their names in the state."""
        names = (stored_name(part) for part in self._parts)
        return {name: getattr(self, name) for name in names}

    def export(self) -> QuantizedWeight:
        """The weight, sharing its tensors with the layer."""
        return weight_from_tensors(self.spec, self.shape, {p: getattr(self, stored_name(p)) for p in self._parts})

    def forward(self, x: Tensor) -> Tensor:
        """Y = x @ Wᵀ + bias; x (…, K)."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            if self.spec.is_low_rank:
                return lords_matmul(x, self._operand(x.dtype), self.bias)
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return functional.linear(x, self.export().dequantize(x.dtype), bias)

    def _operand(self, dtype: torch.dtype) -> PreparedWeight:
        if not self.weight.is_cuda:
            return self._prepare(dtype)
        # On a GPU preparing reads the levels, so it is done once for the tensors that are here now.
        tensors = tuple(self.stored_tensors().values())
        found = self._prepared.get(dtype)
        if found is None or any(old is not new for old, new in zip(found[0], tensors, strict=True)):
            with torch.no_grad():
                found = self._prepared[dtype] = tensors, self._prepare(dtype)
        return found[1]

    def _prepare(self, dtype: torch.dtype) -> PreparedWeight:
        weight = self.export()
        assert isinstance(weight, LordsWeight)
        operand = _Operand(
            packed=weight.packed,
            b_NR=weight.b_NR,
            a_RK=weight.a_RK,
            levels_L=weight.levels(),
            bits=weight.spec.bits_per_code,
        )
        return prepare(operand, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT002  (of nn.Module)
        """Devices follow `fn`; of dtypes only that of the bias does."""
        self._prepared.clear()
        kept = {id(tensor) for tensor in self.stored_tensors().values()}

        def convert(tensor: Tensor) -> Tensor:
            converted = fn(tensor)
            changed = id(tensor) in kept and converted.dtype != tensor.dtype
            return tensor.to(converted.device) if changed else converted

        applied: Self = super()._apply(convert, recurse)  # type: ignore[no-untyped-call]
        return applied

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._prepared.clear()
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": {}}

    def extra_repr(self) -> str:
        """Shape, method and bits."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"method={self.spec.method}, bits={self.spec.bits_per_code}"
        )
