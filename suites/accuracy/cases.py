"""The accuracy suite: which quantized models are measured, as data.

Every case is compared at its measured bits per weight. At block 64 and fp16 scales the block methods and LoRDS store
4.25, 3.25 and 2.25 bits; integer groups store zero points too, and double quantization stores less, so those two are
read on the bits–accuracy curve. Mixed precision is 4 bits for the first half of the weights and 2 for the rest, as
LoftQ (arXiv 2310.08659) has it.

    ACCURACY_QUICK   every method at block 64: what `lords-bench bench` runs
    ACCURACY_FULL    the same, then scales in 8 bits, learned levels, blocks of 32 and 128, and one change at a time
                     from a preset
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lords_bench.errors import SpecError, UsageError
from lords_bench.quant import BITS, PRESETS, QuantSpec


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


BLOCK = 64
# Every preset; the normal-float ones fix their bits by name.
_METHODS = (
    "nf", "block-opt", "block-act", "int-rtn", "lords-paper", "lords", "lords-act", "gptq", "gptq-opt", "gptq-int",
    "int-gptq", "block-gptq", "lords-gptq",
)  # fmt: skip
_ACROSS_BLOCKS = ("nf", "block-opt", "lords", "gptq", "lords-gptq")


def _spec(method: str, bits: int, *, block: int = BLOCK, **fields: Any) -> QuantSpec:
    return QuantSpec(method=f"nf{bits}" if method == "nf" else method, bits=bits, block=block, **fields)


def _case(spec: QuantSpec, *, variant: str = "", input_weighted: bool = False) -> Case:
    method = f"{spec.method}-{variant}" if variant else spec.method
    return Case(
        case_id=f"{method}-b{spec.bits_per_code}-g{spec.block}",
        method=method,
        bits=spec.bits_per_code,
        specs=(spec,),
        input_weighted=input_weighted,
    )


def _mixed(method: str) -> Case:
    specs = tuple(_spec(method, bits) for bits in (4, 2))
    name = "nf4+nf2" if method == "nf" else f"{method}-4+2"
    return Case(case_id=f"{name}-b3-g{BLOCK}", method=name, bits=3, specs=specs)


UNQUANTIZED = Case(case_id="unquantized", method="unquantized", bits=None, specs=())

_QUICK = (
    UNQUANTIZED,
    *(_case(_spec(method, bits)) for bits in BITS for method in _METHODS),
    _case(_spec("nf", 4, double_quant=True, scale_dtype="float32"), variant="double-quant"),
    _mixed("nf"),
)

# Scales in 8 bits at the bits that BLOCK stores in 16: blocks of half the size, and the rank that follows by itself.
_IN_8_BITS = (("block-opt", 32), ("lords", BLOCK), ("block-gptq", 32), ("lords-gptq", BLOCK))

_ABLATIONS = (
    *(_case(_spec(m, b, block=block, scale_bits=8), variant="8-bit") for b in BITS for m, block in _IN_8_BITS),
    *(_case(_spec(m, b, levels="learned"), variant="learned") for b in BITS for m in ("block-opt", "lords")),
    *(_case(_spec(m, b, block=block)) for block in (32, 128) for b in BITS for m in _ACROSS_BLOCKS),
    *(_case(_spec(m, b, refit_rounds=0), variant="no-refit") for b in BITS for m in ("block-gptq", "lords-gptq")),
    *(_case(_spec(m, b, levels="nf"), variant="nf-levels") for b in BITS for m in ("block-gptq", "lords-gptq")),
    *(_case(_spec("lords", b, levels=f"nf{b}-grid7"), variant="grid7") for b in BITS),
    _case(_spec("nf", 4, scale_dtype="float32"), variant="fp32-scales"),
    _case(_spec("lords", 4, scale_dtype="bfloat16"), variant="bf16-scales"),
    _case(_spec("nf", 4, levels="fp4"), variant="fp4"),
    _mixed("block-opt"),
    _mixed("lords"),
    _mixed("gptq"),
    _mixed("lords-gptq"),
)

ACCURACY_QUICK = Suite(name="accuracy", cases=_QUICK)
ACCURACY_FULL = Suite(name="accuracy", cases=(*_QUICK, *_ABLATIONS))


def select(suite: Suite, *, methods: tuple[str, ...] | None, bits: tuple[int, ...] | None) -> Suite:
    """The suite's cases of these methods and bits, always with the unquantized model; None selects all.

    A method name selects its variants too. `nf4`, `nf3` and `nf2` go by their own bits.

    Raises:
        UsageError: an unknown method or number of bits, or a combination with no case; the message lists what exists.
    """
    for name in methods or ():
        if name not in PRESETS:
            raise UsageError(f"unknown method {name!r}; known: {', '.join(PRESETS)}")
    for value in bits or ():
        if value not in BITS:
            raise UsageError(f"bits {value} are not offered; choose of {', '.join(map(str, BITS))}")
    cases = tuple(
        case
        for case in suite.cases
        if not case.specs
        or (
            (methods is None or all(spec.method in methods for spec in case.specs))
            and (bits is None or case.bits in bits)
        )
    )
    if len(cases) == 1:
        asked = f"methods {', '.join(methods or ('all',))} with bits {', '.join(map(str, bits or BITS))}"
        raise UsageError(f"no case of suite {suite.name!r} has {asked}; see 'lords-bench bench --list'")
    return Suite(name=suite.name, cases=cases)
