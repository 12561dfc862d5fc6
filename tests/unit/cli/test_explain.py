"""`lords-bench explain`: kernel, configuration, origin, margin and date, and field by field why none is exact."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lords_bench.cli.parser import build_parser
from lords_bench.errors import UsageError
from lords_bench.products.keys import key_of
from lords_bench.products.tables import write_entry
from lords_bench.records.tuned import ROUTE, Choice, Machine, TunedEntry
from lords_bench.tuning.problems import block_problems
from tuned_builders import MACHINE, PROBLEM, make_entry


def explain(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """What the command prints, by label; the last text of each."""
    arguments = build_parser().parse_args(["explain", *words])
    assert arguments.run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:14].strip(): line[14:].strip() for line in lines}


def entry(kernel: str = "scale_tile", *, machine: Machine = MACHINE, m_bucket: int = 8) -> TunedEntry:
    choice = make_entry().choice if kernel == "scale_tile" else Choice(kernel="dequantize_matmul")
    problem = replace(PROBLEM, m_bucket=m_bucket)
    return make_entry(key=key_of(kernel, problem, machine), choice=choice, commit="ab" * 20, run="r1")


def test_an_exact_entry_is_named_with_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_entry(entry(), folder=tmp_path)

    found = explain(capsys, "5", "4096", "4096", "--device", "some gpu", "--tables", str(tmp_path))

    assert found["problem"].startswith("M up to 8, N 4096, K 4096, 4 bit, rank 16, x bfloat16")
    assert found["machine"] == "Some GPU 80GB (sm_90, 132 multiprocessors), driver 570.1, triton 3.6.0"
    assert found["kernel"] == "scale_tile"
    assert found["configuration"] == "block_n 128, last_sums True"
    assert found["origin"].startswith("exact: configuration of the formula's kernel")
    assert found["measured"] == "8.00 µs (7.95 … 8.10), 30 samples, cold, timer graph"
    assert found["margin"] == "1.250× the default's speed (1.240 … 1.260)"
    assert found["measured on"] == "2026-11-22, commit abababababab, run r1"
    assert "not exact" not in found


def test_a_driver_that_differs_makes_it_the_nearest_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = replace(MACHINE, driver="575.2")
    write_entry(entry(), folder=tmp_path)
    # The newest entry of the GPU says what its machine is now.
    write_entry(replace(entry(machine=newer, m_bucket=64), measured_on="2026-11-23"), folder=tmp_path)

    found = explain(capsys, "8", "4096", "4096", "--device", "some gpu", "--tables", str(tmp_path))

    assert found["origin"].startswith("nearest: ")
    assert found["not exact"] == "driver 570.1 → 575.2"


def test_an_entry_with_settings_that_its_kernel_does_not_know_serves_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = Choice(kernel="scale_tile", settings=(("colour", 1),))
    write_entry(replace(entry(), choice=unknown), folder=tmp_path)

    with pytest.warns(UserWarning, match="a tuned entry is not used: settings do not fit scale_tile"):
        found = explain(capsys, "8", "4096", "4096", "--device", "some gpu", "--tables", str(tmp_path))

    assert (found["kernel"], found["origin"]) == ("scale_tile", "formula: no tuned entry holds")


def test_a_route_entry_names_the_kernel_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_entry(entry(ROUTE), folder=tmp_path)

    found = explain(capsys, "8", "4096", "4096", "--device", "some gpu", "--tables", str(tmp_path))

    assert found["kernel"] == "dequantize_matmul"
    assert found["configuration"].endswith("(the kernel's own rule)")
    assert found["origin"].startswith("exact: choice between kernels")


def test_the_formula_is_named_with_the_fields_in_which_the_closest_entry_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_entry(entry(), folder=tmp_path)

    found = explain(capsys, "8", "5120", "4096", "--bits", "3", "--device", "some gpu", "--tables", str(tmp_path))

    assert found["origin"] == "formula: no tuned entry holds"
    assert found["not exact"] == "configuration of scale_tile: the closest entry differs in n 4096 → 5120, bits 4 → 3"
    assert "measured" not in found


def test_a_line_that_is_set_aside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_entry(entry(), folder=tmp_path)
    with path.open("a") as file:
        file.write("torn\n")

    found = explain(capsys, "8", "4096", "4096", "--device", "some gpu", "--tables", str(tmp_path))

    assert found["set aside"].startswith(f"{path} line 2: not a JSON record")


def test_a_gpu_that_no_table_is_for_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_entry(entry(), folder=tmp_path)

    with pytest.raises(UsageError, match=r"no table is for a GPU called 'H300'; known: A100, .*Some GPU 80GB"):
        explain(capsys, "8", "4096", "4096", "--device", "H300", "--tables", str(tmp_path))


@pytest.mark.parametrize("name", ["H200", "NVIDIA H200"])
def test_a_gpu_with_published_figures_is_served_by_the_formula(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explain(capsys, "1", "4096", "4096", "--device", name, "--tables", str(tmp_path))

    assert found["machine"].startswith("H200 (sm_90, 132 multiprocessors), driver unknown")
    assert found["kernel"] == "rank_expanded"
    assert found["origin"] == "formula: no tuned entry holds"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_without_a_gpu_a_device_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UsageError, match="no GPU here; name one with --device, such as H200 \\(tables know: none yet\\)"
    ):
        explain(capsys, "8", "4096", "4096", "--tables", str(tmp_path))


def test_sizes_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        explain(capsys, "8", "0", "4096", "--tables", str(tmp_path))

    assert "argument N: '0' is no whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("m", "words", "kernel", "problem"),
    [
        (8, ("--block", "64"), "blockwise", "block 64, x bfloat16"),
        (100, ("--block", "128"), "blockwise_gemm", "block 128, x bfloat16"),
        (100, ("--block", "64", "--zero-points"), "blockwise_gemm", "block 64 with zero points, x bfloat16"),
        (5000, ("--block", "64"), "blockwise_dequantize_matmul", "block 64, x bfloat16"),
    ],
)
def test_a_block_wise_baseline_is_explained_too(
    capsys: pytest.CaptureFixture[str], m: int, words: tuple[str, ...], kernel: str, problem: str
) -> None:
    found = explain(capsys, str(m), "4096", "4096", "--device", "H200", *words)

    assert found["kernel"] == kernel
    assert problem in found["problem"]
    assert found["origin"].startswith("formula")


def test_a_tuned_choice_between_block_wise_kernels_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem, _ = block_problems(m=128, n=4096, k=4096, bits=4, block=64, x_dtype="bfloat16")
    tuned = make_entry(
        key=key_of(ROUTE, problem, MACHINE), choice=Choice(kernel="blockwise_dequantize_matmul"),
        default=Choice(kernel="blockwise_gemm"),
    )  # fmt: skip
    write_entry(tuned, folder=tmp_path)
    words = ("128", "4096", "4096", "--device", "some gpu", "--tables", str(tmp_path), "--block", "64")

    assert explain(capsys, *words)["kernel"] == "blockwise_dequantize_matmul"
    assert explain(capsys, *words, "--zero-points")["kernel"] == "blockwise_gemm"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--block", "48"), "block 48 neither divides 128"),
        (("--zero-points",), "--zero-points is about a block-wise baseline; give --block as well"),
    ],
)
def test_a_block_wise_question_without_sense_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        explain(capsys, "8", "4096", "4096", "--device", "H200", *words)
