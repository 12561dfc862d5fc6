"""The project's jobs. `nox -s bench` judges LoRDS on this machine, `nox -s tests` runs every test.

Every session but `lint` works in one virtual environment, `.nox/lords_bench`, because torch and triton alone take
1.8 GB: the first session installs, the others add the little they lack. pip runs again only when pyproject.toml, the
interpreter or the checkout's place has changed. The project and torch are always resolved in one call, so that the
upper bound on torch holds wherever pip finds torch.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYPROJECT = ROOT / "pyproject.toml"
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
    state = hashlib.sha256(PYPROJECT.read_bytes()).hexdigest() + " " + " ".join(requirements)
    if installed.is_file() and state in installed.read_text().splitlines():
        return
    session.run(str(PROGRAMS / "python"), "-m", "pip", "install", *requirements)
    with installed.open("a") as file:
        file.write(state + "\n")


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
    is first imported.
    """
    install(session, "-e", ".[test]")
    pytest = str(PROGRAMS / "pytest")
    if session.posargs:
        session.run(pytest, *session.posargs)
        return
    session.run(pytest, "--ignore=tests/kernels")
    if any(Path("tests/kernels").glob("test_*.py")):
        session.run(pytest, "tests/kernels")


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and format with ruff, and the workflows with zizmor; `nox -s lint -- --fix` repairs what it can."""
    session.install(*dependency_group("lint"))
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
    """Compare machine code and accuracy with their baselines; arguments go to `lords-bench gate`.

    Versions are those of the baselines: any other compiler gives other machine code, which proves nothing.
    """
    lines = (ROOT / ".github" / "gate-constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    compiler = [pin for pin in pins if pin.startswith("triton==")]
    # torch built for CUDA allows one Triton only, and compiling needs no more of torch than that it can be imported.
    install(session, "-e", ".[test]", *(pin for pin in pins if pin not in compiler))
    install(session, "--no-deps", *compiler)
    session.run(str(PROGRAMS / "lords-bench"), "gate", *session.posargs)


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
