"""Colours of the device report: LoRDS has the strongest one, every baseline keeps its own in every figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.report.svg import ROLES


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """How a method is drawn."""

    role: str
    dash: str
    marker: str

    @property
    def color(self) -> str:
        """The colour to draw with."""
        return ROLES[self.role].drawn


_LINES: Mapping[str, Line] = MappingProxyType(
    {
        "lords": Line(role="low-rank", dash="-", marker="o"),
        "dense": Line(role="absmax", dash="-", marker="s"),
        "nf-block": Line(role="mixed", dash="-", marker="^"),
        "nf-dequantize": Line(role="mixed", dash="--", marker="v"),
        "int-block": Line(role="affine", dash="-", marker="^"),
        "tinygemm": Line(role="affine", dash="--", marker="D"),
        "gemlite": Line(role="affine", dash=":", marker="P"),
        "bitsandbytes": Line(role="optimised", dash="-", marker="D"),
        "bitsandbytes-dequantize": Line(role="optimised", dash="--", marker="v"),
        "qlora-fused": Line(role="qlora", dash="-", marker="^"),
        "qlora-peft": Line(role="qlora", dash="--", marker="v"),
        "qlora-merged": Line(role="qlora", dash=":", marker="P"),
    }
)


def line_of(method: str) -> Line:
    """A method's line; a LoRDS kernel by itself has LoRDS' colour, dotted."""
    return _LINES.get(method, Line(role="low-rank", dash=":", marker="."))
