"""What tune writes is what a look-up finds: problems as the command line makes them and as a prepared weight asks."""

import argparse
from dataclasses import replace

import pytest
import torch

from lords_bench.cli.tune import _routes
from lords_bench.cli.tune.asked import candidates, problems_of
from lords_bench.errors import UsageError
from lords_bench.kernel_check import make_case
from lords_bench.kernels.common.operands import level_table
from lords_bench.kernels.common.prepared import forced_decoder, prepare
from lords_bench.kernels.common.prepared_blocks import PreparedBlockwise
from lords_bench.kernels.common.without_memory import blocks_without_memory, weight_without_memory
from lords_bench.products.keys import block_problem_of, key_of, problem_of
from lords_bench.products.lookup import Entries, Found
from lords_bench.products.registry import config_of
from lords_bench.products.routes import routed
from lords_bench.records.latency import LatencyCase
from lords_bench.records.tuned import ROUTE, Choice, Problem, Summary, TunedEntry
from lords_bench.static.target import TARGETS
from lords_bench.static.worker import launches_of
from lords_bench.suites.baselines import own
from lords_bench.suites.baselines.problem import LayerProblem
from lords_bench.tuning import fake
from lords_bench.tuning.code import request_of
from lords_bench.tuning.kernel_candidates import candidate_maker
from lords_bench.tuning.plan import DEFAULT_KERNELS, FAKE_MACHINE, make_task
from lords_bench.tuning.problems import block_problems, lords_problem
from tuned_builders import make_entry

N, K = 48, 300
TIME = Summary(samples=9, median_ns=9.0, low_ns=9.0, high_ns=9.0)


def asked(m: int, rank: int, dtype: torch.dtype, bits: int) -> Problem:
    """As a look-up asks: of a real weight, prepared with the decoder that a GPU would pick."""
    case = make_case(m, N, K, bits=bits, rank=rank, dtype=dtype, device=torch.device("cpu"))
    picked = level_table(case.levels_L, bits=bits, dtype=dtype, decoder=forced_decoder(dtype)).decoder
    return problem_of(m, prepare(case, dtype, decoder=picked))


def tuned(kernel: str = "scale_tile", **options: str) -> list[Problem]:
    """As `tune --device cuda` writes."""
    given = {
        "bits": "4",
        "ranks": "16",
        "m": "8",
        "dtype": None,
        "shapes": f"{N}x{K}",
        "device": "cuda",
        "blocks": "64",
    } | options
    numbers = {name: tuple(map(int, given[name].split(","))) for name in ("bits", "ranks", "m", "blocks")}
    return problems_of(argparse.Namespace(**given | numbers), (kernel,))


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rank", [1, 16, 24, 64])
def test_what_is_tuned_is_what_a_prepared_weight_looks_up(rank: int, dtype: torch.dtype, bits: int) -> None:
    (problem,) = tuned(ranks=str(rank), dtype=str(dtype).removeprefix("torch."), bits=str(bits), m="5")
    key = make_task("scale_tile", problem, FAKE_MACHINE, "fake").key
    choice = Choice(kernel="scale_tile")
    entry = TunedEntry(
        key=key, choice=choice, default=choice, measured=TIME, default_measured=TIME, speedup=None, regime="cold",
        timer="fake", measured_on="2026-11-22",
    )  # fmt: skip

    found = Entries([entry]).find(key_of("scale_tile", asked(7, rank, dtype, bits), FAKE_MACHINE))

    assert found is not None
    assert found.origin == "exact"
    assert Entries([entry]).find(key_of(ROUTE, problem, FAKE_MACHINE)) is None


def test_a_problem_of_another_rank_or_dtype_is_not_found() -> None:
    (problem,) = tuned()

    assert asked(8, 16, torch.bfloat16, 4) == problem
    assert asked(8, 17, torch.bfloat16, 4) != problem
    assert asked(8, 16, torch.float32, 4) == replace(problem, x_dtype="float32", decoder="table")


def test_ranks_and_numbers_of_tokens_that_are_padded_to_one_size_are_tuned_once() -> None:
    assert len(tuned(ranks="1,8,16,24,32", m="5,6,8,9")) == 4


def test_a_weight_without_memory_is_of_its_problem() -> None:
    problem = lords_problem(m=9, n=N, k=K, bits=3, rank=20, x_dtype="float16")

    assert problem_of(16, weight_without_memory(problem)) == problem


@pytest.mark.parametrize(
    ("options", "message"), [({"ranks": "129"}, "rank 129"), ({"dtype": "float8"}, "dtype 'float8'")]
)
def test_what_kernels_do_not_take_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tuned(**options)


