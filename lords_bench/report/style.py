"""Colours and marks of the report: one meaning each, readable in colour-blindness, in light, dark and print.

Colour tells the scale field (Okabe and Ito's palette, "Color Universal Design", 2008), fill tells whether calibration
data was used, shape tells whether levels were learned; every mark also carries its name. Plots name colours by role;
the page's style sheet gives each role a value for light and one for dark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.records import BenchRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A colour: the value a plot is drawn with, and the values shown on light and on dark ground."""

    drawn: str
    light: str
    dark: str


# `drawn` values are placeholders that differ from each other; `plots.themed` puts CSS variables in their place.
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
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How one case is drawn."""

    role: str
    marker: str
    is_filled: bool

    @property
    def color(self) -> str:
        """The colour to draw with."""
        return ROLES[self.role].drawn


def mark_of(record: BenchRecord) -> Mark:
    """Colour by scale field, shape by levels, fill by calibration."""
    if record.spec is None:
        return Mark(role="mixed" if record.mixed else "ink", marker="s", is_filled=record.needs_calibration)
    role = "low-rank" if record.spec.is_low_rank else str(record.spec.scales)
    marker = "D" if record.spec.levels == "learned" else "o"
    if record.spec.scales == "low-rank-paper":
        marker = "^"
    return Mark(role=role, marker=marker, is_filled=record.needs_calibration)


def css_variables(theme: str, roles: Mapping[str, Role] = ROLES) -> str:
    """`--role: value;` declarations of the `light` or `dark` theme."""
    return " ".join(f"--{name}: {getattr(role, theme)};" for name, role in roles.items())
