"""A wheel holds real files where the checkout holds links, and everything that runs without the checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from architecture.import_map import PACKAGE, ROOT, module_files

SOURCES = ("lords_bench", "kernels", "reference", "suites", "reports/tuned", "pyproject.toml", "README.md", "LICENSE")

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the checkout; setuptools writes into the folder that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, checkout / name)
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=checkout, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_a_wheel_holds_every_module_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    package = ROOT / PACKAGE
    modules = {path.relative_to(ROOT).as_posix() for path in module_files(package).values()}

    assert sorted(modules - set(wheel.namelist())) == []


def test_a_wheel_holds_files_and_no_links(wheel: zipfile.ZipFile) -> None:
    link_mode = 0o120000

    assert [i.filename for i in wheel.infolist() if (i.external_attr >> 16) & 0o170000 == link_mode] == []


def test_a_wheel_installs_one_top_level_name(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {PACKAGE}


def test_a_wheel_holds_the_data_that_the_code_reads(wheel: zipfile.ZipFile) -> None:
    data = [
        path.relative_to(ROOT)
        for folder in ("lords_bench", "kernels", "reference", "suites")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    expected = {path.as_posix() if path.parts[0] == PACKAGE else f"{PACKAGE}/{path.as_posix()}" for path in data}

    assert f"{PACKAGE}/py.typed" in expected
    assert sorted(expected - set(wheel.namelist())) == []


def test_an_unpacked_wheel_runs_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "import lords_bench.suites.testbed.corpus as corpus; print(corpus.__file__)"

    # -I keeps the working directory and the environment off the path.
    run = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    result = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True)

    assert Path(result.stdout.strip()) == tmp_path / PACKAGE / "suites" / "testbed" / "corpus.py"
