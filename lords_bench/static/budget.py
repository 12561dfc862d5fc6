"""`Budget`: what a kernel's machine code must not exceed.

Warp instructions per 32 weights are the numbers that decide whether a kernel on a GPU with fast memory waits for memory
or for its own decoding; the limits are what a straightforward prototype of each kernel reached, rounded up.
No kernel may spill, whatever its budget says; that rule is not a field.

Counts of instructions belong to the compiler that they were set with (`COUNTED_WITH_TRITON`); with another one a budget
asks for what must hold everywhere: tensor cores, wide loads, no weight through shared memory.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType

from lords_bench.errors import UsageError

# The release whose machine code the limits on instructions were set for, on every target.
COUNTED_WITH_TRITON = "3.9.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Limits on the main loop of a kernel; None is no limit.

    Attributes:
        max_instructions_per_32_weights: issue slots of a warp per 32 weights that it decodes.
        tensor_core: whether a tensor-core (matrix) instruction must be there.
        memory_bound: on every GPU model with known rates, no pipe may be predicted to take longer than memory.
        code_load_bytes: least bytes that a thread of an NVIDIA GPU reads of packed codes at once.
        max_shared_store_bytes_per_weight: bytes stored to shared memory per weight in the loop. Decoded weights that
            take that way cost 1 (int8) or 2 (16 bit) bytes each; 0.5 lets the reduction of results through.
    """

    max_instructions_per_32_weights: float | None = None
    tensor_core: bool = True
    memory_bound: bool = False
    code_load_bytes: int = 16
    max_shared_store_bytes_per_weight: float | None = 0.5


BUDGETS = MappingProxyType(
    {
        "decode-4bit": Budget(max_instructions_per_32_weights=2.3, memory_bound=True),
        "decode-3bit": Budget(max_instructions_per_32_weights=1.9, memory_bound=True),
        "decode-2bit": Budget(max_instructions_per_32_weights=1.4, memory_bound=True),
        "decode-int4": Budget(max_instructions_per_32_weights=1.45, memory_bound=True),
        "decode-int3": Budget(max_instructions_per_32_weights=1.9, memory_bound=True),
        "decode-int2": Budget(max_instructions_per_32_weights=1.13, memory_bound=True),
        "small-m-4bit-bf16": Budget(max_instructions_per_32_weights=4.4),
        "small-m-4bit-fp16-scale": Budget(max_instructions_per_32_weights=3.8),
        # One tile per program: nothing is a loop, and what is counted is the whole program with all that a loop would
        # share out (A and x loaded, P made, partial sums reduced through shared memory). That is what a 4096×4096 layer
        # launches on GPUs of 132 and more multiprocessors. It misses the aim by name: with two to five times the
        # instructions of the loop, one token waits for the issue slots there, not for memory.
        "one-tile-4bit": Budget(max_instructions_per_32_weights=8.0, max_shared_store_bytes_per_weight=None),
        "one-tile-3bit": Budget(max_instructions_per_32_weights=9.7, max_shared_store_bytes_per_weight=None),
        "one-tile-2bit": Budget(max_instructions_per_32_weights=6.1, max_shared_store_bytes_per_weight=None),
        "one-tile-int4": Budget(max_instructions_per_32_weights=7.1, max_shared_store_bytes_per_weight=None),
        "one-tile-int3": Budget(max_instructions_per_32_weights=9.5, max_shared_store_bytes_per_weight=None),
        "one-tile-int2": Budget(max_instructions_per_32_weights=6.0, max_shared_store_bytes_per_weight=None),
        "one-tile-4bit-bf16": Budget(max_instructions_per_32_weights=6.5, max_shared_store_bytes_per_weight=None),
        "one-tile-4bit-fp16-scale": Budget(max_instructions_per_32_weights=6.0, max_shared_store_bytes_per_weight=None),
        "one-tile": Budget(max_shared_store_bytes_per_weight=None),
        "fused": Budget(),
        "through-shared-memory": Budget(max_shared_store_bytes_per_weight=None),
        # Exact float32 products run on the FMA pipe, with codes read 4 or 8 bytes at a time.
        "float32": Budget(tensor_core=False, code_load_bytes=4, max_shared_store_bytes_per_weight=None),
        "elementwise": Budget(tensor_core=False, max_shared_store_bytes_per_weight=None),
    }
)


def named_budget(name: str, *, triton: str = COUNTED_WITH_TRITON) -> Budget:
    """The budget of that name for a version of Triton: without its counts unless they were set with that version.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in BUDGETS:
        raise UsageError(f"unknown budget {name!r}; known: {', '.join(BUDGETS)}")
    if triton != COUNTED_WITH_TRITON:
        return replace(BUDGETS[name], max_instructions_per_32_weights=None, memory_bound=False)
    return BUDGETS[name]
