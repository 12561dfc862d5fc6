"""A group of commands: which one is meant, what it does not take, and what a start costs."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from architecture.import_map import ROOT
from lords_bench.cli.parser import COMMANDS, build_parser


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        build_parser(words).parse_args(words)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("words", [(), ("--bits", "4"), ("--bits=4", "--list")])
def test_bench_without_a_suite_is_accuracy_with_its_options(words: tuple[str, ...]) -> None:
    bare, named = ("bench", *words), ("bench", "accuracy", *words)

    found, expected = (vars(build_parser(given).parse_args(given)) for given in (bare, named))

    assert found["run"].__qualname__ == expected["run"].__qualname__
    assert found | {"run": None} == expected | {"run": None}
    assert "calibration" in found


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            ("latency", "--scale", "2"),
            ("--scale 2; --scale belongs to 'lords-bench bench ptq' and 'lords-bench bench step'; see '",),
        ),
        (("latency", "--methods=nf4"), ("--methods belongs to 'lords-bench bench accuracy' and",)),
        (("--fake",), ("--fake belongs to 'lords-bench bench latency'; see 'lords-bench bench accuracy --help'",)),
        (("lifecycle", "--tasks", "hellaswag"), ("--tasks belongs to 'lords-bench bench accuracy'",)),
        (("step", "--methods", "lords"), ("'lords-bench bench ptq'",)),
        (("ptq", "--regimes", "cold"), ("--regimes belongs to 'lords-bench bench latency'",)),
        (("--full", "latency"), ("unrecognized arguments: latency; latency belongs to 'lords-bench bench latency'",)),
        (("latency", "--nonsense"), ("unrecognized arguments: --nonsense; see 'lords-bench bench latency --help'",)),
        (("ptq", "--bits", "4,3"), ("argument --bits: '4,3' is no whole number from 2 to 4",)),
        (("speed",), ("argument SUITE: invalid choice: 'speed' (choose from ", "accuracy", "lifecycle")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_a_suite_does_not_take_is_refused_with_the_suite_that_does(
    words: tuple[str, ...], messages: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(capsys, "bench", *words)

    assert [message for message in messages if message not in error] == []


@pytest.mark.parametrize("suite", ["accuracy", "latency", "lifecycle", "ptq", "step"])
def test_the_help_of_bench_names_every_suite_and_the_options_of_the_one_that_is_meant(
    suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        build_parser(["bench", "--help"]).parse_args(["bench", "--help"])

    shown = capsys.readouterr().out
    assert re.search(rf"\n    {suite}\s", shown)
    assert "--calibration FILE" in shown
    assert "--regimes" not in shown


def test_every_command_that_a_committed_record_names_can_be_given_again() -> None:
    files = (ROOT / "reports" / "records").rglob("*.jsonl")
    commands = {found for path in files for found in re.findall(r'"command":"lords-bench ([^"\\]*)"', path.read_text())}

    for command in commands:
        build_parser().parse_args(shlex.split(command))

    assert len(commands) > 2


def loaded_by(*words: str) -> set[str]:
    """Modules that a process which is given these words has imported at its end."""
    code = (
        "import json, sys\nfrom lords_bench.cli import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_help_of_all_commands_imports_none_of_them() -> None:
    loaded = loaded_by("--help")

    ours = {name.split(".")[1] for name in loaded if name.startswith("lords_bench.")}
    assert ours == {"cli", "errors", "files", "locks", "options", "quant", "text", "version"}
    assert {name for name in loaded if name.startswith("lords_bench.cli.")} == {
        f"lords_bench.cli.{name}" for name in ("command", "output", "parser")
    }
    assert loaded & {"torch", "triton", "numpy", "rich"} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_waits_for_torch_before_it_runs(command: str) -> None:
    loaded = loaded_by(command, "--help")

    assert f"lords_bench.cli.{command}" in loaded
    assert loaded & {"torch", "triton", "transformers"} == set()
