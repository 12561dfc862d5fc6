"""Figures as SVG text that is the same for the same rows, and fits into a light or a dark page.

Fixed sizes and positions, a fixed salt for ids, no dates, coordinates rounded, and matplotlib's defaults whatever the
user's own settings are. Text stays text, so that it is searchable and follows the page's font. The bytes still depend
on matplotlib's version, which is therefore pinned.

A colour is named by its role and has one meaning, readable in colour-blindness, in light, dark and print (Okabe and
Ito's palette, "Color Universal Design", 2008): a CSS variable with a fallback, which the page gives a value for light
and one for dark. Whatever a colour tells, a name or mark tells as well.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from lords_bench.text import one_line, visible

POINTS_PER_INCH = 72
WIDTH_POINTS = 780


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A colour: the value a plot is drawn with, and the values shown on light and on dark ground."""

    drawn: str
    light: str
    dark: str


# `drawn` values are placeholders that differ from each other; `themed` puts CSS variables in their place.
ROLES: MappingProxyType[str, Role] = MappingProxyType(
    {
        "ink": Role(drawn="#010101", light="#1c2430", dark="#e6e9ef"),
        "muted": Role(drawn="#020202", light="#5b6675", dark="#9aa5b4"),
        "grid": Role(drawn="#030303", light="#dfe3e9", dark="#2f3845"),
        "paper": Role(drawn="#040404", light="#ffffff", dark="#161c25"),
        "low-rank": Role(drawn="#050505", light="#0067a5", dark="#56b4e9"),
        "optimised": Role(drawn="#060606", light="#b3500a", dark="#f0a04b"),
        "absmax": Role(drawn="#070707", light="#5a5f66", dark="#b4bac3"),
        "affine": Role(drawn="#080808", light="#a23b7e", dark="#de8fc0"),
        "mixed": Role(drawn="#090909", light="#00735a", dark="#3fc79d"),
        "qlora": Role(drawn="#0a0a0a", light="#6b4fb3", dark="#b39ae8"),
        # They fill cells, paler for smaller differences.
        "faster": Role(drawn="#0b0b0b", light="#00886a", dark="#2fae88"),
        "slower": Role(drawn="#0c0c0c", light="#d4520f", dark="#e0703a"),
    }
)
INK, MUTED, GRID, PAPER, FASTER, SLOWER = (
    ROLES[name].drawn for name in ("ink", "muted", "grid", "paper", "faster", "slower")
)

# matplotlib types the keys as a literal of every setting it has.
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lords_bench",
    "font.family": "sans-serif",
    "font.size": 11,
    # A dollar sign in a name is one.
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "errorbar.capsize": 0,
}


def draw(name: str, height_points: float, paint: Callable[[Figure], None]) -> str:
    """An `<svg>` element of the given height and of `WIDTH_POINTS`, painted by a function of a bare figure."""
    with mpl.rc_context(), warnings.catch_warnings():
        # Text stays text: whether matplotlib's own font has a character decides nothing.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(WIDTH_POINTS / POINTS_PER_INCH, height_points / POINTS_PER_INCH), facecolor="none")
        paint(figure)
        for text in figure.findobj(Text):
            text.set_text(one_line(text.get_text()))
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return themed(_embeddable(visible(buffer.getvalue()), name))


def themed(svg: str) -> str:
    """The SVG with every drawing colour replaced by `var(--role, light value)`."""
    for name, role in ROLES.items():
        svg = svg.replace(role.drawn, f"var(--{name}, {role.light})")
    return svg


def css_variables(theme: str) -> str:
    """`--role: value;` declarations of the `light` or `dark` theme."""
    return " ".join(f"--{name}: {getattr(role, theme)};" for name, role in ROLES.items())


def standalone(svg: str) -> str:
    """An embedded figure as a file of its own, which follows the reader's light or dark setting."""
    style = (
        f"<style>:root {{ {css_variables('light')} }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {css_variables('dark')} }} }}</style>"
    )
    end = svg.index(">") + 1
    return f"{svg[:end]}\n{style}{svg[end:]}"


def _embeddable(svg: str, name: str) -> str:
    """The bare `<svg>` element: ids made unique to the figure, coordinates rounded, page font, scalable."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r'(style="font: )([^;"]*?)(\d+(?:\.\d+)?)px [^;"]*', r"\1\2\3px system-ui, sans-serif", svg)
    svg = svg.replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    svg = re.sub(
        r'<svg ([^>]*?)height="[^"]*"', rf'<svg id="{name}" role="img" aria-labelledby="{name}-title" \1', svg, count=1
    )
    return re.sub(r'(<svg [^>]*?)width="[^"]*"', r'\1width="100%"', svg, count=1)


def spread(wanted: Sequence[float], *, gap: float) -> list[float]:
    """Positions nearest to those wanted, at least `gap` apart, in the same order; overlapping ones move as a block."""
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    blocks: list[tuple[float, int]] = []  # (mean of wanted first position, count)
    for index in order:
        start, count = wanted[index], 1
        while blocks and blocks[-1][0] + gap * blocks[-1][1] > start:
            before, members = blocks.pop()
            start = (before * members + (start - gap * members) * count) / (members + count)
            count += members
        blocks.append((start, count))
    positions = [start + gap * step for start, count in blocks for step in range(count)]
    placed = [0.0] * len(wanted)
    for index, position in zip(order, positions, strict=True):
        placed[index] = position
    return placed
