"""Costs are what no launch can do without, whatever a kernel does besides: the ceiling must believe true times."""

import pytest
import torch

from lords_bench.kernel_check import make_case
from lords_bench.kernels.common.prepared import prepare
from lords_bench.kernels.common.prepared_blocks import LoraAdapter, PreparedBlockwise, prepare_blockwise
from lords_bench.products.registry import KERNELS
from lords_bench.records.measurement import Measurement, Peaks
from lords_bench.timing.candidate import Candidate
from lords_bench.timing.ceiling import impossible

M, N, K, BITS = 4, 64, 512, 4
CASE = make_case(M, N, K, bits=BITS, rank=16, dtype=torch.bfloat16, device=torch.device("cpu"))
LORDS = prepare(CASE, torch.bfloat16, decoder="table16")
CODES = N * K * BITS // 8
X = M * K * 2


def blockwise(adapter: LoraAdapter | None) -> PreparedBlockwise:
    return prepare_blockwise(
        CASE.packed, torch.ones(N, K // 64, dtype=torch.float16), CASE.levels_L, k=K, bits=BITS, block=64,
        dtype=torch.bfloat16, decoder="table16", adapter=adapter,
    )  # fmt: skip


def adapter() -> LoraAdapter:
    zeros = torch.zeros
    return LoraAdapter(a_RK=zeros(8, K, dtype=torch.bfloat16), b_NR=zeros(N, 8, dtype=torch.bfloat16), scaling=1.0)


@pytest.mark.parametrize("name", KERNELS)
def test_the_cost_of_a_kernel_is_what_is_read_once_and_the_product_alone(name: str) -> None:
    kernel = KERNELS[name]
    weight, factors = {
        "lords": (LORDS, 16 * (N + K) * 2),
        "blockwise": (blockwise(None), N * K // 64 * 2),
        "qlora": (blockwise(adapter()), N * K // 64 * 2 + 8 * (N + K) * 2),
    }[kernel.weight]

    cost = kernel.cost(M, weight, torch.bfloat16)

    assert cost.flops == 2 * M * N * K
    assert cost.bytes_moved == CODES + factors + X


@pytest.mark.parametrize("name", ["dequantize_matmul", "rank_expanded"])
def test_a_launch_at_the_speed_of_memory_is_believed_and_a_faster_one_is_not(name: str) -> None:
    cost = KERNELS[name].cost(M, LORDS, torch.bfloat16)
    candidate = Candidate(
        name=name, launch=lambda _slot: None, check=lambda: None, bytes_moved=cost.bytes_moved, flops=cost.flops
    )
    peaks = Peaks(read_gbps=4000.0, matmul_tflops=700.0)

    def found(time_ns: float) -> str | None:
        measured = Measurement(
            regime="cold", timer="fake", samples_ns=(time_ns,), launches_per_sample=1, clock_mhz=(None,)
        )
        return impossible(candidate, measured, peaks)

    # A scratch matrix that stays in the cache, and integer products on other pipes, cost nothing here.
    assert found((CODES + 16 * (N + K) * 2 + X) / 4000.0) is None
    assert "GB/s is more than" in (found(CODES / 4000.0 / 2) or "")
