"""What an import brings with it, seen in a fresh interpreter each time."""

import json
import subprocess
import sys

import pytest

from architecture.import_map import PACKAGE, ROOT, module_files

HEAVY = {"torch", "transformers", "triton", "lm_eval", "datasets"}

# Only these may need Triton to be imported: a @triton.jit function is compiled where it is written.
NEEDS_TRITON = "lords_bench.kernels."

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
"""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def loaded_after(*imports: str) -> set[str]:
    """Top-level names in sys.modules after the imports that a bare interpreter has not."""
    code = "import sys, json; before = set(sys.modules)\n"
    code += "".join(f"import {name}\n" for name in imports)
    code += "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    return set(json.loads(run(code)))


def importing(modules: list[str], *, blocked: set[str]) -> str:
    """Code that imports each module where the blocked packages cannot be found."""
    return BLOCK.format(names=blocked) + f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"


def test_importing_the_package_loads_the_standard_library_only() -> None:
    assert loaded_after(PACKAGE) - set(sys.stdlib_module_names) == {PACKAGE}


@pytest.mark.parametrize("part", ["quant", "records"])
def test_nouns_load_the_standard_library_only(part: str) -> None:
    assert loaded_after(f"{PACKAGE}.{part}") - set(sys.stdlib_module_names) == {PACKAGE}


def test_the_command_line_starts_without_heavy_packages() -> None:
    assert loaded_after(f"{PACKAGE}.cli") & HEAVY == set()


def test_reading_records_loads_neither_torch_nor_transformers() -> None:
    assert loaded_after(f"{PACKAGE}.suites.pages") & {"torch", "transformers", "triton"} == set()


def test_every_module_but_the_kernels_imports_without_triton() -> None:
    runs_on_import = f"{PACKAGE}.__main__"
    modules = sorted(
        name for name in module_files(ROOT / PACKAGE) if name != runs_on_import and not name.startswith(NEEDS_TRITON)
    )

    run(importing(modules, blocked={"triton"}))


def test_the_public_name_quantize_is_found_on_first_use() -> None:
    code = "import sys, lords_bench\nassert 'torch' not in sys.modules\nprint(lords_bench.quantize.__module__)"

    assert run(code).strip() == "lords_bench.reference.methods"


# The guards can fail.


def test_a_heavy_import_is_seen() -> None:
    assert "numpy" in loaded_after(PACKAGE, "numpy") - set(sys.stdlib_module_names)


def test_a_blocked_package_cannot_be_imported() -> None:
    with pytest.raises(AssertionError, match="triton is blocked"):
        run(importing(["triton.language"], blocked={"triton"}))
