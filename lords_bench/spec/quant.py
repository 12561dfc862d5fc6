"""`QuantSpec`: what is asked for. Every method is a preset of three independent choices.

A quantized weight is levels[codes_NK] * S_NK. The choices (DESIGN: scale field × levels × assignment):

    scales       absmax         one scale per block of `block` inputs: the largest magnitude
                 optimised      one scale per block, found by search on the squared error
                 affine         one scale and one zero point per block (integer grids)
                 low-rank       S = B_NR @ A_RK, refined recipe (Sinkhorn, Adam, exact least squares)
                 low-rank-paper S = B_NR @ A_RK, the recipe of arXiv 2601.22716 as far as it is public
    levels       a codebook name (`nf3`, `int4`, …), `nf` = the normal-float codebook of `bits`, `int` likewise, or
                 `learned`: 2^bits levels fitted to this weight
    assignment   nearest        the level nearest to W/S
                 feedback       column by column, the rounding error fed forward through the Hessian (GPTQ)

`refit_rounds` repeats "fit scales to the codes under the full Hessian, assign again" for feedback methods.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from lords_bench.errors import SpecError, UsageError
from lords_bench.spec.codebook import CODEBOOK_NAMES, Codebook, named_codebook
from lords_bench.spec.numbers import BIT_COUNT, COUNT, SEED, Whole, shown
from lords_bench.spec.options import option

Scales = Literal["absmax", "optimised", "affine", "low-rank", "low-rank-paper"]
Assignment = Literal["nearest", "feedback"]
ScaleDtype = Literal["float16", "bfloat16", "float32"]

BITS = (4, 3, 2)


# Fits that get better have ended after some ten; this many take days.
_MOST_REFIT_ROUNDS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The three choices behind a method name; `bits` is set where the name fixes it (nf4, nf3, nf2)."""

    scales: Scales
    levels: str
    assignment: Assignment
    refit_rounds: int = 0
    bits: int | None = None


