"""`Codebook`: the sorted list of levels that a code indexes.

Levels lie in [-1, 1]. The normal-float levels follow QLoRA (arXiv 2305.14314, section 3): quantiles of N(0, 1) at
evenly spaced probabilities up to an offset that is the mean of 1 - 1/(2·(2^k - 1)) and 1 - 1/(2·2^k), one side with
2^(k-1) and the other with 2^(k-1) - 1 levels, zero exact, scaled to a largest magnitude of 1. NF4 is written out as
the float32 constants that bitsandbytes uses, so that codes agree bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

from lords_bench.errors import SpecError

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
