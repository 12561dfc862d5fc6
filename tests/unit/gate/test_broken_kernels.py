"""A shipped kernel broken on purpose in its source, compiled for a GPU that is not there, turns the static gate red."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from architecture.import_map import ROOT
from gate_builders import pinned
from lords_bench.gate.finding import LayerResult, Level, exit_code
from lords_bench.gate.static import compare_static
from lords_bench.kernels.common.static_case import Launched
from lords_bench.records.codec import to_plain
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.static.cases import shipped_cases
from lords_bench.static.compile import compile_all
from lords_bench.static.fingerprint import fingerprint_of, toolchain
from lords_bench.static.request import CompileRequest, request_for
from lords_bench.static.target import named_target

TARGET = named_target("sm_80")
KERNEL = "scale_tile"

# Name of a break → (text of the kernel, what it becomes).
EDITS = {
    "intact": ("", ""),
    "moved": ("@triton.jit\n", "\n# A comment, and other line numbers.\n\n@triton.jit\n"),
    "lost dot": (
        'total = tl.dot(levels[position] * scale, x_tiles[position], total, input_precision="ieee")',
        "total += tl.sum((levels[position] * scale).to(tl.float32), axis=1)[:, None]",
    ),
    "narrowed load": ("load_words(tile_ptr + ", "load_words(tile_ptr + 1 + "),
}
CROWDED = "too much for one warp"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    """The kernel intact and broken, in one run: compiling is the slow part."""
    folder = tmp_path_factory.mktemp("broken")
    source = (ROOT / "kernels" / KERNEL / "kernel.py").read_text()
    case = next(case for case in shipped_cases() if case.kernel == KERNEL)

    def request(module: str, launched: Launched) -> CompileRequest:
        return request_for("edited_launch:launch", TARGET, launched=to_plain(launched), module=module)

    requests = {}
    for index, (name, (old, new)) in enumerate(EDITS.items()):
        assert not old or source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {KERNEL}"
        (folder / f"edited_{index}.py").write_text(source.replace(old, new) if old else source)
        requests[name] = request(f"edited_{index}", case.launched)
    requests[CROWDED] = request("edited_0", replace(case.launched, settings=(("block_n", 128), ("num_warps", 1))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), str(Path(__file__).parent), *sys.path])
        found = compile_all(list(requests.values()), cache_dir=folder / "cache")
    chain = toolchain(TARGET)
    return {name: fingerprint_of(case, result, chain) for name, result in zip(requests, found, strict=True)}


def gate(compiled: dict[str, Fingerprint], name: str) -> LayerResult:
    return compare_static(pinned(compiled["intact"]), [compiled[name]])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost dot", "tensor-core work lost"),
        ("narrowed load", "global loads narrowed"),
        (CROWDED, "spills appeared"),
        (CROWDED, "occupancy stepped down"),
    ],
)
def test_a_broken_kernel_is_a_regression_that_says_what_and_where(
    compiled: dict[str, Fingerprint], name: str, message: str
) -> None:
    result = gate(compiled, name)

    assert exit_code([result]) == 1
    found = [finding for finding in result.of(Level.REGRESSION) if message in finding.what]
    assert [finding.source for finding in found] == ["kernels/scale_tile/kernel.py"]


def test_moving_lines_of_the_source_changes_nothing(compiled: dict[str, Fingerprint]) -> None:
    result = gate(compiled, "moved")

    assert (result.same, result.findings) == (1, ())
