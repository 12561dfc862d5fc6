"""A launch asked for as data is the kernel's own launch, with the rules that it has for the pretended GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import ANY_GPU, Gpu, gpu_of, is_compiled_on, pretended_gpu
from lords_bench.records.tuned import Problem
from lords_bench.static.compile import CompiledLaunch
from lords_bench.static.launches import SM_COUNTS, Launched, weights_per_turn
from lords_bench.static.pretended import Launch
from lords_bench.static.stored import StoredCode
from lords_bench.static.target import TARGETS, named_target
from lords_bench.static.ttgir import LayoutFacts
from lords_bench.static.worker import launches_of

CPU = torch.device("cpu")
PROBLEM = Problem(
    m_bucket=1, n=28672, k=8192, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7"
)

NO_CODE = StoredCode(
    assembly="",
    resources="",
    shared_bytes=0,
    layouts=LayoutFacts(products=0, scalar_products=0, byte_decoder_columns=(), code_load_bytes=()),
)


def launches(launched: Launched, target: str = "sm_90") -> list[Launch]:
    return launches_of(launched.on(named_target(target)), until="nothing")


def test_a_layer_of_hundreds_of_megabytes_takes_no_memory() -> None:
    first, second = launches(Launched(kernel="rank_expanded", problem=PROBLEM))

    assert (first.name, first.grid) == ("rank_expanded_kernel", (32, 17, 1))
    assert second.name == "sum_partials_kernel"
    assert first.args["packed_ptr"].device.type == "meta"


def test_a_bias_and_a_configuration_are_those_that_were_asked_for() -> None:
    plain, biased = (launches(Launched(kernel="scale_tile", problem=PROBLEM, bias=bias))[0] for bias in (False, True))
    (other,) = launches(
        Launched(kernel="scale_tile", problem=PROBLEM, settings=(("tiles_per_program", 2), ("num_warps", 4)))
    )

    assert (plain.constexprs["HAS_BIAS"], biased.constexprs["HAS_BIAS"]) == (False, True)
    assert (other.args["tiles_per_program"], other.num_warps) == (2, 4)


@pytest.mark.parametrize("kernel", ["rank_expanded", "scale_tile", "blockwise"])
def test_rows_that_tiles_divide_are_not_masked_however_many_tiles_a_program_has(kernel: str) -> None:
    """Llama-3-8B's gate and up: 224 tiles in programs of 6 on a GPU of 132 multiprocessors."""
    scale = {"rank": None, "block": 64} if kernel == "blockwise" else {}
    first, *_ = launches(Launched(kernel=kernel, problem=replace(PROBLEM, n=14336, k=4096, **scale)))

    assert 14336 // 64 % first.args["tiles_per_program"]
    assert first.constexprs["EVEN_N"]
    assert not first.constexprs["EVEN_GROUPS"]


def test_the_size_of_the_gpu_decides_how_many_tiles_a_program_walks_over() -> None:
    asked = Launched(kernel="rank_expanded", problem=replace(PROBLEM, n=4096, k=4096))

    large, small = launches(asked)[0], launches(replace(asked, multiprocessors=33))[0]

    assert (large.constexprs["tiles_per_program"], small.args["tiles_per_program"]) == (1, 7)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_size(target: str) -> None:
    assert SM_COUNTS[target] > 0


@pytest.mark.parametrize(
    ("kernel", "changes", "message"),
    [
        ("scale_tile_gemm", {"x_dtype": "float32", "decoder": "table"}, "float32 products have no tensor core"),
        (
            "blockwise_gemm",
            {"x_dtype": "float32", "decoder": "table", "rank": None, "block": 64},
            "float32 products have no tensor core",
        ),
        ("rank_expanded", {"m_bucket": 8}, "M = 8 is above 4"),
        ("blockwise", {}, "has no block; it is of a LoRDS weight"),
        ("scale_tile", {"rank": None, "block": 64}, "has no rank; it is of a block-wise weight"),
        ("gemv", {}, "unknown kernel 'gemv'"),
        ("input_gradient", {"x_dtype": "float32", "decoder": "table"}, "dX of float32 tokens has no tensor core"),
    ],
)
def test_what_a_gpu_would_refuse_is_refused(kernel: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        launches(Launched(kernel=kernel, problem=replace(PROBLEM, **changes)))


def test_a_pretended_gpu_is_what_rules_see_and_compiles_what_would_be_interpreted() -> None:
    gpu = Gpu(arch="sm_120", sm_count=170)

    with pretended_gpu(gpu):
        inside = gpu_of(CPU), is_compiled_on(CPU)

    assert inside == (gpu, True)
    assert (gpu_of(CPU), is_compiled_on(CPU)) == (ANY_GPU, False)


@pytest.mark.parametrize(
    ("name", "constants", "decoded"),
    [
        ("rank_expanded_kernel", {"BLOCK_N": 64, "BLOCKS_K": 2, "BITS": 4}, 64 * 2 * 128),
        ("scale_tile_kernel", {"BLOCK_N": 64, "BLOCKS_K": 1, "BITS": 3}, 64 * 256),
        ("blockwise_gemm_kernel", {"BLOCK_N": 128, "BITS": 2}, 128 * 128),
        ("dequantize_kernel", {"BLOCK_N": 64, "BITS": 4}, None),
    ],
)
def test_a_turn_of_the_loop_decodes_a_tile(name: str, constants: dict[str, int], decoded: int | None) -> None:
    launch = CompiledLaunch(
        kernel=f"lords_bench.kernels:{name}", grid=(1, 1, 1), integers=(), types=(), constants=tuple(constants.items()),
        num_warps=4, num_stages=2, key="", code=NO_CODE,
    )  # fmt: skip

    assert weights_per_turn(launch) == decoded