PRESETS: MappingProxyType[str, Preset] = MappingProxyType(
    {
        "nf4": Preset(scales="absmax", levels="nf", assignment="nearest", bits=4),
        "nf3": Preset(scales="absmax", levels="nf", assignment="nearest", bits=3),
        "nf2": Preset(scales="absmax", levels="nf", assignment="nearest", bits=2),
        "block-opt": Preset(scales="optimised", levels="nf", assignment="nearest"),
        "int-rtn": Preset(scales="affine", levels="int", assignment="nearest"),
        "lords-paper": Preset(scales="low-rank-paper", levels="nf", assignment="nearest"),
        "lords": Preset(scales="low-rank", levels="nf", assignment="nearest"),
        "gptq": Preset(scales="absmax", levels="nf", assignment="feedback"),
        "block-gptq": Preset(scales="optimised", levels="learned", assignment="feedback", refit_rounds=3),
        "lords-gptq": Preset(scales="low-rank", levels="learned", assignment="feedback", refit_rounds=3),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantSpec:
    """A request for a quantized weight.

    Attributes:
        method: a name in `PRESETS`; it fixes `scales`, `levels`, `assignment` and `refit_rounds` where they are None.
        bits: bits per code: 4, 3 or 2. None is what the method name fixes, else 4.
        block: inputs per block scale; for low-rank scales the block size whose storage the rank must match.
        rank: rank R of B_NR and A_RK; None is parity with `block` (see `parity_rank`). Low-rank scales only.
        scales: where S_NK comes from: `absmax`, `optimised`, `affine`, `low-rank` or `low-rank-paper`.
        levels: a codebook name, `nf`, `int` or `learned`; a `Codebook` for levels of your own. None is the method's.
        assignment: of codes: `nearest` level, or `feedback` of the error over calibration inputs, as GPTQ does.
        refit_rounds: how often `feedback` alternates with a refit of the scales.
        scale_dtype: storage dtype of scales, B and A: `float16`, `bfloat16` or `float32`.
        double_quant: absmax scales stored in 8 bits as bitsandbytes does (offset, blocks of 256, dynamic map).
        seed: fixes every random choice; the same spec and weight give the same bits.

    Raises:
        SpecError: a field that does not exist or does not fit; one line with the value and what exists.
    """

    method: str = option(f"one of {', '.join(PRESETS)}", metavar="NAME", default="lords")
    bits: int | None = option("4, 3 or 2 (default: what the method's name says, else 4)", BIT_COUNT, default=None)
    block: int = option("inputs per scale, or storage of it", COUNT, default=64)
    rank: int | None = option("rank of low-rank scales (default: parity with the block)", COUNT, default=None)
    scales: Scales | None = None
    levels: str | Codebook | None = option(
        "a codebook, nf, int or learned (default: the method's)", metavar="NAME", default=None
    )
    assignment: Assignment | None = None
    refit_rounds: int | None = None
    scale_dtype: ScaleDtype = option("of scales, B and A as stored", default="float16")
    double_quant: bool = option("scales in 8 bits, as bitsandbytes stores them", default=False)
    seed: int = 0

    def __post_init__(self) -> None:
        # A list, out of somebody's JSON, cannot even be looked up.
        method: object = self.method
        preset = PRESETS.get(method) if isinstance(method, str) else None
        if preset is None:
            raise SpecError(f"unknown method {self.method!r}; known: {', '.join(PRESETS)}")
        if preset.bits is not None and self.bits not in (None, preset.bits):
            raise SpecError(f"method {self.method!r} has {preset.bits} bits, not {self.bits}; use 'nf{self.bits}'")
        for name in ("scales", "levels", "assignment", "refit_rounds"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(preset, name))
        if self.bits is None:
            object.__setattr__(self, "bits", preset.bits or 4)
        _require_member("bits", self.bits, BITS)
        _require_member("scales", self.scales, get_args(Scales))
        _require_member("assignment", self.assignment, get_args(Assignment))
        _require_member("scale_dtype", self.scale_dtype, get_args(ScaleDtype))
        _require_integer("block", self.block, minimum=1)
        _require_integer("refit_rounds", self.refit_rounds, minimum=0, most=_MOST_REFIT_ROUNDS)
        _require_integer("seed", self.seed, minimum=SEED.least, most=SEED.most)
        _require_member("double_quant", self.double_quant, (False, True))
        if self.rank is not None:
            _require_integer("rank", self.rank, minimum=1)
            if not self.is_low_rank:
                raise SpecError(f"rank={self.rank} has no meaning for {self.scales!r} scales; leave it out, set block")
        if self.double_quant and self.scales != "absmax":
            raise SpecError(f"double_quant needs absmax scales, not {self.scales!r}; use method 'nf4'")
        self._check_levels()

    def _check_levels(self) -> None:
        if self.scales == "affine":
            if self.levels != "int":
                raise SpecError(f"affine scales need levels='int', not {self.levels!r}")
            return
        if self.levels == "learned":
            return
        codebook = self.codebook
        if codebook is not None and codebook.bits > self.bits_per_code:
            raise SpecError(f"codebook {codebook.name!r} needs {codebook.bits} bits, bits is {self.bits}")

    @property
    def bits_per_code(self) -> int:
        """`bits`, resolved: never None once the spec is built."""
        assert self.bits is not None
        return self.bits

    @property
    def is_low_rank(self) -> bool:
        """Whether S_NK is a product B_NR @ A_RK."""
        return self.scales in ("low-rank", "low-rank-paper")

    @property
    def needs_hessian(self) -> bool:
        """Whether quantizing needs calibration inputs."""
        return self.assignment == "feedback"

    @property
    def codebook(self) -> Codebook | None:
        """The fixed codebook, or None where levels are learned."""
        if isinstance(self.levels, Codebook):
            return self.levels
        if self.levels == "learned":
            return None
        if self.levels in ("nf", "int"):
            return named_codebook(f"{self.levels}{self.bits}")
        if not isinstance(self.levels, str) or self.levels not in CODEBOOK_NAMES:
            raise SpecError(f"unknown codebook {self.levels!r}; known: nf, int, learned, {', '.join(CODEBOOK_NAMES)}")
        return named_codebook(self.levels)

    def rank_for(self, n: int, k: int) -> int:
        """Rank used for an N×K weight: `rank`, or parity with `block`.

        Raises:
            SpecError: the rank exceeds min(N, K).
        """
        rank = parity_rank(n, k, self.block) if self.rank is None else self.rank
        if rank > min(n, k):
            raise SpecError(f"rank {rank} is above min(N, K) = {min(n, k)} of a {n}×{k} weight; lower it")
        return rank


def parity_rank(n: int, k: int, block: int) -> int:
    """Rank at which B and A store no more numbers than block scales: max(1, floor(N·K / (G·(N+K))))."""
    return max(1, (n * k) // (block * (n + k)))


def require_spec(spec: object) -> QuantSpec:
    """`spec`, if it is one.

    Raises:
        SpecError: it is something else.
    """
    if not isinstance(spec, QuantSpec):
        raise SpecError(f"spec is {spec!r:.60}, not a QuantSpec; give one, such as QuantSpec(method='nf4')")
    return spec


def _require_member(name: str, value: object, allowed: tuple[object, ...]) -> None:
    # 4.0 equals 4, and is no name of a codebook.
    if value not in allowed or type(value) is not type(allowed[0]):
        raise SpecError(f"{name}={shown(value)} is not offered; choose one of {', '.join(map(str, allowed))}")


def _require_integer(name: str, value: object, *, minimum: int, most: int = COUNT.most) -> None:
    try:
        Whole(least=minimum, most=most).check(name, value)
    except UsageError as error:
        raise SpecError(str(error)) from None
