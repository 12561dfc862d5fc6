"""Predicted bounds: hand-computed cycles of short loops."""

import pytest

from lords_bench.static.bounds import GPU_MODELS, PIPE_RATES, GpuModel, predict
from lords_bench.static.sass import Instruction, LoopCounts

GPU = GpuModel(name="test", arch="sm_80", bandwidth_gbps=400, sm_count=100, sm_clock_ghz=1.0)


def loop(*opcodes: str, units: float = 1) -> LoopCounts:
    body = tuple(Instruction(address=16 * i, opcode=opcode, operands="") for i, opcode in enumerate(opcodes))
    return LoopCounts(instructions=body, units=units)


def test_memory_cycles_are_bytes_of_32_weights_over_the_share_of_a_partition() -> None:
    # 32 weights of 4 bits are 16 bytes; 400 GB/s over 400 partitions at 1 GHz is 1 byte per cycle.
    assert predict(loop("PRMT"), GPU, bits_per_weight=4).memory_cycles == 16


def test_each_pipe_is_charged_its_own_rate() -> None:
    body = loop("PRMT", "FFMA", "HFMA2.BF16_V2", "HFMA2.MMA", "IMAD", "HMMA.16816.F32.BF16", "HMMA.1688.F32", "I2F")

    bound = predict(body, GPU, bits_per_weight=4)

    assert bound.issue_cycles == 8
    assert bound.alu_cycles == 2
    assert bound.fma_cycles == 2 + 2 + 1 + 2
    assert bound.tensor_cycles == 8 + 4
    assert bound.convert_cycles == 8


def test_shared_memory_is_one_port_for_four_partitions() -> None:
    bound = predict(loop("LDSM.16.M88.4", "STS", units=2), GPU, bits_per_weight=4)

    assert bound.shared_cycles == (4 * 4 + 4 * 1) / 2


def test_wgmma_is_charged_by_its_columns_and_at_least_16_cycles() -> None:
    wide = predict(loop("HGMMA.64x128x16.F32.BF16"), GPU, bits_per_weight=4)
    narrow = predict(loop("HGMMA.64x16x16.F32.BF16"), GPU, bits_per_weight=4)

    assert (wide.tensor_cycles, wide.shared_cycles) == (64, 32)
    assert narrow.tensor_cycles == 16


def test_a_kernel_is_memory_bound_exactly_where_no_pipe_takes_longer() -> None:
    light = predict(loop(*["PRMT"] * 8), GPU, bits_per_weight=4)
    heavy = predict(loop(*["PRMT"] * 9), GPU, bits_per_weight=4)

    assert (light.bound_by, light.pipe_over_memory) == ("memory", 1)
    assert (heavy.bound_by, heavy.slowest_pipe, heavy.pipe_over_memory) == ("alu", "alu", pytest.approx(18 / 16))


def test_every_gpu_model_has_pipe_rates() -> None:
    assert {gpu.arch for gpu in GPU_MODELS} <= set(PIPE_RATES)
