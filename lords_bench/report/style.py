"""How a case is drawn on the accuracy page.

Colour tells the scale field, fill tells whether calibration data was used, shape tells whether levels were learned.
"""

from dataclasses import dataclass

from lords_bench.records import BenchRecord
from lords_bench.report.svg import ROLES


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
