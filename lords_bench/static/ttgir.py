"""Triton's GPU dialect (TTGIR) to the facts that machine code no longer shows: layouts of products, loads and decoders.

- A product (`tt.dot`) whose result has a blocked layout is computed without tensor cores, element by element: a silent
  fallback, which happens when a tile is smaller than every matrix instruction.
- The byte decoders look up four codes at once, so they are right only where four consecutive columns of a row lie in
  one register: an operand layout with kWidth 4, or a blocked layout with four columns per thread.
- A load of packed codes is as wide as the consecutive elements that its layout gives to one thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ALIAS = re.compile(r"^(#\w+) = (#ttg\.\w+<\{.*\}>)", re.MULTILINE)
_SCALAR_DOT = re.compile(r"\btt\.dot\b[^\n]*-> tensor<[^\n]*?, (#blocked\d*)>")
_ANY_DOT = re.compile(r"\b(?:tt\.dot|ttng\.warp_group_dot|ttng\.tc_gen5_mma)\b(?!_)")
_BYTE_ASM = re.compile(r"packed_element = 4 : i32[^\n]*? : tensor<[\dx]+xi8, (.*?)>(?:,| ->)")
_CODE_LOAD = re.compile(
    r"(?:tt\.load|ttg\.async_copy_global_to_local)\b[^\n]*tensor<[\dx]+x!tt\.ptr<(i8|i16)>, (#\w+)>"
)
_SIZE_PER_THREAD = re.compile(r"sizePerThread = \[([\d, ]+)\]")
_ORDER = re.compile(r"order = \[([\d, ]+)\]")
_K_WIDTH = re.compile(r"kWidth = (\d+)")
_REGISTER_BASES = re.compile(r"register = \[((?:\[[\d, ]+\](?:, )?)*)\]")
_BYTES = {"i8": 1, "i16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutFacts:
    """What the layouts of one compiled kernel say.

    Attributes:
        products: `tt.dot` and its kin.
        scalar_products: those computed without tensor cores.
        byte_decoder_columns: for every call of a byte decoder, consecutive columns of a row that share a register.
        code_load_bytes: for every load of packed codes, consecutive bytes that one thread reads.
    """

    products: int
    scalar_products: int
    byte_decoder_columns: tuple[int, ...]
    code_load_bytes: tuple[int, ...]


def parse_ttgir(text: str) -> LayoutFacts:
    """Facts of TTGIR as Triton prints it; tables of a portable decoder count as codes only where they are tiles."""
    aliases = dict(_ALIAS.findall(text))
    loads = [(kind, name) for kind, name in _CODE_LOAD.findall(text) if not _is_table_gather(aliases.get(name, ""))]
    return LayoutFacts(
        products=len(_ANY_DOT.findall(text)),
        scalar_products=len(_SCALAR_DOT.findall(text)),
        byte_decoder_columns=tuple(consecutive_columns(name, aliases) for name in _BYTE_ASM.findall(text)),
        code_load_bytes=tuple(_BYTES[kind] * consecutive_columns(name, aliases) for kind, name in loads),
    )


def _is_table_gather(layout: str) -> bool:
    """A look-up in a table is loaded where its codes lie, in an operand's or a product's layout."""
    return "mma" in layout or "wmma" in layout


def consecutive_columns(layout: str, aliases: Mapping[str, str]) -> int:
    """Consecutive elements along the last dimension that a thread holds in a layout, given by text or by alias."""
    full = aliases.get(layout.strip(), layout)
    if match := _K_WIDTH.search(full):
        return int(match[1])
    if match := _REGISTER_BASES.search(full):
        return _run_of_bases(match[1])
    sizes, order = _SIZE_PER_THREAD.search(full), _ORDER.search(full)
    if sizes is None or order is None:
        return 1
    per_dimension = [int(size) for size in sizes[1].split(",")]
    fastest = int(order[1].split(",")[0])
    return per_dimension[-1] if fastest == len(per_dimension) - 1 else 1


def _run_of_bases(bases: str) -> int:
    """Of a linear layout: 2^i if the first i register bases step through the last dimension as 1, 2, 4 and so on."""
    run = 1
    for basis in re.findall(r"\[([\d, ]+)\]", bases):
        *others, last = (int(number) for number in basis.split(","))
        if any(others) or last != run:
            break
        run *= 2
    return run
