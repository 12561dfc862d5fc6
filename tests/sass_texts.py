"""SASS as the disassembler prints it, with control fields as the assembler writes them."""

from collections.abc import Sequence
from dataclasses import dataclass

_NO_SCOREBOARD = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """An instruction with its scheduling."""

    text: str
    stall: int = 1
    sets: int = _NO_SCOREBOARD
    waits: Sequence[int] = ()

    @property
    def control(self) -> int:
        """Second half of the encoding."""
        mask = sum(1 << place for place in self.waits)
        return (self.stall | self.sets << 5 | _NO_SCOREBOARD << 8 | mask << 11) << 41


def line(text: str, **schedule: object) -> Line:
    """An instruction."""
    return Line(text=text, **schedule)  # type: ignore[arg-type]


def assembly(*lines: Line) -> str:
    """The text, the first instruction at address 0 and each of 16 bytes."""
    found = []
    for place, one in enumerate(lines):
        found += [f"        /*{16 * place:04x}*/    {one.text} ;    /* 0x0000000000000000 */"]
        found += [f"                                        /* {one.control:#018x} */"]
    return "\n".join(found)
