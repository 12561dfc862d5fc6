"""The documents are true: links lead somewhere, commands can be run as written, named files and options exist."""

from pathlib import Path

import pytest

from architecture.documents import (
    block_commands,
    broken_links,
    inline_commands,
    missing_in_tree,
    missing_paths,
    unknown_options,
    unnamed_in_tree,
    written_documents,
    wrong_command,
)
from architecture.import_map import ROOT

README = ROOT / "README.md"
# The log and the decisions tell of what was; a file may be gone since.
PRESENT = [path for path in written_documents() if not {"log.md", "decisions"} & set(path.relative_to(ROOT).parts)]

documents = pytest.mark.parametrize("path", list(written_documents()), ids=lambda path: str(path.relative_to(ROOT)))
present = pytest.mark.parametrize("path", PRESENT, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_every_link_leads_to_a_file_and_heading(path: Path) -> None:
    assert broken_links(path, path.read_text("utf-8")) == []


@present
def test_every_command_can_be_run_as_written(path: Path) -> None:
    text = path.read_text("utf-8")
    calls = [(command, True) for command in block_commands(text)]
    calls += [(command, False) for command in inline_commands(text)]

    wrong = {command: wrong_command(command, is_whole=is_whole) for command, is_whole in calls}

    assert {command: reason for command, reason in wrong.items() if reason} == {}


@present
def test_every_option_that_is_named_exists(path: Path) -> None:
    assert unknown_options(path.read_text("utf-8")) == []


@present
def test_every_file_that_is_named_exists(path: Path) -> None:
    assert missing_paths(path, path.read_text("utf-8")) == []


def test_every_name_of_the_readme_tree_exists() -> None:
    assert missing_in_tree(README.read_text("utf-8")) == []


def test_the_readme_tree_names_every_folder_of_the_package() -> None:
    assert unnamed_in_tree(README.read_text("utf-8")) == []


def test_enough_is_found_to_be_checked() -> None:
    text = README.read_text("utf-8")

    assert len(block_commands(text)) > 10
    assert len(inline_commands(text)) > 3
    assert len(PRESENT) > 10


# The guards can fail.


def test_a_link_to_a_missing_file_or_heading_is_found() -> None:
    text = "# Here it is\n[a](gone.md) [b](#here-it-is) [c](#not-here) [d](CONTRIBUTING.md#tests) [e](https://x.org)"

    assert broken_links(README, text) == ["gone.md", "#not-here"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("lords-bench bench --bit 4 --nope", "unrecognized arguments: --nope"),
        ("lords-bench explain M N", "required: k"),
        ("lords-bench tuna", "invalid choice: 'tuna'"),
        ("python -m lords_bench bench --nope", "unrecognized arguments: --nope"),
        ("python -m lords_bench.suites.nothing", "lords_bench.suites.nothing does not exist"),
        ("python suites/nothing.py 3", "suites/nothing.py does not exist"),
        ("nox -s tests nothing", "no session nothing"),
        ("nox -s bench -- --nope", "unrecognized arguments: --nope"),
    ],
)
def test_a_command_that_cannot_be_run_is_found(command: str, reason: str) -> None:
    assert reason in (wrong_command(command, is_whole=True) or "").lower().replace("'k'", "k")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("lords-bench tuna", "no command tuna of lords-bench"),
        ("lords-bench tune --shape", "no option --shape of lords-bench tune"),
        ("lords-bench testbed paint", "no command paint of lords-bench testbed"),
        ("lords-bench bench latency --tasks", "no option --tasks of lords-bench bench latency"),
        ("lords-bench bench --fake", "no option --fake of lords-bench bench accuracy"),
    ],
)
def test_a_mentioned_command_that_does_not_exist_is_found(command: str, reason: str) -> None:
    assert wrong_command(command, is_whole=False) == reason


def test_commands_are_read_without_what_stands_around_them() -> None:
    text = (
        "    pip install nox && nox -s bench     # all\n\n```sh\nlords-bench eval DIR > out\n```\nand `nox -s\nreport`."
    )

    assert block_commands(text) == ["lords-bench eval DIR", "nox -s bench"]
    assert inline_commands(text) == ["nox -s report"]


def test_an_option_file_or_folder_that_does_not_exist_is_found() -> None:
    tree = "## The tree\n\n    lords_bench/     a\n      stats/ nothing.py   b\n    gone/     c\n\nend"

    assert unknown_options("`--budget 5m`, `--bugdet`") == ["--bugdet"]
    assert missing_paths(README, "`reference/methods.py` `reference/method.py`") == ["reference/method.py"]
    assert missing_in_tree(tree) == ["lords_bench/nothing.py", "gone/"]
    assert {"records", "timing"} <= set(unnamed_in_tree(tree))
    assert "stats" not in unnamed_in_tree(tree)
