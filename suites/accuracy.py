"""The accuracy suite: which quantized models are measured, as data.

Every case is compared at its measured bits per weight. At block 64 and fp16 scales the block methods and LoRDS store
4.25, 3.25 and 2.25 bits; `int-rtn` stores zero points too, and double quantization stores less, so those two are read
on the bits–accuracy curve. Mixed precision is 4 bits for the first half of the weights and 2 for the rest, as LoftQ
(arXiv 2310.08659) has it.

    ACCURACY_QUICK   every method at block 64: what `lords-bench bench` runs
    ACCURACY_FULL    the same, then learned levels, blocks of 32 and 128, per-input weights, and one change at a time
                     from a preset
"""

from typing import Any

from lords_bench.errors import UsageError
from lords_bench.spec.case import Case, Suite
from lords_bench.spec.quant import BITS, PRESETS, QuantSpec

BLOCK = 64
# Every preset; the normal-float ones fix their bits by name.
_METHODS = ("nf", "block-opt", "int-rtn", "lords-paper", "lords", "gptq", "block-gptq", "lords-gptq")
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

_ABLATIONS = (
    *(_case(_spec(m, b, levels="learned"), variant="learned") for b in BITS for m in ("block-opt", "lords")),
    *(_case(_spec(m, b, block=block)) for block in (32, 128) for b in BITS for m in _ACROSS_BLOCKS),
    *(_case(_spec(m, b), variant="input-weighted", input_weighted=True) for b in BITS for m in ("block-opt", "lords")),
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
