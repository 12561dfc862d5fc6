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

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType
from typing import Literal, get_args

from lords_bench.errors import SpecError, UsageError
from lords_bench.options import BIT_COUNT, COUNT, EIGHT, SEED, Whole, option, shown

NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

GRID7_ZERO = 64
GRID7_STEPS = 63


@dataclass(frozen=True, kw_only=True, slots=True)
class Codebook:
    """A named, strictly increasing tuple of 2 to 16 levels in [-1, 1].

    Hashable, so that it can stand in a key. `levels[code]` is the value of a code before scaling.

    Attributes:
        name: for the reader and for error messages; any text.
        levels: floats without a unit, those of the scaled weight W/S.

    Raises:
        SpecError: fewer or more levels, one outside [-1, 1], or levels out of order; the message names them.
    """

    name: str
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.levels) <= 16:
            raise SpecError(f"codebook {self.name!r} has {len(self.levels)} levels; give 2 to 16")
        if any(not -1.0 <= level <= 1.0 for level in self.levels):
            raise SpecError(f"codebook {self.name!r} has a level outside [-1, 1]: {self.levels}; scale them first")
        if any(low >= high for low, high in zip(self.levels, self.levels[1:], strict=False)):
            raise SpecError(f"codebook {self.name!r} is not strictly increasing: {self.levels}; sort it, drop repeats")

    @property
    def bits(self) -> int:
        """Smallest number of bits that can index every level."""
        return (len(self.levels) - 1).bit_length()

    def on_grid7(self) -> "Codebook":
        """Levels moved to the nearest (b - 64)/63, b in 0…127: the grid of the 7-bit integer decoders."""
        levels = tuple(round(level * GRID7_STEPS) / GRID7_STEPS for level in self.levels)
        return Codebook(name=f"{self.name}-grid7", levels=levels)


def normal_float(bits: int, *, offset: float | None = None) -> tuple[float, ...]:
    """NF-k levels by the quantile definition; `offset` None is QLoRA's rule for k bits (0.9677083 at k = 4)."""
    count = 2**bits
    if offset is None:
        offset = ((1 - 1 / (2 * (count - 1))) + (1 - 1 / (2 * count))) / 2
    normal = NormalDist()
    positive_count, negative_count = count // 2, count // 2 - 1

    def side(steps: int) -> list[float]:
        return [normal.inv_cdf(offset + (0.5 - offset) * i / steps) for i in range(steps)]

    top = normal.inv_cdf(offset)
    negative = [-value / top for value in side(negative_count)]
    positive = [value / top for value in reversed(side(positive_count))]
    return (*negative, 0.0, *positive)


def _uniform(bits: int) -> tuple[float, ...]:
    """Symmetric integers -(2^(k-1)) … 2^(k-1) - 1, divided by 2^(k-1)."""
    half = 2 ** (bits - 1)
    return tuple(i / half for i in range(-half, half))


def _fp4_e2m1() -> tuple[float, ...]:
    """OCP FP4 (E2M1): 0, ½, 1, 1½, 2, 3, 4, 6 with both signs, divided by 6; 15 distinct levels."""
    magnitudes = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    return (*(-m / 6 for m in reversed(magnitudes)), 0.0, *(m / 6 for m in magnitudes))


# LoftQ (arXiv 2310.08659) keeps the 4-bit offset for every number of bits.
LOFTQ_OFFSET = 0.9677083

_BUILDERS: MappingProxyType[str, Callable[[], tuple[float, ...]]] = MappingProxyType(
    {
        "nf4": lambda: NF4_LEVELS,
        "nf3": lambda: normal_float(3),
        "nf2": lambda: normal_float(2),
        "nf3-loftq": lambda: normal_float(3, offset=LOFTQ_OFFSET),
        "nf2-loftq": lambda: normal_float(2, offset=LOFTQ_OFFSET),
        "fp4": _fp4_e2m1,
        "int4": lambda: _uniform(4),
        "int3": lambda: _uniform(3),
        "int2": lambda: _uniform(2),
    }
)

CODEBOOK_NAMES = (*_BUILDERS, *(f"{name}-grid7" for name in _BUILDERS))


def named_codebook(name: str) -> Codebook:
    """The fixed codebook of that name; a `-grid7` ending moves its levels to the 7-bit grid.

    Raises:
        SpecError: unknown name; the message lists the known ones.
    """
    base, grid, rest = name.partition("-grid7")
    if base not in _BUILDERS or rest:
        raise SpecError(f"unknown codebook {name!r}; known: {', '.join(CODEBOOK_NAMES)}")
    codebook = Codebook(name=base, levels=_BUILDERS[base]())
    return codebook.on_grid7() if grid else codebook


@dataclass(frozen=True, kw_only=True, slots=True)
class GemmShape:
    """Size of y_MN = x_MK @ W_NK^T; all three are at least 1."""

    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"GemmShape.{name} is {value!r}; it must be an integer of at least 1")

    @property
    def flops(self) -> int:
        """Multiply-adds counted as two operations: 2·M·N·K."""
        return 2 * self.m * self.n * self.k


# Bits of a number that is stored as it is.
DTYPE_BITS: MappingProxyType[str, int] = MappingProxyType({"float16": 16, "bfloat16": 16, "float32": 32})

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
    activation_weights: bool = False


