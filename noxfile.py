"""The project's jobs. `nox -s bench` judges LoRDS on this machine, `nox -s tests` runs every test.

Every session installs the versions of requirements.lock, with either build of torch 2.13 (PyPI's for CUDA, which
demands Triton 3.7.1, or the CPU build, which demands none and gets the same); only `newest` does without it. In `tests`
and `gate` the compiler that machine code is pinned and budgeted with, in a folder of its own, comes first on the path.

Every session but `lint`, `lock` and `newest` works in one virtual environment, `.nox/lords_bench`, because torch and
triton alone take 1.8 GB: the first session installs, the others add the little they lack. pip runs again only when
pyproject.toml, the lock, the interpreter or the checkout's place has changed. The project and torch are always resolved
in one call, so that the upper bound on torch holds wherever pip finds torch.
"""

import hashlib
import os
import re
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYPROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
ENVIRONMENT = ROOT / ".nox" / "lords_bench"
PROGRAMS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]


def dependency_group(name: str) -> tuple[str, ...]:
    """Requirements of one `[dependency-groups]` entry of pyproject.toml."""
    return nox.project.dependency_groups(nox.project.load_toml(PYPROJECT), name)


def install(session: nox.Session, *requirements: str) -> None:
    """Install into the shared environment, made anew for another interpreter or folder."""
    origin = f"{sys.version}\n{ROOT}\n"
    created, installed = ENVIRONMENT / "created-by", ENVIRONMENT / "installed"
    if not created.is_file() or created.read_text() != origin:
        session.run(sys.executable, "-m", "virtualenv", "--clear", "--quiet", str(ENVIRONMENT))
        created.write_text(origin)
    state = hashlib.sha256(PYPROJECT.read_bytes() + LOCK.read_bytes()).hexdigest() + " " + " ".join(requirements)
    if installed.is_file() and state in installed.read_text().splitlines():
        return
    session.run(str(PROGRAMS / "python"), "-m", "pip", "install", "--constraint", str(LOCK), *requirements)
    with installed.open("a") as file:
        file.write(state + "\n")


def pinned_compiler(session: nox.Session) -> dict[str, str]:
    """The environment in which Triton is the release of the pins, whatever release torch demands."""
    budget = (ROOT / "kernels" / "common" / "budget.py").read_text()
    (release,) = re.findall(r'^COUNTED_WITH_TRITON = "(.+)"$', budget, re.MULTILINE)
    folder = ENVIRONMENT / f"triton-{release}"
    if not (folder / f"triton-{release}.dist-info").is_dir():
        pip = [str(PROGRAMS / "python"), "-m", "pip", "install", "--no-deps", "--target", str(folder)]
        session.run(*pip, f"triton=={release}")
    return {"PYTHONPATH": str(folder)}


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Quantize a model by every method, write a report and name it; arguments go to `lords-bench bench`."""
    install(session, "-e", ".[lm-eval]")
    # An interrupted run finishes the line it is writing and says how to go on.
    session.run(str(PROGRAMS / "lords-bench"), "bench", *session.posargs, interrupt_timeout=10)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run every test, or what the arguments ask of pytest.

    The kernels' tests have a process of their own: they run in Triton's interpreter, which must be chosen before Triton
    is first imported. Both parts run, whatever the first finds.
    """
    install(session, "-e", ".[test]")
    run_tests(session, str(PROGRAMS / "pytest"), pinned_compiler(session))


def run_tests(session: nox.Session, pytest: str, environment: dict[str, str] | None = None) -> None:
    """Run both parts of the tests, or what the arguments ask of pytest; fail at the end."""
    parts = [session.posargs] if session.posargs else [["--ignore=tests/kernels"], ["tests/kernels"]]
    failed = []
    for part in parts:
        try:
            session.run(pytest, *part, env=environment)
        except nox.command.CommandFailed:
            failed.append(" ".join(["pytest", *part]))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(reuse_venv=False)
def newest(session: nox.Session) -> None:
    """Run the tests with the newest versions that pyproject.toml allows, and name those that differ from the lock.

    The end of each part lists warnings by the library that gives them, with its version.
    """
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[test]")
    locked = {line.partition(" ")[0] for line in LOCK.read_text().splitlines()}
    names = {pin.partition("==")[0] for pin in locked}
    found = str(session.run("pip", "list", "--format", "freeze", "--exclude-editable", silent=True)).split()
    for pin in (pin.partition("+")[0].lower().replace("_", "-") for pin in found):
        if pin not in locked and pin.partition("==")[0] in names:
            session.log(f"not as locked: {pin}")
    run_tests(session, "pytest")


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve requirements.lock anew, all extras and groups, Python 3.11 and later; `-- --upgrade` takes the newest."""
    session.install(*dependency_group("lock"))
    session.run(
        "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--all-extras",
        *(f"--group={name}" for name in nox.project.load_toml(PYPROJECT)["dependency-groups"]),
        "--custom-compile-command", "nox -s lock", "--no-annotate", "--output-file", LOCK.name, *session.posargs,
        PYPROJECT.name,
    )  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and format with ruff, and the workflows with zizmor; `nox -s lint -- --fix` repairs what it can."""
    session.install("--constraint", str(LOCK), *dependency_group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *(() if "--fix" in session.posargs else ("--check",)))
    session.run("zizmor", "--offline", "--no-progress", "--quiet", ".github/workflows")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly; arguments go to mypy."""
    install(session, "-e", ".[test]")
    install(session, *dependency_group("types"))
    session.run(str(PROGRAMS / "mypy"), *session.posargs)


@nox.session(venv_backend="none")
def gate(session: nox.Session) -> None:
    """Compare machine code and accuracy with their baselines; arguments go to `lords-bench gate`."""
    install(session, "-e", ".[test]")
    session.run(str(PROGRAMS / "lords-bench"), "gate", *session.posargs, env=pinned_compiler(session))


@nox.session(venv_backend="none")
def report(session: nox.Session) -> None:
    """Rebuild the committed pages from their records; a byte of difference is an error."""
    install(session, "-e", ".")
    session.run(str(PROGRAMS / "lords-bench"), "report", *session.posargs)
    session.run("git", "diff", "--exit-code", "--stat", "--", "reports")


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Spend a short visit to a GPU well: check, time, tune, report; arguments go to `lords-bench gpu`."""
    install(session, "-e", ".[bnb]")
    session.run(str(PROGRAMS / "lords-bench"), "gpu", *session.posargs, interrupt_timeout=30)
