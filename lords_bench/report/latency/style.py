"""Colours of the device report: LoRDS has the strongest one, every baseline keeps its own in every figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.report.style import ROLES, Role

# The first four are as on every page; `faster` and `slower` fill cells, paler for smaller differences.
LATENCY_ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "ink": ROLES["ink"],
        "muted": ROLES["muted"],
        "grid": ROLES["grid"],
        "paper": ROLES["paper"],
        "lords": Role(drawn="#050505", light="#0067a5", dark="#56b4e9"),
        "dense": Role(drawn="#060606", light="#5a5f66", dark="#b4bac3"),
        "blocks": Role(drawn="#070707", light="#00735a", dark="#3fc79d"),
        "integers": Role(drawn="#080808", light="#a23b7e", dark="#de8fc0"),
        "library": Role(drawn="#090909", light="#b3500a", dark="#f0a04b"),
        "qlora": Role(drawn="#0a0a0a", light="#6b4fb3", dark="#b39ae8"),
        "faster": Role(drawn="#0b0b0b", light="#00886a", dark="#2fae88"),
        "slower": Role(drawn="#0c0c0c", light="#d4520f", dark="#e0703a"),
    }
)
INK, MUTED, GRID, PAPER, FASTER, SLOWER = (
    LATENCY_ROLES[name].drawn for name in ("ink", "muted", "grid", "paper", "faster", "slower")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """How a method is drawn."""

    role: str
    dash: str
    marker: str

    @property
    def color(self) -> str:
        """The colour to draw with."""
        return LATENCY_ROLES[self.role].drawn


_LINES: Mapping[str, Line] = MappingProxyType(
    {
        "lords": Line(role="lords", dash="-", marker="o"),
        "dense": Line(role="dense", dash="-", marker="s"),
        "nf-block": Line(role="blocks", dash="-", marker="^"),
        "nf-dequantize": Line(role="blocks", dash="--", marker="v"),
        "int-block": Line(role="integers", dash="-", marker="^"),
        "tinygemm": Line(role="integers", dash="--", marker="D"),
        "gemlite": Line(role="integers", dash=":", marker="P"),
        "bitsandbytes": Line(role="library", dash="-", marker="D"),
        "bitsandbytes-dequantize": Line(role="library", dash="--", marker="v"),
        "qlora-fused": Line(role="qlora", dash="-", marker="^"),
        "qlora-peft": Line(role="qlora", dash="--", marker="v"),
        "qlora-merged": Line(role="qlora", dash=":", marker="P"),
    }
)


def line_of(method: str) -> Line:
    """A method's line; a LoRDS kernel by itself has LoRDS' colour, dotted."""
    return _LINES.get(method, Line(role="lords", dash=":", marker="."))
