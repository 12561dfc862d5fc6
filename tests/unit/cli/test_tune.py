import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lords_bench.cli import main
from lords_bench.cli.parser import build_parser
from lords_bench.cli.tune.asked import problems_of
from lords_bench.records.journal import read_journal
from lords_bench.records.trial import Trial
from lords_bench.records.tuned import TunedEntry
from lords_bench.tuning import cpu_product, fake
from lords_bench.tuning.rows import lock_path

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def tune(*arguments: str, out: Path) -> int:
    return main(["tune", *arguments, "--out", str(out)])


def test_a_fake_tune_prints_a_table_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(fake.CLEAN, "--device", "fake", "--m", "1,8", out=tmp_path) == 0

    shown = capsys.readouterr()
    assert "Invented times of a fake device" in " ".join(shown.out.split())
    assert "[2/2] fake M8 4096×4096 4b r16" in shown.err
    assert not list(tmp_path.rglob("tuned.jsonl"))


def test_a_tune_on_the_cpu_writes_a_table_once(tmp_path: Path) -> None:
    arguments = (cpu_product.NAME, "--device", "cpu", "--shapes", "64x256", "--m", "2", "--strategy", "random")

    codes = [tune(*arguments, out=tmp_path) for _ in range(2)]

    (path,) = tmp_path.rglob("tuned.jsonl")
    (entry,) = read_journal(path, TunedEntry).records
    assert codes == [0, 0]
    assert (entry.key.kernel, entry.regime, entry.timer) == (cpu_product.NAME, "hot", "perf-counter")


def test_a_real_kernel_is_tuned_on_a_fake_device_over_the_layers_of_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("dequantize_matmul", "--device", "fake", "--shapes", "llama-3-8b", "--m", "4096")

    assert tune(*arguments, out=tmp_path) == 0

    assert "dequantize_matmul M4096 14336×4096" in capsys.readouterr().err


def test_kernels_of_one_problem_are_compared_once_all_are_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--device", "fake", "--shapes", "1024x1024", "--m", "16", "--strategy", "random")

    codes = [tune(*kernels, *arguments, out=tmp_path) for kernels in (("scale_tile",), ("dequantize_matmul",))]

    shown = " ".join(capsys.readouterr().err.split())
    assert codes == [0, 0]
    assert "[2/2] route M16 1024×1024 4b r16: no result (only scale_tile has a result, not scale_tile_gemm" in shown
    assert re.search(r"\[2/2\] route M16 1024×1024 4b r16: default kept, 6\.3\d µs \(scale_tile of 2 kernels\)", shown)


# A process that was started in the background inherits an ignored SIGINT, and hands it on.
INTERRUPTED = """
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)

from lords_bench.cli import main
from lords_bench.records.journal import Journal

append, rows = Journal.append, []

def interrupted_append(self, noun):
    append(self, noun)
    rows.append(noun)
    if len(rows) == 6:
        signal.raise_signal(signal.SIGINT)

Journal.append = interrupted_append
sys.exit(main(sys.argv[1:]))
"""


def test_an_interrupted_tune_says_that_it_goes_on_and_does(tmp_path: Path) -> None:
    arguments = ["tune", fake.CLEAN, "--device", "fake", "--exhaustive", "--out", str(tmp_path), "--m", "1,2"]

    first = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    path = tmp_path / "fake" / "fake.trials.jsonl"
    rows = len(read_journal(path, Trial).records)
    again = subprocess.run(
        [sys.executable, "-m", "lords_bench", *arguments], env=ENVIRONMENT, capture_output=True, check=False
    )

    assert first.returncode == 130
    assert "the same command goes on where this one stopped" in first.stderr
    assert "Traceback" not in first.stderr
    assert rows == 6
    assert again.returncode == 0
    assert len(read_journal(path, Trial).records) == 2 * len(fake.space())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank_expandet", "--device", "fake"], "kernel 'rank_expandet' cannot be tuned on device 'fake'; known there"),
        (["scale_tile", "--device", "cpu"], "kernel 'scale_tile' cannot be tuned on device 'cpu'"),
        (["--device", "fake", "--strategy", "magic"], "unknown strategy 'magic'; known: ranked"),
        (["--device", "fake", "--strategy", "tpe", "--exhaustive"], "contradict each other"),
        (["--device", "fake", "--shapes", "4096"], "--shapes '4096' is neither a model nor a size"),
        (["--device", "fake", "--shapes", "gpt-9"], "unknown model 'gpt-9'; known: llama-3-8b"),
        (["--device", "fake", "--shapes", "0x64"], "--shapes '0x64' is neither a model nor a size"),
        (["rank_expanded", "--device", "fake", "--m", "64"], "none of rank_expanded serves M = 64"),
        (["rank_expanded", "--device", "fake"], "none of rank_expanded serves M = 8; widen --m"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(*arguments, out=tmp_path) == 2

    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_the_default_device_is_refused_with_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert tune(out=tmp_path) == 2
    assert "no CUDA device to tune on; '--device fake' or '--device cpu'" in " ".join(capsys.readouterr().err.split())


def test_each_gpu_has_a_lock_of_its_own_whatever_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    identifiers = {0: "aaaa", 1: "bbbb"}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=identifiers[index]))

    def lock(index: int) -> Path:
        monkeypatch.setattr(torch.cuda, "current_device", lambda: index)
        return lock_path("cuda", tmp_path)

    first, second = lock(0), lock(1)
    identifiers[1] = "aaaa"

    assert first != second
    assert lock(1) == first
    assert lock_path("cpu", tmp_path) not in (first, second)


def test_parity_ranks_are_those_of_each_shape_and_block() -> None:
    parser = build_parser()
    arguments = parser.parse_args(
        ["tune", "--ranks", "parity", "--blocks", "64,128", "--shapes", "4096x4096,14336x4096", "--m", "1"]
    )

    problems = [(p.n, p.k, p.rank) for p in problems_of(arguments, ("scale_tile",))]

    # 4096·4096 / (64 · 8192) = 32; 14336·4096 / (64 · 18432) = 49, which kernels pad to 64.
    assert problems == [(4096, 4096, 32), (14336, 4096, 64), (4096, 4096, 16), (14336, 4096, 32)]


def test_a_product_s_block_wise_baseline_is_tuned_right_behind_it() -> None:
    parser = build_parser()
    arguments = parser.parse_args(["tune", "--shapes", "4096x4096,1024x4096", "--m", "1,16"])

    problems = problems_of(arguments, ("scale_tile", "blockwise"))

    products = [(p.n, p.m_bucket) for p in problems]
    assert list(dict.fromkeys(products)) == [(4096, 1), (4096, 16), (1024, 1), (1024, 16)]
    assert products == sorted(products, key=list(dict.fromkeys(products)).index)
    assert {p.block is None for p in problems if (p.n, p.m_bucket) == (4096, 1)} == {True, False}
