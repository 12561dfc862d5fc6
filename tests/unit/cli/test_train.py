from pathlib import Path

import pytest

from lords_bench.cli import main
from lords_bench.cli.parser import build_parser
from lords_bench.cli.train import train_settings
from tiny_models import save_tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")


def test_train_names_what_eval_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny_llama(tmp_path / "model")
    (tmp_path / "text.jsonl").write_text('{"text": "one line of text"}\n' * 20)
    command = ["train", "peft", str(model), "--data", str(tmp_path / "text.jsonl"), "--out", str(tmp_path / "out")]

    code = main([*command, "--steps", "2", "--batch", "1", "--window", "32", "--device", "cpu"])

    printed = capsys.readouterr().out
    assert code == 0
    assert "2 steps" in printed
    assert f"lords-bench eval {tmp_path / 'out' / 'merged'}" in printed


def test_a_refusal_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("")
    command = ["train", "qat", "nowhere/at/all", "--data", str(tmp_path / "empty.txt"), "--out", str(tmp_path / "out")]

    code = main(command)

    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("mode", "rate"), [("qat", 1e-4), ("peft", 5e-3)])
def test_each_mode_has_its_own_learning_rate(mode: str, rate: float) -> None:
    arguments = build_parser().parse_args(["train", mode, "model", "--data", "a.txt", "--out", "out"])

    settings = train_settings(arguments)

    assert (settings.mode, settings.learning_rate, settings.data) == (mode, rate, ("a.txt",))
