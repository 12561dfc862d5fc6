"""AMD assembly text to the facts that matter: spills, registers, shared memory, matrix instructions.

The compiler's own metadata (AMDGPU code object, `.amdhsa` and note records) carries the resources; matrix instructions
are those of the MFMA (CDNA) and WMMA (RDNA) families. Compiled, not measured: nothing here predicts a time.
"""

import re
from collections import Counter
from dataclasses import dataclass

from lords_bench.errors import RecordError

_FIELD = re.compile(r"^\s*\.(\w+):\s+(\d+)\s*$", re.MULTILINE)
_MATRIX = re.compile(r"^\s*(v_(?:smfmac|mfma|wmma|swmmac)_\w+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class AmdFacts:
    """What the assembly of one kernel says.

    Attributes:
        vector_registers: VGPRs, accumulation registers included where the architecture shares the file.
        spilled_registers: vector and scalar registers kept in scratch memory.
        scratch_bytes: private memory per work item.
        matrix_opcodes: matrix instruction to number, over the whole program.
    """

    vector_registers: int
    spilled_registers: int
    scratch_bytes: int
    shared_bytes: int
    matrix_opcodes: dict[str, int]


def parse_amdgcn(text: str) -> AmdFacts:
    """Facts of AMD assembly as Triton keeps it.

    Raises:
        RecordError: the kernel metadata is missing.
    """
    fields = {name: int(value) for name, value in _FIELD.findall(text)}
    needed = ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
    missing = [name for name in needed if name not in fields]
    if missing:
        raise RecordError(f"AMD assembly of {len(text)} characters lacks {', '.join(missing)}; is it a code object's?")
    return AmdFacts(
        vector_registers=fields["vgpr_count"],
        spilled_registers=fields["vgpr_spill_count"] + fields["sgpr_spill_count"],
        scratch_bytes=fields["private_segment_fixed_size"],
        shared_bytes=fields.get("group_segment_fixed_size", 0),
        matrix_opcodes=dict(Counter(_MATRIX.findall(text))),
    )
