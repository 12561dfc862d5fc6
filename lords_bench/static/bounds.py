"""Predicted bounds of a kernel on a GPU, from the machine code of its main loop. Predictions, never measurements.

Each pipe alone is asked how many cycles of one SM sub-partition it needs per 32 weights; memory likewise, from the
bytes of the stored weight. The slowest pipe divided by memory is the ratio: below 1 the kernel can be bound by memory.
Real kernels overlap pipes imperfectly, so above 0.8 read "near the edge".

Throughputs are from the CUDA C++ Programming Guide (arithmetic instructions per compute capability) and the vendors'
architecture papers. Not confirmed on silicon here: tensor-core rates of mma.sync on sm_90 and sm_120 (taken as those
of sm_80 and sm_89), wgmma below N = 32, and shared-memory contention. sm_100 has no entry: its mma.sync rate is not
known to us, and an unknown rate gives no prediction.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from lords_bench.static.sass import Instruction, LoopCounts, Pipe

_WARPS = 32
_PARTITIONS = 4
_SHARED_BYTES_PER_CYCLE = 128
_MATRIX_N = re.compile(r"64x(\d+)x")


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuModel:
    """Published figures of one GPU, for predictions only; a measured run uses measured ceilings.

    Attributes:
        arch: the target whose machine code it runs.
        bandwidth_gbps: device memory, 10^9 bytes per second.
        sm_clock_ghz: boost clock.
    """

    name: str
    arch: str
    bandwidth_gbps: float
    sm_count: int
    sm_clock_ghz: float

    @property
    def bytes_per_partition_cycle(self) -> float:
        """Memory bytes that one SM sub-partition can be fed per cycle."""
        return self.bandwidth_gbps / (self.sm_count * _PARTITIONS * self.sm_clock_ghz)


GPU_MODELS = (
    GpuModel(name="RTX 4090", arch="sm_89", bandwidth_gbps=1008, sm_count=128, sm_clock_ghz=2.52),
    GpuModel(name="A100", arch="sm_80", bandwidth_gbps=1940, sm_count=108, sm_clock_ghz=1.41),
    GpuModel(name="RTX 3090", arch="sm_86", bandwidth_gbps=936, sm_count=82, sm_clock_ghz=1.695),
    GpuModel(name="L40S", arch="sm_89", bandwidth_gbps=864, sm_count=142, sm_clock_ghz=2.52),
    GpuModel(name="H100", arch="sm_90", bandwidth_gbps=3350, sm_count=132, sm_clock_ghz=1.98),
    GpuModel(name="H200", arch="sm_90", bandwidth_gbps=4300, sm_count=132, sm_clock_ghz=1.98),
    GpuModel(name="RTX 5090", arch="sm_120", bandwidth_gbps=1792, sm_count=170, sm_clock_ghz=2.40),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipeRates:
    """Cycles of one SM sub-partition per warp instruction.

    Attributes:
        fp32: FFMA, FMUL, FADD.
        half2, bfloat2: HFMA2 and its kin on pairs of float16, of bfloat16.
        hmma_fp32, hmma_fp16: m16n8k16 with that accumulator; m16n8k8 takes half.
        imma: m16n8k32; m16n8k16 takes half.
    """

    fp32: float
    half2: float
    bfloat2: float
    hmma_fp32: float
    hmma_fp16: float
    imma: float
    alu: float = 2.0
    integer_multiply: float = 2.0
    convert: float = 8.0


_CONSUMER = PipeRates(fp32=1, half2=2, bfloat2=2, hmma_fp32=32, hmma_fp16=16, imma=16)
PIPE_RATES = MappingProxyType(
    {
        "sm_80": PipeRates(fp32=2, half2=1, bfloat2=2, hmma_fp32=8, hmma_fp16=8, imma=8),
        "sm_86": _CONSUMER,
        "sm_89": _CONSUMER,
        "sm_90": PipeRates(fp32=1, half2=1, bfloat2=1, hmma_fp32=8, hmma_fp16=8, imma=8),
        "sm_120": _CONSUMER,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedBound:
    """Cycles of one SM sub-partition per 32 weights, each resource alone. A prediction from machine code.

    Attributes:
        memory_cycles: reading the stored weight (bits per weight, scale factors included) from device memory.
    """

    gpu: str
    issue_cycles: float
    alu_cycles: float
    fma_cycles: float
    shared_cycles: float
    tensor_cycles: float
    convert_cycles: float
    memory_cycles: float

    @property
    def slowest_pipe(self) -> str:
        """Name of the resource on the chip that needs the most cycles."""
        cycles = self.on_chip_cycles()
        return max(cycles, key=lambda name: cycles[name])

    @property
    def pipe_over_memory(self) -> float:
        """Cycles of the slowest pipe divided by memory's: below 1 the kernel can be bound by memory."""
        return max(self.on_chip_cycles().values()) / self.memory_cycles

    @property
    def bound_by(self) -> str:
        """`memory`, or the slowest pipe."""
        return "memory" if self.pipe_over_memory <= 1 else self.slowest_pipe

    def on_chip_cycles(self) -> dict[str, float]:
        """Name of every resource on the chip to its cycles."""
        return {
            "issue": self.issue_cycles,
            "alu": self.alu_cycles,
            "fma": self.fma_cycles,
            "shared": self.shared_cycles,
            "tensor": self.tensor_cycles,
            "convert": self.convert_cycles,
        }


