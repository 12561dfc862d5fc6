"""The three code folders are imported as `lords_bench.*` only, and nothing of ours answers to the name `kernels`.

`kernels` is also the import name of Hugging Face's package, which transformers imports where it finds it (decision
0002). These tests put a stand-in for that package, of a version that transformers accepts, on the path behind the
checkout, as `python -m pytest` from the checkout would have it.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.utils.import_utils import KERNELS_MIN_VERSION

from architecture.import_map import ROOT

LINKED = ("kernels", "reference", "suites")

STAND_IN = '''
"""Offers whatever name is asked for, as the real package offers many."""

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__init__": lambda self, *args, **kwargs: None})
'''


def installed_stand_in(site: Path) -> Path:
    """A folder in which Hugging Face's `kernels` looks installed, at a version that transformers accepts."""
    (site / "kernels").mkdir(parents=True)
    (site / "kernels" / "__init__.py").write_text(STAND_IN)
    metadata = site / f"kernels-{KERNELS_MIN_VERSION}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {KERNELS_MIN_VERSION}\n")
    (metadata / "RECORD").write_text("kernels/__init__.py,,\n")
    return site


def run_in(folder: Path, code: str, site: Path) -> str:
    """Standard output of `python -c code` started in `folder`, which then is first on the path; `site` comes next."""
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def bare_imports(source: str) -> Iterator[str]:
    """Imports of a linked folder by its own name instead of through `lords_bench`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in LINKED)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in LINKED:
            yield node.module or ""


def test_kernels_has_no_init_file() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize("name", LINKED)
def test_a_linked_folder_is_a_relative_link_to_the_top(name: str) -> None:
    link = ROOT / "lords_bench" / name

    assert link.is_symlink()
    assert link.readlink() == Path("..", name)


def test_linked_folders_are_never_imported_by_their_bare_names() -> None:
    files = [path for folder in ("lords_bench", *LINKED, "tests") for path in (ROOT / folder).rglob("*.py")]

    assert {str(path): names for path in files if (names := list(bare_imports(path.read_text("utf-8"))))} == {}


def test_names_resolve_with_hugging_face_kernels_installed(tmp_path: Path) -> None:
    site = installed_stand_in(tmp_path / "site")
    code = (
        "import kernels, lords_bench.kernels, lords_bench.reference, lords_bench.suites\n"
        "print(kernels.__file__)\n"
        "print(list(lords_bench.kernels.__path__)[0], lords_bench.reference.__file__, lords_bench.suites.__file__)"
    )

    theirs, ours = run_in(ROOT, code, site).splitlines()

    assert Path(theirs) == site / "kernels" / "__init__.py"
    assert [Path(path).is_relative_to(ROOT) for path in ours.split()] == [True, True, True]


def test_transformers_finds_hugging_face_kernels_from_the_checkout(tmp_path: Path) -> None:
    site = installed_stand_in(tmp_path / "site")
    code = (
        "from transformers.utils import is_kernels_available\n"
        "import transformers.integrations.hub_kernels as hub\n"
        "print(is_kernels_available(), hub.get_kernel.__module__)"
    )

    assert run_in(ROOT, code, site).startswith("True ")


# The guards can fail.


def test_an_init_file_in_kernels_would_shadow_hugging_face_kernels(tmp_path: Path) -> None:
    site = installed_stand_in(tmp_path / "site")
    checkout = tmp_path / "checkout"
    (checkout / "kernels").mkdir(parents=True)
    (checkout / "kernels" / "__init__.py").touch()

    assert Path(run_in(checkout, "import kernels; print(kernels.__file__)", site)).is_relative_to(checkout)


@pytest.mark.parametrize("source", ["import kernels", "from kernels.common import decode", "import suites.testbed"])
def test_a_bare_import_is_found(source: str) -> None:
    assert len(list(bare_imports(source))) == 1


def test_an_import_through_the_package_is_not_a_bare_import() -> None:
    assert list(bare_imports("from lords_bench.kernels import common\nfrom . import kernels")) == []
