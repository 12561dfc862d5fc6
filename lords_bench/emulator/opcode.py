"""`Opcode` and `Operation`: an opcode's parts, and what an arithmetic one does to register bits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from lords_bench.emulator.faults import Bits
from lords_bench.emulator.formats import is_kind
from lords_bench.errors import EmulationError


@dataclass(frozen=True, slots=True)
class Opcode:
    """An opcode taken apart.

    Attributes:
        text: `mul.wide.s32`.
        name: `mul`.
        kinds: types in order, `s32`.
        flags: every other modifier in order, `wide`.
    """

    text: str
    name: str
    kinds: tuple[str, ...]
    flags: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Opcode":
        """Take a text apart."""
        name, *rest = text.split(".")
        return cls(text, name, tuple(filter(is_kind, rest)), tuple(part for part in rest if not is_kind(part)))

    @property
    def kind(self) -> str:
        """The last type, which is that of the operands.

        Raises:
            EmulationError: it has none.
        """
        if not self.kinds:
            self.refuse()
        return self.kinds[-1]

    def allow(self, *flags: str) -> None:
        """Refuse any other flag: what is not known must not be taken for what is.

        Raises:
            EmulationError: it has another one.
        """
        if not set(self.flags) <= set(flags):
            self.refuse()

    def refuse(self) -> NoReturn:
        """Say that the instruction is not known.

        Raises:
            EmulationError: always.
        """
        raise unknown(self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What an arithmetic instruction does.

    Attributes:
        kinds: types of the operands behind the destination.
        function: registers to the result's bits.
    """

    kinds: tuple[str, ...]
    function: Callable[..., Bits]


_MISSING = {
    "tcgen05": "tensor memory of Blackwell",
    "mbarrier": "transaction barriers",
    "setmaxnreg": "warp specialisation",
    "elect": "warp specialisation",
    "griddepcontrol": "programmatic dependent launch",
    "call": "calls of functions",
}


def unknown(opcode: str) -> EmulationError:
    """The refusal of an instruction, by name and, where there is one, with the feature that it belongs to."""
    bulk = "TMA, bulk copies" if opcode.startswith("cp.async.bulk") else None
    feature = bulk or _MISSING.get(opcode.partition(".")[0])
    why = f" ({feature}, which is missing)" if feature else ""
    return EmulationError(
        f"PTX instruction {opcode!r} is not emulated{why}; known is what Triton emits for sm_80, 89, 90 and 120"
    )
