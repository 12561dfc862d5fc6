"""What CI is told to run exists: commands parse, the lock has the versions that the baselines were made with."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from architecture.import_map import ROOT
from architecture.test_lock import LOCK, pins
from lords_bench.cli.gate.static_layer import predicted_text
from lords_bench.cli.parser import build_parser
from lords_bench.kernels.common.budget import COUNTED_WITH_TRITON
from lords_bench.records import read_records
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.records.store import read_nouns

WORKFLOW = ROOT / ".github" / "workflows" / "gate.yml"
WORKFLOWS = sorted(WORKFLOW.parent.glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"


def gate_commands() -> Iterator[list[str]]:
    """Arguments of every `lords-bench gate` in the workflow and the hook; what the workflow fills in becomes a word."""
    workflow: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    texts = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    texts += [hook["entry"] for repo in yaml.safe_load(HOOKS.read_text())["repos"] for hook in repo["hooks"]]
    for text in texts:
        words = shlex.split(re.sub(r"\$\{\{.*?\}\}|\$\w+", "filled", text))
        if "gate" in words and any(word.endswith(("lords-bench", "lords_bench")) for word in words):
            yield words[words.index("gate") :]


def test_the_workflow_and_the_hook_run_commands_that_exist() -> None:
    commands = list(gate_commands())

    parsed = [build_parser().parse_args(command) for command in commands]
    assert [(found.static, found.accuracy, found.latency) for found in parsed] == [
        (True, True, False),
        (False, False, True),
        (True, False, False),
    ]


def schema_problems(workflow: Path) -> str:
    """What GitHub's schema of workflows has against a file; empty where nothing."""
    pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema to check workflows")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode else ""


def test_every_workflow_fits_the_schema_of_github_and_a_misspelt_key_does_not(tmp_path: Path) -> None:
    misspelt = tmp_path / "gate.yml"
    misspelt.write_text(WORKFLOW.read_text().replace("timeout-minutes: 60", "time-out-minutes: 60"))

    assert [schema_problems(workflow) for workflow in WORKFLOWS] == [""] * len(WORKFLOWS)
    assert "'time-out-minutes' was unexpected" in schema_problems(misspelt)


def test_the_cpu_job_measures_the_baseline_commit_itself_and_has_its_history() -> None:
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["cpu"]

    checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
    gate = next(step for step in job["steps"] if step.get("name") == "Gate")
    assert checkout["with"]["fetch-depth"] == 0
    assert "github.event.pull_request.base.sha" in gate["env"]["BASE"]
    assert '--baseline "$BASE"' in gate["run"]


def test_a_gpu_runner_never_runs_code_of_a_fork() -> None:
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gpu"]

    assert "self-hosted" in job["runs-on"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]


def test_the_lock_has_the_versions_of_the_accuracy_baseline() -> None:
    environment = read_records(ROOT / "reports" / "records" / "cpu" / "accuracy.jsonl").records[-1].environment
    assert environment.python is not None
    locked = pins(LOCK, environment.python.rpartition(".")[0])

    assert environment.torch is not None
    assert environment.torch.partition("+")[0] == locked["torch"]
    assert (environment.transformers, environment.numpy) == (locked["transformers"], locked["numpy"])
    assert f'python-version: "{environment.python}"' in WORKFLOW.read_text()


def test_the_pins_are_of_the_compiler_of_the_budgets() -> None:
    paths = sorted((ROOT / "reports" / "static").glob("*.jsonl"))
    pinned = [pin for path in paths for pin in read_nouns(path, Fingerprint).records]

    assert {pin.toolchain.triton for pin in pinned} == {COUNTED_WITH_TRITON}


def test_the_committed_page_of_predictions_is_that_of_the_pins_and_records() -> None:
    committed = (ROOT / "reports" / "static" / "predicted.md").read_text()

    assert predicted_text(ROOT / "reports") == committed


@pytest.mark.parametrize("path", sorted((ROOT / "reports" / "static").glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_committed_pin_is_believed_and_of_its_file_s_target(path: Path) -> None:
    file = read_nouns(path, Fingerprint)

    assert file.rejected == ()
    assert {pin.target for pin in file.records} == {path.stem}
