from pathlib import Path

import pytest

from lords_bench.cli import main
from lords_bench.cli.bench import lifecycle
from lords_bench.records import LifecycleRecord, read_nouns
from lords_bench.suites.lifecycle.cases import QUICK, Budget, Plan, TextSize
from tiny_models import save_tiny_llama

PLAN = Plan(
    groups=tuple(group for group in QUICK.groups if group.group_id in ("qat-block-b3", "peft-qlora-b4")),
    qat=Budget(steps=1, batch_windows=1, learning_rates=(1e-3,), seeds=(0,)),
    peft=Budget(steps=1, batch_windows=1, learning_rates=(1e-3,), seeds=(0,)),
    text=TextSize(test_passages=2, validation_passages=2, passage_characters=100, window_tokens=32),
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(lifecycle, "PLANS", {"quick": PLAN})
    # One core: the groups run in this process.
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    model = save_tiny_llama(tmp_path / "model")
    return ["bench", "lifecycle", "--model", str(model), "--device", "cpu", "--out", str(tmp_path), "--name", "here"]


def test_the_suite_leaves_records_and_a_page_and_is_not_run_twice(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = main(command)
    page = (tmp_path / "here" / "lifecycle.md").read_text()
    second = main(command)

    path = tmp_path / "records" / "here" / "lifecycle.jsonl"
    assert (first, second) == (0, 0)
    assert [record.case_id for record in read_nouns(path, LifecycleRecord).records] == list(PLAN.case_ids)
    assert "Not measured: the records hold no such pair at 3 bits." in page
    assert (tmp_path / "here" / "lifecycle.md").read_text() == page
    assert "5 of 5 cases are done" in capsys.readouterr().err


def test_the_report_command_rebuilds_the_same_bytes(command: list[str], tmp_path: Path) -> None:
    main(command)
    before = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}

    assert main(["report", "--out", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == before


def test_the_list_names_every_case(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--list"]) == 0
    assert capsys.readouterr().out.split() == list(PLAN.case_ids)
