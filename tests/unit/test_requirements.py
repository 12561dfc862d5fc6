"""What is missing is named before it is missed."""

import builtins
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from lords_bench.cli import main
from lords_bench.cli.env import package_findings
from lords_bench.requirements import Unmet, installed_version, project_requirements, unmet_requirements

REQUIRED = ("some-tool>=4,<5", "other>=1", "windows-only>=1; sys_platform == 'nowhere'", "extra>=1; extra == 'test'")
MISSING = Unmet(package="platformdirs", wanted="<5,>=4", installed=None)


def unmet_with(installed: Mapping[str, str]) -> tuple[Unmet, ...]:
    return unmet_requirements(REQUIRED, installed.get)


def test_what_is_there_in_a_fitting_version_is_met() -> None:
    assert unmet_with({"some-tool": "4.2", "other": "1.0+local"}) == ()


def test_what_is_missing_is_named() -> None:
    (unmet,) = unmet_with({"some-tool": "4.2"})

    assert str(unmet) == "other is not installed"
    assert unmet.argument == "'other>=1'"


@pytest.mark.parametrize("version", ["3.9", "5.0"])
def test_another_version_is_named_with_what_was_asked(version: str) -> None:
    (unmet,) = unmet_with({"some-tool": version, "other": "2"})

    assert str(unmet) == f"some-tool is {version}, not <5,>=4"


def test_this_environment_meets_the_requirements_of_the_project() -> None:
    assert len(project_requirements()) > 10
    assert unmet_requirements() == ()


def test_requirements_come_from_the_metadata_where_there_is_no_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("lords_bench.requirements.PACKAGE_FOLDER", tmp_path / "site-packages" / "lords_bench")
    monkeypatch.setattr("lords_bench.requirements.requires", lambda _name: ["no-such-package>=1"])

    assert unmet_requirements() == (Unmet(package="no-such-package", wanted=">=1", installed=None),)


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert installed_version("no-such-package") is None


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def blocked(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(name, *arguments, **options)

    monkeypatch.delenv("LORDS_BENCH_TUNED", raising=False)
    monkeypatch.setattr(builtins, "__import__", blocked)


EXPLAIN = ["explain", "1", "4096", "4096", "--device", "H200"]


def test_a_command_that_lacks_a_required_package_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without("platformdirs", monkeypatch)
    monkeypatch.setattr("lords_bench.requirements.unmet_requirements", lambda: (MISSING,))

    assert main(EXPLAIN) == 2

    said = capsys.readouterr().err
    assert said.startswith("lords-bench: no module 'platformdirs'; required and not installed: platformdirs; run: pip ")
    assert said.endswith(" 'platformdirs<5,>=4'\n")
    assert said.count("\n") == 1


def test_a_command_that_cannot_even_be_imported_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "lords_bench.cli.eval", raising=False)
    without("rich", monkeypatch)
    monkeypatch.setattr("lords_bench.requirements.unmet_requirements", lambda: (MISSING,))

    assert main(["eval", "model"]) == 2

    assert capsys.readouterr().err.startswith("lords-bench: no module 'rich.table'; required and not installed: ")


def test_a_missing_module_that_no_requirement_explains_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    without("platformdirs", monkeypatch)
    monkeypatch.setattr("lords_bench.requirements.unmet_requirements", tuple)

    with pytest.raises(ModuleNotFoundError, match="platformdirs"):
        main(EXPLAIN)


def test_env_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lords_bench.cli.env.unmet_requirements", lambda: (MISSING,))
    monkeypatch.setattr("lords_bench.cli.env.installed_versions", lambda: (("gemlite", None), ("peft", "0.21.2")))

    assert {finding.topic: (finding.found, finding.concern) for finding in package_findings()} == {
        "platformdirs": ("not installed", "<5,>=4 is required: what needs it may fail"),
        "gemlite": ("not installed", "its baseline is not timed"),
        "peft": ("0.21.2", None),
    }
