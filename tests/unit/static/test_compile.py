"""Compiling for GPUs that are not there: in worker processes, kept on disk, and failures as data."""

import gzip
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lords_bench.errors import UsageError
from lords_bench.records.status import Status
from lords_bench.static import compile as compile_module
from lords_bench.static.budget import Budget
from lords_bench.static.compile import CompiledKernel, compile_all
from lords_bench.static.report import analyse
from lords_bench.static.request import (
    CompileRequest,
    TritonDtype,
    request_from_json,
    source_digest,
    source_files,
)
from lords_bench.static.target import named_target

SAMPLES = "sample_kernels"

Results = tuple[Path, dict[str, CompiledKernel]]


def multiply_request(target: str = "sm_80", *, block: int = 64, num_stages: int = 2) -> CompileRequest:
    return CompileRequest(
        function=f"{SAMPLES}:multiply_blocks",
        types=(("x_ptr", "*fp16"), ("w_ptr", "*fp16"), ("y_ptr", "*fp32"), ("K", "i32")),
        constants=(("BLOCK", block), ("DTYPE", TritonDtype(name="fp16"))),
        divisible_by_16=("K",),
        num_warps=1,
        num_stages=num_stages,
        weights_per_iteration=16 * block,
        target=named_target(target),
    )


def broken_request() -> CompileRequest:
    return replace(multiply_request(), function=f"{SAMPLES}:undefined_name", types=(("x_ptr", "*fp16"),), constants=())


@pytest.fixture(scope="module", autouse=True)
def _samples_are_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One run over everything the tests below look at: compiling is the slow part."""
    requests = {
        "sm_80": multiply_request(),
        "gfx942": multiply_request("gfx942"),
        "broken": broken_request(),
        "too much shared memory": multiply_request("sm_86", block=512, num_stages=5),
    }
    cache_dir = tmp_path_factory.mktemp("static")
    compiled = compile_all(tuple(requests.values()), cache_dir=cache_dir, workers=1)
    return cache_dir, dict(zip(requests, compiled, strict=True))


def test_a_request_survives_the_way_to_the_worker() -> None:
    request = multiply_request()

    assert request_from_json(request.to_json()) == request


def test_a_kernel_compiles_for_nvidia_with_its_tensor_core_and_without_spills(results: Results) -> None:
    report = analyse(results[1]["sm_80"], Budget(), label="sample", bits_per_weight=16)

    assert report.violations == ()
    assert report.loop is not None
    assert report.loop.tensor_opcodes == ("HMMA.16816.F32",)
    assert report.loop.pipe_per_32_weights().get("unknown") is None
    assert [bound.gpu for bound in report.bounds] == ["A100"]


def test_a_kernel_compiles_for_amd_with_matrix_instructions_and_no_prediction(results: Results) -> None:
    report = analyse(results[1]["gfx942"], Budget(), label="sample", bits_per_weight=16)

    assert report.violations == ()
    assert report.amd is not None
    assert any(opcode.startswith("v_mfma_f32_16x16") for opcode in report.amd.matrix_opcodes)
    assert report.bounds == ()


def test_an_instruction_budget_that_is_too_tight_is_a_violation(results: Results) -> None:
    report = analyse(
        results[1]["sm_80"], Budget(max_instructions_per_32_weights=0.1), label="sample", bits_per_weight=None
    )

    assert len(report.violations) == 1
    assert report.violations[0].endswith("instructions per 32 weights > 0.1")


def test_a_kernel_that_cannot_compile_is_a_result_with_its_reason(results: Results) -> None:
    broken = results[1]["broken"]

    assert broken.status is Status.COMPILE_ERROR
    assert broken.reason is not None
    assert "CompilationError" in broken.reason
    assert "\n" not in broken.reason


def test_more_shared_memory_than_a_block_can_have_is_a_violation(results: Results) -> None:
    report = analyse(results[1]["too much shared memory"], Budget(), label="sample", bits_per_weight=None)

    assert any(line.startswith("shared memory ") and line.endswith("of sm_86") for line in report.violations)


def test_a_second_run_reads_stored_results_and_starts_no_worker(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_dir, compiled = results
    monkeypatch.setattr(compile_module, "_Worker", None)

    again = compile_all([multiply_request(), multiply_request("gfx942")], cache_dir=cache_dir)

    assert again == (compiled["sm_80"], compiled["gfx942"])


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


def test_the_digest_covers_what_the_kernel_module_imports_from_this_project() -> None:
    names = {path.name for path in source_files("lords_bench.static.report")}

    assert {"report.py", "sass.py", "errors.py", "target.py"} <= names
    assert source_digest("lords_bench.static.report") != source_digest("lords_bench.static.sass")


def test_an_unknown_module_is_refused_by_name(tmp_path: Path) -> None:
    request = replace(multiply_request(), function="no_such_package.kernel:run")

    with pytest.raises(UsageError, match=r"no module 'no_such_package\.kernel' to compile from"):
        compile_all([request], cache_dir=tmp_path)