def test_a_made_up_kernel_keeps_the_rank_that_was_given() -> None:
    arguments = argparse.Namespace(bits=(4,), ranks=(24,), m=(8,), dtype=None, shapes="64x64", device="fake")

    (problem,) = problems_of(arguments, (fake.CLEAN,))

    assert problem.rank == 24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_block_wise_baselines_that_are_tuned_are_those_of_the_latency_suite(
    bits: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[Problem] = []

    def look_up(m: int, weight: PreparedBlockwise) -> Found:
        asked_for.append(block_problem_of(m, weight.operands))
        return Found(choice=Choice(kernel="blockwise"), origin="formula")

    monkeypatch.setattr(own, "served_by", look_up)
    monkeypatch.setattr(own, "_require_gpu", lambda _problem: None)
    case = LatencyCase(model="m", layer="l", n=64, k=512, m=5, bits=bits, block=64)

    for way in (own.nf_block, own.int_block):
        way(LayerProblem(case, device=torch.device("cpu"), dtype=dtype))

    written = tuned("blockwise", bits=str(bits), m="5", dtype=str(dtype).removeprefix("torch."), shapes="64x512")
    assert asked_for == [problem for problem in written if problem.block is not None]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_baseline_is_tuned_by_its_own_configurations_and_not_by_those_of_lords(dtype: str) -> None:
    problems = [problem for problem in tuned("blockwise", dtype=dtype) if problem.block is not None]

    decoders = ["table", "table"] if dtype == "float32" else ["grid7", "uniform"]
    assert [(problem.decoder, problem.zero_points) for problem in problems] == [
        (decoders[0], False),
        (decoders[1], True),
    ]
    for problem in problems:
        task = make_task("blockwise", problem, FAKE_MACHINE, "fake")
        assert type(config_of("blockwise", task.space.default)).__name__ == "BlockwiseConfig"
        assert task.key == key_of("blockwise", problem, FAKE_MACHINE)


def test_tuning_a_block_wise_kernel_with_zero_points_says_nothing_of_one_without() -> None:
    """In float32 both go through one decoder, so nothing but the zero points tells them apart."""
    plain, with_zeros = block_problems(m=8, n=512, k=512, bits=4, block=64, x_dtype="float32")
    entry = make_entry(
        key=key_of("blockwise_gemm", with_zeros, FAKE_MACHINE), choice=Choice(kernel="blockwise_gemm"),
        default=Choice(kernel="blockwise_gemm"), default_measured=TIME, measured=TIME, speedup=None,
    )  # fmt: skip

    assert Entries([entry]).find(key_of("blockwise_gemm", with_zeros, FAKE_MACHINE)) is not None
    assert Entries([entry]).find(key_of("blockwise_gemm", plain, FAKE_MACHINE)) is None
    assert Entries([entry]).find(key_of("blockwise_gemm", replace(plain, n=500), FAKE_MACHINE)) is None


@pytest.mark.parametrize(("m", "bits", "block"), [(5, 4, 64), (2000, 3, 128)])
def test_a_block_wise_weight_without_memory_is_of_its_problem(m: int, bits: int, block: int) -> None:
    for problem in block_problems(m=m, n=N, k=K, bits=bits, block=block, x_dtype="float16"):
        assert block_problem_of(m, blocks_without_memory(problem).operands) == problem


@pytest.mark.parametrize(
    ("m", "first", "others"),
    [
        (8, "blockwise", {"blockwise_gemm", "blockwise_dequantize_matmul"}),
        (64, "blockwise_gemm", {"blockwise", "blockwise_dequantize_matmul"}),
        (512, "blockwise_gemm", {"blockwise_dequantize_matmul"}),
        (4096, "blockwise_dequantize_matmul", {"blockwise_gemm"}),
    ],
)
def test_the_switch_point_between_fused_and_dequantized_blocks_is_tuned(m: int, first: str, others: set[str]) -> None:
    problem, _ = block_problems(m=m, n=512, k=512, bits=4, block=64, x_dtype="bfloat16")
    names = candidates(DEFAULT_KERNELS["cuda"], problem, FAKE_MACHINE)
    made = {name: make_task(name, problem, FAKE_MACHINE, "fake") for name in names}

    (route,) = _routes(problem, made, "fake")

    assert route.members[0].key.kernel == first
    assert {member.key.kernel for member in route.members[1:]} == others
    assert route.key == key_of(ROUTE, problem, FAKE_MACHINE)
    of_lords = lords_problem(m=m, n=512, k=512, bits=4, rank=16, x_dtype="bfloat16")
    assert route.key.source_sha256 != key_of(ROUTE, of_lords, FAKE_MACHINE).source_sha256


@pytest.mark.parametrize("kernel", routed("blockwise"))
@pytest.mark.parametrize("problem", block_problems(m=8, n=512, k=512, bits=4, block=64, x_dtype="bfloat16"), ids=str)
def test_configurations_of_a_baseline_have_launches_and_candidates(problem: Problem, kernel: str) -> None:
    task = make_task(kernel, problem, FAKE_MACHINE, "fake")

    first, *_ = launches_of(request_of(kernel, task.space.default, problem, TARGETS["sm_90"]), until="nothing")
    candidate = candidate_maker(
        kernel, problem, cache_bytes=1 << 18, regime="cold", device=torch.device("cpu")
    )(task.space.default, "0")  # fmt: skip

    assert first.num_warps == dict(task.space.default)["num_warps"]
    assert first.constexprs["HAS_ZERO"] is problem.zero_points
    assert candidate.slots > 1
    assert candidate.flops == 2 * 8 * 512 * 512
