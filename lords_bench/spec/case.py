"""`Case`: one thing to measure, a model with its linear layers quantized as asked; `Suite`: a named tuple of cases."""

from collections.abc import Sequence
from dataclasses import dataclass

from lords_bench.errors import SpecError
from lords_bench.spec.quant import QuantSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model quantized one way.

    Attributes:
        case_id: unique in its suite and stable, e.g. `lords-b3-g64`; records and reports are joined by it.
        method: name shown in tables; the method of the specs, or what sets a variant of it apart (`lords-learned`).
        bits: nominal bits that group the tables (mixed precision: the average); None for the unquantized model.
        specs: empty for the unquantized model; one spec for all layers; several for mixed precision, where the layers
            in model order are divided into equal shares of the weights, one share per spec.
        input_weighted: whether squared errors are weighted by the mean square of each calibration input.

    Raises:
        SpecError: bits and specs contradict each other.
    """

    case_id: str
    method: str
    bits: int | None
    specs: tuple[QuantSpec, ...]
    input_weighted: bool = False

    def __post_init__(self) -> None:
        if (self.bits is None) != (not self.specs):
            raise SpecError(f"case {self.case_id!r}: bits is {self.bits}; only the unquantized model has none")

    @property
    def spec(self) -> QuantSpec | None:
        """The spec of every layer, or None where the model is unquantized or the precision is mixed."""
        return self.specs[0] if len(self.specs) == 1 else None

    @property
    def needs_calibration(self) -> bool:
        """Whether calibration inputs are needed: for a Hessian or for per-input weights."""
        return self.input_weighted or any(spec.needs_hessian for spec in self.specs)

    def spec_of_layers(self, weight_counts: Sequence[int]) -> tuple[QuantSpec, ...]:
        """The spec of each layer, given the number of weights of each in model order.

        A layer belongs to the share in which the middle of its weights lies.

        Raises:
            SpecError: the case is the unquantized model, which has no specs.
        """
        if not self.specs:
            raise SpecError(f"case {self.case_id!r} is the unquantized model; it has no layer specs")
        total, before, chosen = sum(weight_counts), 0, []
        for count in weight_counts:
            middle = before + count / 2
            chosen.append(self.specs[min(len(self.specs) - 1, int(middle * len(self.specs) / total))])
            before += count
        return tuple(chosen)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """Cases run together; their ids are unique.

    Raises:
        SpecError: no case, or two cases that share an id.
    """

    name: str
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        ids = [case.case_id for case in self.cases]
        repeated = sorted({case_id for case_id in ids if ids.count(case_id) > 1})
        if repeated:
            raise SpecError(f"suite {self.name!r} has case {repeated[0]!r} twice; ids must differ")
        if not ids:
            raise SpecError(f"suite {self.name!r} has no case; ask for methods and bits that exist together")