PRESETS: MappingProxyType[str, Preset] = MappingProxyType(
    {
        "nf4": Preset(scales="absmax", levels="nf", assignment="nearest", bits=4),
        "nf3": Preset(scales="absmax", levels="nf", assignment="nearest", bits=3),
        "nf2": Preset(scales="absmax", levels="nf", assignment="nearest", bits=2),
        "block-opt": Preset(scales="optimised", levels="nf", assignment="nearest"),
        "block-act": Preset(scales="optimised", levels="nf", assignment="nearest", activation_weights=True),
        "int-rtn": Preset(scales="affine", levels="int", assignment="nearest"),
        "lords-paper": Preset(scales="low-rank-paper", levels="nf", assignment="nearest"),
        "lords": Preset(scales="low-rank", levels="nf", assignment="nearest"),
        "lords-act": Preset(scales="low-rank", levels="nf", assignment="nearest", activation_weights=True),
        "gptq": Preset(scales="absmax", levels="nf", assignment="feedback"),
        "gptq-opt": Preset(scales="optimised", levels="nf", assignment="feedback"),
        "gptq-int": Preset(scales="affine", levels="int", assignment="feedback"),
        "int-gptq": Preset(scales="affine", levels="int", assignment="feedback", refit_rounds=3),
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
        block: inputs per block scale; for low-rank scales the block size whose storage in `scale_dtype` the rank must
            match.
        rank: rank R of B_NR and A_RK; None is parity with `block` (see `parity_rank`). Low-rank scales only.
        scales: where S_NK comes from: `absmax`, `optimised`, `affine`, `low-rank` or `low-rank-paper`.
        levels: a codebook name, `nf`, `int` or `learned`; a `Codebook` for levels of your own. None is the method's.
        assignment: of codes: `nearest` level, or `feedback` of the error over calibration inputs, as GPTQ does.
        refit_rounds: how often `feedback` alternates with a refit of the scales.
        scale_dtype: of scales, B and A as they are computed with, and as they are stored where `scale_bits` is None:
            `float16`, `bfloat16` or `float32`.
        scale_bits: 8 stores block scales as a sign and seven bits of logarithm, and B and A as int8 (`eight_bit`);
            low-rank scales then have the rank that stores as many bits as before. None stores `scale_dtype`.
        double_quant: absmax scales stored in 8 bits as bitsandbytes does (offset, blocks of 256, dynamic map).
        activation_weights: fit scales and levels by the squared error weighted with the mean square of every
            calibration input. Absmax scales with given levels and affine ones are not fitted by it.
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
    scale_bits: int | None = option(
        "8: scales, B and A in 8 bits each (default: as --scale-dtype)", EIGHT, default=None, since=3
    )
    activation_weights: bool = option("fit scales by errors weighted with calibration inputs", default=False, since=3)
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
        _require_member("activation_weights", self.activation_weights, (False, True))
        if preset.activation_weights:
            object.__setattr__(self, "activation_weights", True)
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
        self._check_storage()
        self._check_levels()
        if self.activation_weights and not self.is_fitted:
            raise SpecError(
                f"activation_weights has no meaning for {self.scales!r} scales, which are not fitted; use 'block-act'"
            )

    def _check_storage(self) -> None:
        if self.double_quant and self.scales != "absmax":
            raise SpecError(f"double_quant needs absmax scales, not {self.scales!r}; use method 'nf4'")
        if self.scale_bits is not None:
            _require_member("scale_bits", self.scale_bits, (8,))
            if self.double_quant:
                raise SpecError("scale_bits=8 and double_quant both store scales in 8 bits; choose one of them")

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
    def is_fitted(self) -> bool:
        """Whether scales or levels are chosen by a squared error."""
        return self.scales != "affine" and (self.scales != "absmax" or self.levels == "learned")

    @property
    def needs_hessian(self) -> bool:
        """Whether quantizing needs calibration inputs: the Hessian, or its diagonal alone."""
        return self.assignment == "feedback" or self.activation_weights

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
        """Rank used for an N×K weight: `rank`, or parity with `block`: as many bits as its scales in `scale_dtype`.

        Raises:
            SpecError: the rank exceeds min(N, K).
        """
        if self.rank is not None:
            rank = self.rank
        elif self.scale_bits is None:
            rank = parity_rank(n, k, self.block)
        else:
            rank = int8_parity_rank(n, k, self.block, scale_bits=DTYPE_BITS[self.scale_dtype])
        if rank > min(n, k):
            raise SpecError(f"rank {rank} is above min(N, K) = {min(n, k)} of a {n}×{k} weight; lower it")
        return rank


def parity_rank(n: int, k: int, block: int) -> int:
    """Rank at which B and A store no more numbers than block scales: max(1, floor(N·K / (G·(N+K))))."""
    return max(1, (n * k) // (block * (n + k)))


def int8_parity_rank(n: int, k: int, block: int, *, scale_bits: int = 16) -> int:
    """Rank at which B and A in int8 store no more bits than block scales of `scale_bits`: about twice `parity_rank`.

    max(1, floor(N·K·scale_bits / (8·G·(N+K)))), at most min(N, K). The scale of every rank comes on top, 2/(N+K) of it:
    counted among the bits it would cost small layers a whole rank.
    """
    return min(max(1, (n * k * scale_bits) // (8 * block * (n + k))), n, k)


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
