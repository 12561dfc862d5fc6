"""`lords-bench kernels --profile`: what it prints, which kernel it takes, and what it refuses."""

from pathlib import Path

import pytest

from latency_builders import make_case, make_latency, make_measurement, make_run
from lords_bench.cli.parser import build_parser
from lords_bench.errors import UsageError
from lords_bench.records.codec import encode_line
from record_builders import make_environment

pytest.importorskip("triton")

EMULATED = ("--device", "emulated-sm_90")


def run(*words: str) -> int:
    arguments = build_parser().parse_args(["kernels", *words])
    code = arguments.run(arguments)
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")


def test_the_kernel_of_the_route_is_profiled_and_nothing_is_said_to_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--profile", "3", "256", "512", *EMULATED, "--out", str(tmp_path)) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("scale_tile, 3 × 256 × 512 (M, N, K), 4 bits, rank 16, bfloat16: compiled for sm_90 and ")
    assert "executed in an emulator, not run on a GPU" in printed
    for title in ("Launches on the H200", "Instructions executed", "Global memory", "Shared memory"):
        assert title in printed
    assert "Predicted on the H200, never measured, µs" in printed
    assert f"error of the prediction: not known, because {tmp_path / 'records'} holds no cold measurement" in printed


def test_where_the_launch_was_measured_the_error_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_latency(
        run=make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H200")),
        case=make_case(m=4, n=256, k=512, block=10), kernel="scale_tile", config_origin="formula",
        measurement=make_measurement(*[100_000.0] * 12),
    )  # fmt: skip
    path = tmp_path / "records" / "nvidia-h200" / "latency.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(encode_line(record) + "\n")

    run("--profile", "4", "256", "512", *EMULATED, "--out", str(tmp_path), "--rank", str(record.case.rank))

    assert "error of the prediction: measured 100.00 µs, +" in capsys.readouterr().out


def test_the_named_kernel_is_profiled_on_the_named_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--profile", "1", "256", "512", "--only", "rank_expanded", "--gpu", "H100", "--out", str(tmp_path))

    assert run(*words, *EMULATED) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("rank_expanded, 1 × 256 × 512")
    assert "Predicted on the H100, never measured" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--profile", "1", "256", "512"), "name its GPU by --device, as emulated-sm_90"),
        (("--profile", "1", "256", "512", "--device", "emulated-sm_100"), "unknown emulated device 'emulated-sm_100'"),
        (("--profile", "1", "256", "512", *EMULATED, "--gpu", "A100"), "A100 is sm_80, the emulated device sm_90"),
        (("--profile", "1", "256", "512", *EMULATED, "--only", "gemv"), "no kernel contains 'gemv'; known: rank_exp"),
        (("--profile", "64", "64", "128", *EMULATED, "--only", "rank_expanded"), "does not take the product: M = 64"),
        (("--static", "--gpu", "H200"), "--gpu H200 goes with --profile"),
    ],
)
def test_what_cannot_be_profiled_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*words)


def test_a_kernel_that_is_named_and_does_not_take_the_product_is_said_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("--profile", "1", "64", "256", *EMULATED, "--dtype", "float32", "--only", "tile", "--out", str(tmp_path))
        == 0
    )

    told = capsys.readouterr()
    assert told.out.startswith("scale_tile, 1 × 64 × 256")
    assert "not profiled: scale_tile_gemm does not take the product: float32 products have no tensor core" in told.err
