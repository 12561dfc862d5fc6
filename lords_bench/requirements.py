"""What the project needs of other packages, compared with what is installed.

pip sees to that, unless it was told not to look: a checkout that is run without being installed, or that was put in
place with `pip install --no-deps` on a machine without a network, meets whatever is there.
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from lords_bench.version import PACKAGE_FOLDER


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmet:
    """A package that is missing or of another version than asked for.

    Attributes:
        package: as pip knows it.
        wanted: versions that will do, as pip writes them; empty = any.
        installed: the version there is; None = none.
    """

    package: str
    wanted: str
    installed: str | None

    def __str__(self) -> str:
        if self.installed is None:
            return f"{self.package} is not installed"
        return f"{self.package} is {self.installed}, not {self.wanted}"

    @property
    def argument(self) -> str:
        """What to ask pip for."""
        return f"'{self.package}{self.wanted}'"


def installed_version(package: str) -> str | None:
    """Version of a package by its metadata, None where it is not installed; nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def project_requirements() -> tuple[str, ...]:
    """What the project requires, extras aside: by the checkout's pyproject.toml, else by the installed metadata."""
    pyproject = PACKAGE_FOLDER.parent / "pyproject.toml"
    if pyproject.is_file():
        return tuple(tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"])
    return tuple(requires("lords_bench") or ())


def unmet_requirements(
    required: Sequence[str] | None = None, installed: Callable[[str], str | None] = installed_version
) -> tuple[Unmet, ...]:
    """Requirements that hold on this machine and are not met, in their order.

    Args:
        required: as pip writes them; None is the project's own.
        installed: gives a package's version, None where there is none.
    """
    from packaging.requirements import Requirement

    unmet = []
    for text in project_requirements() if required is None else required:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            unmet.append(Unmet(package=requirement.name, wanted=str(requirement.specifier), installed=found))
    return tuple(unmet)
