"""What is proven to be the same code on both sides: edits that must end the proof, and edits that must not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from architecture.import_map import ROOT, part_of
from lords_bench.cli.gate import same_code
from lords_bench.cli.gate.same_code import METHOD_WEIGHTS, folders, same_accuracy, same_methods
from lords_bench.gate.benchmarks import gated_methods
from lords_bench.products.registry import KERNELS
from lords_bench.products.routes import routed
from lords_bench.source import KERNELS as KERNELS_PACKAGE
from lords_bench.source import reached_modules
from tiny_models import save_tiny_llama

ALL = frozenset(METHOD_WEIGHTS)
# A few lines of text are enough to load what measures.
SMALL_TEXT = (
    "import sys; from lords_bench.suites.accuracy import text as t; t.QUICK = t.EvaluationSize("
    "passages=2, choice_items=2, calibration_passages=2, passage_characters=120, window_tokens=64)"
)
# What computes numbers; everything else is commands, and what only reads records.
COMPUTES = frozenset({"kernels", "products", "reference", "quant", "integrations", "training"} | {"tuning", "suites"})
LORDS_ONLY = frozenset({"lords"})
# Modules of suites that make pages of records; tests/architecture/test_import_map.py holds that they need nothing else.
ONLY_READ = frozenset({"figures", "judge", "metrics", "page", "pages"})


def copied(target: Path) -> Path:
    """The code of this tree, in a folder of its own."""
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in ("lords_bench", "kernels", "reference", "suites"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "reports/tuned/README.md"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("baseline"))


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("head"))


def edited(head: Path, file: str, old: str, new: str) -> str:
    """The file's former text, after the edit."""
    text = (head / file).read_text()
    assert old in text, f"{old!r} is not in {file}"
    (head / file).write_text(text.replace(old, new, 1))
    return text


def test_every_gated_method_has_its_kernels_and_lords_all_that_a_route_may_choose() -> None:
    assert gated_methods() == ALL
    for kind, names in folders().items():
        assert {root.split(".")[1] for name in routed(kind) for root in KERNELS[name].roots} == names


@pytest.mark.parametrize(
    ("file", "old", "new", "methods"),
    [
        ("kernels/scale_tile/kernel.py", "@triton.jit\n", "# Words.\n\n\n@triton.jit\n", ALL),
        ("lords_bench/gate/static.py", "LAYER = ", "OTHER = 1\nLAYER = ", ALL),
        ("kernels/scale_tile/kernel.py", "@triton.jit\n", "OTHER = 1\n\n\n@triton.jit\n", ALL - LORDS_ONLY),
        ("kernels/scale_tile_gemm/kernel.py", "@triton.jit\n", "OTHER = 1\n\n\n@triton.jit\n", ALL - LORDS_ONLY),
        ("kernels/scale_tile_gemm/space.py", '"""\n\n', '"""\n\nOTHER = 1\n', frozenset()),
        ("kernels/rank_expanded/__init__.py", '"""\n\n', '"""\n\nOTHER = 1\n', ALL - LORDS_ONLY),
        # The block-wise kernels have the search space of this one.
        ("kernels/scale_tile/space.py", '"""\n\n', '"""\n\nOTHER = 1\n', frozenset()),
        ("kernels/blockwise/space.py", "MAX_TOKENS = ", "MAX_TOKENS = 1 + ", LORDS_ONLY),
        ("kernels/common/gpu.py", "@dataclass", "OTHER = 1\n\n\n@dataclass", frozenset()),
        ("kernels/common/split_k.py", "@triton.jit", "OTHER = 1\n\n\n@triton.jit", frozenset()),
        ("lords_bench/products/route.py", "import warnings", "import warnings\nOTHER = 1", frozenset()),
        ("lords_bench/timing/protocol.py", '"""\n\n', '"""\n\nOTHER = 1\n', frozenset()),
        ("suites/baselines/own.py", "LORA_SCALING = 2.0", "LORA_SCALING = 3.0", frozenset()),
        ("reports/tuned/README.md", "\n", "\n\n", frozenset()),
        ("pyproject.toml", "\n", "\n\n", frozenset()),
    ],
)  # fmt: skip
def test_methods_are_the_same_until_their_code_or_what_is_around_it_changes(
    baseline: Path, head: Path, file: str, old: str, new: str, methods: frozenset[str]
) -> None:
    former = edited(head, file, old, new)
    try:
        found = frozenset(same_methods(head, baseline))
    finally:
        (head / file).write_text(former)

    assert found == methods


def test_nothing_is_the_same_where_each_tree_reads_tuned_tables_of_its_own(
    baseline: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORDS_BENCH_TUNED", "tables")

    assert same_methods(head, baseline) == ()


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("kernels/scale_tile/kernel.py", "@triton.jit\n", "OTHER = 1\n\n\n@triton.jit\n", True),
        ("suites/accuracy/page.py", '"""\n\n', '"""\n\nOTHER = 1\n', True),
        ("reference/codebooks.py", '"""\n\n', '"""\n\nOTHER = 1\n', False),
        ("suites/accuracy/cases.py", "BLOCK = 64", "BLOCK = 32", False),
        ("lords_bench/cli/bench/accuracy.py", "seed=0", "seed=1", False),
        ("suites/testbed/model/config.json", "{", "{ ", False),
    ],
)
def test_accuracy_is_the_same_until_what_fits_or_measures_changes(
    baseline: Path, head: Path, file: str, old: str, new: str, same: bool
) -> None:
    former = edited(head, file, old, new)
    try:
        found = same_accuracy(head, baseline)
    finally:
        (head / file).write_text(former)

    assert found is same


@pytest.mark.parametrize("name", ["suites/accuracy/measure.py", "suites/testbed/model"])
def test_what_the_baseline_does_not_have_ends_the_proof_and_what_this_tree_has_not_is_an_error(
    baseline: Path, head: Path, name: str
) -> None:
    """Were it left out on both sides, a file that was moved would be proven to be the same for ever."""
    moved = (head / name).rename(head / "moved")
    try:
        assert not same_accuracy(baseline, head)
        with pytest.raises(FileNotFoundError, match=r"no (file|module) "):
            same_accuracy(head, baseline)
    finally:
        moved.rename(head / name)


def test_measuring_accuracy_on_a_cpu_loads_nothing_that_computes_and_is_not_in_the_proof(
    tmp_path: Path,
) -> None:
    model = save_tiny_llama(tmp_path / "model")
    words = ["bench", "accuracy", "--device", "cpu", "--model", str(model), "--out", str(tmp_path), "--methods", "nf4"]
    code = f"{SMALL_TEXT}; from lords_bench.cli import main; main({words}); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    covered = reached_modules(ROOT, same_code.ACCURACY_ROOTS, leave_out={KERNELS_PACKAGE})
    loaded = {name for name in done.stdout.splitlines()[-1].split() if name.startswith("lords_bench.")}
    assert "lords_bench.reference.blocks" in loaded
    computes = {name for name in loaded - set(covered) if part_of(name) in COMPUTES}
    # The others hold words and data, and are not of this suite.
    assert {name for name in computes if name.rpartition(".")[2] not in ONLY_READ} == {
        "lords_bench.suites.cost", "lords_bench.suites.latency", "lords_bench.suites.lifecycle",
        "lords_bench.suites.lifecycle.cases",
    }  # fmt: skip