def predict(loop: LoopCounts, gpu: GpuModel, *, bits_per_weight: float) -> PredictedBound:
    """Predicted cycles of a kernel's main loop on a GPU.

    Args:
        loop: main loop of the machine code for `gpu.arch`.
        gpu: a model whose architecture has an entry in `PIPE_RATES`.
        bits_per_weight: bits read per weight, scale factors included.
    """
    rates = PIPE_RATES[gpu.arch]

    def per_32_weights(cycles: Callable[[Instruction], float]) -> float:
        return sum(map(cycles, loop.instructions)) / loop.units

    def on(pipe: Pipe, cycles: float) -> float:
        return per_32_weights(lambda instruction: cycles if instruction.pipe is pipe else 0)

    return PredictedBound(
        gpu=gpu.name,
        issue_cycles=loop.instructions_per_32_weights,
        alu_cycles=on(Pipe.ALU, rates.alu),
        fma_cycles=per_32_weights(lambda instruction: _fma_cycles(instruction, rates)),
        shared_cycles=per_32_weights(_shared_cycles),
        tensor_cycles=per_32_weights(lambda instruction: _tensor_cycles(instruction, rates)),
        convert_cycles=on(Pipe.CONVERT, rates.convert),
        memory_cycles=bits_per_weight / 8 * _WARPS / gpu.bytes_per_partition_cycle,
    )


def _fma_cycles(instruction: Instruction, rates: PipeRates) -> float:
    if instruction.pipe is not Pipe.FMA:
        return 0
    if instruction.mnemonic in ("IMAD", "IMUL"):
        return rates.integer_multiply
    if instruction.mnemonic in ("HFMA2", "HMUL2", "HADD2"):
        return rates.bfloat2 if "BF16" in instruction.opcode else rates.half2
    return rates.fp32


def _tensor_cycles(instruction: Instruction, rates: PipeRates) -> float:
    if instruction.pipe is not Pipe.TENSOR:
        return 0
    if instruction.mnemonic == "HMMA":
        cycles = rates.hmma_fp16 if instruction.opcode.startswith("HMMA.16816.F16") else rates.hmma_fp32
        return cycles if "16816" in instruction.opcode else cycles / 2
    if instruction.mnemonic == "IMMA":
        return rates.imma if "16832" in instruction.opcode else rates.imma / 2
    # wgmma 64×N×16: N/2 cycles of each of the four tensor cores that share it, and no less than 16.
    return max(_wgmma_columns(instruction) / 2, 16)


def _shared_cycles(instruction: Instruction) -> float:
    """Shared-memory cycles, times four because four sub-partitions share the port."""
    if instruction.mnemonic in ("HGMMA", "IGMMA", "QGMMA"):
        # The activation tile (N columns of 32 bytes) is read once for the four warps of the group.
        return _wgmma_columns(instruction) * 32 / _SHARED_BYTES_PER_CYCLE
    if instruction.mnemonic == "SHFL":
        return _PARTITIONS
    if instruction.pipe is Pipe.SHARED or instruction.mnemonic in ("LDG", "LDGSTS"):
        return _PARTITIONS * instruction.bytes_per_thread * _WARPS / _SHARED_BYTES_PER_CYCLE
    return 0


def _wgmma_columns(instruction: Instruction) -> int:
    match = _MATRIX_N.search(instruction.opcode)
    return int(match[1]) if match else 0
