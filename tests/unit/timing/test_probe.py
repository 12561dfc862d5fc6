"""The environment probe: true on this machine, and None for what cannot be found out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lords_bench
from lords_bench.errors import RecordError
from lords_bench.timing.probe import cpu_model, git_state, probe_environment

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed checkout with one code file and one test file."""
    for folder in ("lords_bench", "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code.py").write_text("1\n")
    environment = {**os.environ, **IDENTITY}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, env=environment)
    return tmp_path


def test_the_environment_of_this_process_names_its_versions() -> None:
    environment = probe_environment()

    assert environment.lords_bench == lords_bench.__version__
    assert environment.python == sys.version.split()[0]
    assert environment.device_slug == "cpu"
    assert environment.hostname_sha256 is not None
    assert len(environment.hostname_sha256) == 12


def test_probing_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from lords_bench.timing.probe import probe_environment; probe_environment()\n"
        "print([name for name in ('torch', 'triton', 'numpy', 'transformers') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=600
    )

    assert output.stdout == "[]\n"


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(RecordError, match="'tpu'; it must be 'cpu' or 'cuda'"):
        probe_environment("tpu")  # type: ignore[arg-type]


def test_a_clean_checkout_gives_its_commit(checkout: Path) -> None:
    commit, dirty = git_state(checkout)

    assert commit is not None
    assert len(commit) == 40
    assert dirty is False


@pytest.mark.parametrize(("folder", "expected"), [("lords_bench", True), ("tests", False), ("reports", False)])
def test_only_changes_of_code_make_a_checkout_dirty(checkout: Path, folder: str, expected: bool) -> None:
    (checkout / folder).mkdir(exist_ok=True)
    (checkout / folder / "new.py").write_text("2\n")

    assert git_state(checkout)[1] is expected


def test_a_package_inside_another_project_s_checkout_has_no_commit(checkout: Path) -> None:
    assert git_state(checkout / "lords_bench") == (None, None)


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert git_state(checkout) == (None, None)


def test_a_processor_without_a_model_name_is_not_invented(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name\t: Example  CPU\n")

    assert cpu_model(cpuinfo) == "Example CPU"
