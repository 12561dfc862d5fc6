"""requirements.lock has a version of everything that pyproject.toml asks for, on every Python, for either torch."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from architecture.import_map import ROOT
from lords_bench.kernels.common.budget import COUNTED_WITH_TRITON

PYTHONS = ("3.11", "3.12", "3.13")
LOCK = (ROOT / "requirements.lock").read_text()


def pins(text: str, python: str) -> dict[str, str]:
    """Names to versions that hold on a Python of Linux."""
    found = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if applies(requirement, python):
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            found[canonicalize_name(requirement.name)] = pin.version
    return found


def applies(requirement: Requirement, python: str) -> bool:
    environment = {
        **default_environment(), "python_version": python, "python_full_version": f"{python}.0",
        "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64",
    }  # fmt: skip
    return requirement.marker is None or requirement.marker.evaluate(environment)


def asked_for() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["project"]["dependencies"], *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]  # fmt: skip
    for text in (text for one in lists for text in one):
        requirement = Requirement(text)
        if requirement.name != "lords_bench":
            yield requirement


def not_locked(text: str, python: str) -> list[str]:
    held = pins(text, python)
    return [
        str(requirement)
        for requirement in asked_for()
        if applies(requirement, python)
        and not requirement.specifier.contains(held.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_asked_for_is_locked_inside_its_range(python: str) -> None:
    assert not_locked(LOCK, python) == []


def test_the_lock_names_no_registry_and_no_file() -> None:
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]

    assert [line for line in lines if "://" in line or " @ " in line or line.startswith("-")] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_the_compiler_that_torch_of_the_package_index_demands(python: str) -> None:
    held = pins(LOCK, python)

    assert (held["torch"], held["triton"]) == ("2.13.0", "3.7.1")


def test_tests_and_gate_run_the_compiler_of_the_pins() -> None:
    noxfile = (ROOT / "noxfile.py").read_text()
    gate = (ROOT / ".github" / "workflows" / "gate.yml").read_text()

    assert noxfile.count("pinned_compiler(session)") == 2
    assert gate.count(f"--no-deps triton=={COUNTED_WITH_TRITON}") == 2


def test_every_session_and_workflow_installs_by_the_lock_but_the_one_that_looks_for_newer_versions() -> None:
    noxfile = (ROOT / "noxfile.py").read_text()
    gate = (ROOT / ".github" / "workflows" / "gate.yml").read_text()
    ci = (ROOT / ".ci" / "run").read_text()

    assert [line.strip() for line in noxfile.splitlines() if "session.install(" in line and "LOCK" not in line] == [
        'session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[test]")',
        'session.install(*dependency_group("lock"))',
    ]
    for text in (gate, ci):
        commands = [line for line in text.splitlines() if "pip install" in line and "--no-deps" not in line]
        assert commands
        assert [line for line in commands if "--constraint requirements.lock" not in line] == []


# The guards can fail.


def test_a_missing_and_a_misplaced_version_are_found() -> None:
    missing = "\n".join(line for line in LOCK.splitlines() if not line.startswith("rich=="))

    assert not_locked(missing, "3.11") == ["rich<16,>=14"]
    assert not_locked(LOCK.replace("torch==2.13.0", "torch==2.14.0"), "3.11") == ["torch<2.14,>=2.11"]


def test_the_noxfile_reads_the_compiler_of_the_pins_where_it_stands() -> None:
    text = (ROOT / "noxfile.py").read_text()
    (place,) = re.findall(r'budget = \(ROOT((?: / "[a-z_.]+")+)\)', text)
    (pattern,) = re.findall(r're\.findall\(r\'(\S+ = "\(\.\+\)"\$)\'', text)

    budget = ROOT.joinpath(*re.findall(r'"(.+?)"', place)).read_text()

    assert re.findall(pattern, budget, re.MULTILINE) == [COUNTED_WITH_TRITON]
