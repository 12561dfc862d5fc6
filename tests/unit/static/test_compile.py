"""Compiling for GPUs that are not there: in worker processes, kept on disk, and failures as data."""

import gzip
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lords_bench.errors import StoreError
from lords_bench.kernels.common.budget import Budget
from lords_bench.records.status import Status
from lords_bench.static import compile as compile_module
from lords_bench.static.compile import CompiledLaunch, CompileResult, compile_all
from lords_bench.static.report import StaticReport, analyse
from lords_bench.static.request import CompileRequest, request_for, request_from_json
from lords_bench.static.target import named_target

SAMPLES = "sample_kernels"

Results = tuple[Path, dict[str, CompileResult]]


def request(function: str, target: str = "sm_80", **arguments: int) -> CompileRequest:
    return request_for(f"{SAMPLES}:{function}", named_target(target), **arguments)


multiply_request = partial(request, "launch_multiply")


def weights_per_turn(launch: CompiledLaunch) -> int:
    return 16 * int(dict(launch.constants)["BLOCK"])


def report_of(compiled: CompileResult, budget: Budget, bits_per_weight: float | None = None) -> StaticReport:
    return analyse(compiled, budget, label="sample", bits_per_weight=bits_per_weight, weights_per_turn=weights_per_turn)


@pytest.fixture(scope="module", autouse=True)
def _samples_are_importable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One run over everything the tests below look at: compiling is the slow part."""
    requests = {
        "sm_80": multiply_request(),
        "gfx942": multiply_request("gfx942"),
        "two launches": request("launch_twice"),
        "broken": request("launch_undefined"),
        "refused": request("refuse"),
        "too much shared memory": multiply_request("sm_86", block=512, num_stages=5, k=4096),
    }
    cache_dir = tmp_path_factory.mktemp("static")
    compiled = compile_all(tuple(requests.values()), cache_dir=cache_dir, workers=1)
    return cache_dir, dict(zip(requests, compiled, strict=True))


def test_a_request_survives_the_way_to_the_worker() -> None:
    asked = multiply_request(block=32)

    assert request_from_json(asked.to_json()) == asked
    assert asked.keywords == {"block": 32}


def test_a_launch_is_described_as_triton_specialised_it(results: Results) -> None:
    (launch,) = results[1]["sm_80"].launches

    assert (launch.name, launch.grid, launch.num_warps, launch.num_stages) == ("multiply_blocks", (1, 1, 1), 1, 2)
    assert launch.integers == (("K", 1024),)
    assert dict(launch.constants) == {"BLOCK": 64, "DTYPE": "fp16"}
    assert dict(launch.types)["x_ptr"] == "*fp16"


def test_every_launch_of_a_call_is_compiled_and_the_first_is_the_main_one(results: Results) -> None:
    first, second = results[1]["two launches"].launches

    assert (first, second.code.assembly == first.code.assembly) == (results[1]["sm_80"].main, False)
    assert results[1]["two launches"].main is first


def test_a_kernel_compiles_for_nvidia_with_its_tensor_core_and_without_spills(results: Results) -> None:
    report = report_of(results[1]["sm_80"], Budget(), 16)

    assert report.violations == ()
    assert report.loop is not None
    assert report.loop.tensor_opcodes == ("HMMA.16816.F32",)
    assert report.loop.pipe_per_32_weights().get("unknown") is None
    assert [bound.gpu for bound in report.bounds] == ["A100"]


def test_a_kernel_compiles_for_amd_with_matrix_instructions_and_no_prediction(results: Results) -> None:
    report = report_of(results[1]["gfx942"], Budget(), 16)

    assert report.violations == ()
    assert report.amd is not None
    assert any(opcode.startswith("v_mfma_f32_16x16") for opcode in report.amd.matrix_opcodes)
    assert report.bounds == ()


def test_an_instruction_budget_that_is_too_tight_is_a_violation(results: Results) -> None:
    report = report_of(results[1]["sm_80"], Budget(max_instructions_per_32_weights=0.1))

    assert len(report.violations) == 1
    assert report.violations[0].endswith("instructions per 32 weights > 0.1")


def test_a_kernel_that_cannot_compile_is_a_result_with_its_reason(results: Results) -> None:
    broken = results[1]["broken"]

    assert broken.status is Status.COMPILE_ERROR
    assert broken.reason is not None
    assert "CompilationError" in broken.reason
    assert "\n" not in broken.reason


def test_a_call_that_refuses_its_problem_is_a_result_with_its_reason(results: Results) -> None:
    refused = results[1]["refused"]

    assert (refused.status, refused.launches) == (Status.UNSUPPORTED, ())
    assert refused.reason == "no product on sm_80; use another"


def test_more_shared_memory_than_a_block_can_have_is_a_violation(results: Results) -> None:
    report = report_of(results[1]["too much shared memory"], Budget())

    assert any(line.startswith("shared memory ") and line.endswith("of sm_86") for line in report.violations)


def test_a_second_run_reads_stored_results_and_compiles_nothing(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_dir, compiled = results
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    again = compile_all([multiply_request(), multiply_request("gfx942")], cache_dir=cache_dir)

    assert again == (compiled["sm_80"], compiled["gfx942"])
    assert list(tmp_path.iterdir()) == []


def test_for_a_launch_what_is_stored_is_compiled_where_triton_s_cache_does_not_have_it(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    again = compile_all([multiply_request()], cache_dir=results[0], for_launch=True)

    assert again == (results[1]["sm_80"],)
    assert [path.name for path in tmp_path.glob("*/multiply_blocks.cubin")] == ["multiply_blocks.cubin"]


def test_two_workers_that_are_asked_for_the_same_compile_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    cache_dir = tmp_path / "static"

    first, second = compile_all([multiply_request(), multiply_request(k=2048)], cache_dir=cache_dir, workers=2)

    assert (first.main.integers, second.main.integers) == ((("K", 1024),), (("K", 2048),))
    assert first.main.code.assembly == second.main.code.assembly
    assert [path.suffix for path in cache_dir.iterdir()] == [".gz"]


def test_damaged_stored_results_are_compiled_again_and_told_once(results: Results, tmp_path: Path) -> None:
    cache_dir, compiled = results
    shutil.copytree(cache_dir, tmp_path / "cache")
    stored = sorted((tmp_path / "cache").iterdir())
    whole = [path.read_bytes() for path in stored]
    for path in stored:
        path.write_bytes(gzip.compress(b"[]"))

    with pytest.warns(UserWarning, match=r"stored machine code was damaged, and is compiled again: .* and 1 others"):
        again = compile_all([multiply_request(), multiply_request("gfx942")], cache_dir=tmp_path / "cache", workers=1)

    assert again == (compiled["sm_80"], compiled["gfx942"])
    assert sum(path.read_bytes() == content for path, content in zip(stored, whole, strict=True)) == 2
    compile_all([multiply_request(), multiply_request("gfx942")], cache_dir=tmp_path / "cache", workers=1)


def test_a_folder_that_refuses_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module._Worker, "ask", lambda _worker, _question: {"refused": "the disk is full"})  # noqa: SLF001

    with pytest.raises(StoreError, match="the disk is full"):
        compile_all([multiply_request()], cache_dir=tmp_path)


def test_a_worker_that_dies_gives_a_crash_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module.sys, "executable", "/bin/false")

    (result,) = compile_all([multiply_request()], cache_dir=tmp_path)

    assert result.status is Status.CRASH
    assert result.reason == "the compiler ended with exit code 1: nothing on standard error"
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_hangs_is_stopped_at_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(compile_module.sys, "executable", str(sleeper))

    (result,) = compile_all([multiply_request()], cache_dir=tmp_path / "cache", timeout_s=0.2)

    assert (result.status, result.reason) == (Status.TIMEOUT, "the compiler took longer than 0.2 s")


def test_what_triton_would_not_compile_alike_is_not_read_from_the_same_place(results: Results) -> None:
    keys = [launch.key for result in results[1].values() for launch in result.launches]

    assert len(set(keys)) == 4
    assert len([path for path in results[0].iterdir() if path.suffix == ".gz"]) == 4


def test_a_function_that_does_not_exist_is_a_result_that_names_it(tmp_path: Path) -> None:
    asked = request_for("no_such_package.kernel:run", named_target("sm_80"))

    (result,) = compile_all([asked], cache_dir=tmp_path)

    assert result.status is Status.COMPILE_ERROR
    assert result.reason == "ModuleNotFoundError: No module named 'no_such_package'"
