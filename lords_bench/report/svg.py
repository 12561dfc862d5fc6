"""Figures as SVG text that is the same for the same rows, and fits into a light or a dark page.

Fixed sizes and positions, a fixed salt for ids, no dates, coordinates rounded, and matplotlib's defaults whatever the
user's own settings are. Text stays text, so that it is searchable and follows the page's font. Colours are CSS
variables with a fallback. The bytes still depend on matplotlib's version, which is therefore pinned.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from lords_bench.report.style import ROLES, Role, css_variables
from lords_bench.text import one_line, visible

POINTS_PER_INCH = 72
WIDTH_POINTS = 780
INK, MUTED, GRID, PAPER = (ROLES[name].drawn for name in ("ink", "muted", "grid", "paper"))

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


def draw(name: str, height_points: float, paint: Callable[[Figure], None], *, roles: Mapping[str, Role] = ROLES) -> str:
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
    return themed(_embeddable(visible(buffer.getvalue()), name), roles)


def themed(svg: str, roles: Mapping[str, Role] = ROLES) -> str:
    """The SVG with every drawing colour replaced by `var(--role, light value)`."""
    for name, role in roles.items():
        svg = svg.replace(role.drawn, f"var(--{name}, {role.light})")
    return svg


def standalone(svg: str, roles: Mapping[str, Role] = ROLES) -> str:
    """An embedded figure as a file of its own, which follows the reader's light or dark setting."""
    style = (
        f"<style>:root {{ {css_variables('light', roles)} }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {css_variables('dark', roles)} }} }}</style>"
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
