"""`Budget`: what a kernel's machine code must not exceed.

Warp instructions per 32 weights are the numbers that decide whether a kernel on a GPU with fast memory waits for memory
or for its own decoding; the limits are what a straightforward prototype of each kernel reached, rounded up.
No kernel may spill, whatever its budget says; that rule is not a field.

Counts of instructions belong to the compiler that they were set with (`COUNTED_WITH_TRITON`); with another one a budget
asks for what must hold everywhere: tensor cores, wide loads, no weight through shared memory.
"""

from dataclasses import dataclass, replace

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

    def with_triton(self, version: str) -> "Budget":
        """The budget for a version of Triton: without its counts unless they were set with that version."""
        if version == COUNTED_WITH_TRITON:
            return self
        return replace(self, max_instructions_per_32_weights=None, memory_bound=False)


FUSED = Budget()
THROUGH_SHARED_MEMORY = Budget(max_shared_store_bytes_per_weight=None)
# Exact float32 products run on the FMA pipe, with codes read 4 or 8 bytes at a time.
FLOAT32 = Budget(tensor_core=False, code_load_bytes=4, max_shared_store_bytes_per_weight=None)
ELEMENTWISE = Budget(tensor_core=False, max_shared_store_bytes_per_weight=None)


def one_tile(limit: float | None = None) -> Budget:
    """Of a launch that has one tile per program: nothing is a loop, and what is counted is the whole program.

    With all that a loop would share out: A and x loaded, P made, partial sums reduced through shared memory. That is
    what a 4096×4096 layer launches on GPUs of 132 and more multiprocessors. It misses the aim by name: with two to five
    times the instructions of the loop, one token waits for the issue slots there, not for memory.
    """
    return Budget(max_instructions_per_32_weights=limit, max_shared_store_bytes_per_weight=None)
