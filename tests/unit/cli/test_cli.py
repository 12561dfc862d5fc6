"""The command line as a user meets it, on a tiny model and with the cheapest methods."""

import json
from pathlib import Path

import pytest

from lords_bench.cli import main
from lords_bench.integrations.hf_quantizer import from_pretrained
from lords_bench.records import RecordStore, read_records
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.suites.accuracy import text as evaluation_text
from lords_bench.suites.accuracy.metrics import METRICS, estimate
from lords_bench.suites.accuracy.text import EvaluationSize, EvaluationText
from lords_bench.suites.testbed import TESTBED_MODEL
from tiny_models import save_tiny_gpt2, save_tiny_llama

SIZE = EvaluationSize(passages=4, choice_items=4, calibration_passages=2, passage_characters=120, window_tokens=64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def text() -> EvaluationText:
    return evaluation_text.text_of_testbed(SIZE, calibration=None)


@pytest.fixture(autouse=True)
def small_text(monkeypatch: pytest.MonkeyPatch, text: EvaluationText) -> None:
    """A few lines of the testbed's text, read once."""
    monkeypatch.setattr(evaluation_text, "QUICK", SIZE)
    monkeypatch.setattr(evaluation_text, "text_of_testbed", lambda *_, **__: text)


def bench(model: Path, out: Path, *arguments: str) -> int:
    return main(["bench", "--model", str(model), "--out", str(out), "--name", "here", "--device", "cpu", *arguments])


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line on standard error of a command that must be refused."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_bench_ends_with_table_verdict_and_report(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = bench(model, tmp_path, "--methods", "nf4,block-opt,int-rtn", "--bits", "4")

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert any("nf4" in line for line in lines)
    assert "No verdict" in lines[-3]
    assert lines[-2:] == [f"Report: {tmp_path}/here/accuracy.md", f"Report: {tmp_path}/here/accuracy.html"]
    assert (tmp_path / "here" / "accuracy.html").is_file()
    records = read_records(tmp_path / "records" / "here" / "accuracy.jsonl").records
    assert [record.case_id for record in records[:3]] == ["unquantized", "nf4-b4-g64", "block-opt-b4-g64"]


def test_a_second_bench_measures_nothing_again(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench(model, tmp_path, "--methods", "nf4")
    before = (tmp_path / "records" / "here" / "accuracy.jsonl").read_bytes()
    first = capsys.readouterr()

    bench(model, tmp_path, "--methods", "nf4")

    assert (tmp_path / "records" / "here" / "accuracy.jsonl").read_bytes() == before
    assert capsys.readouterr().out == first.out
    assert "nf4-b4-g64" in first.err


def test_a_layer_that_cannot_be_stored_is_unsupported_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny_llama(tmp_path / "model", hidden=48)
    tensors, metadata = read_tensors(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"] *= 1e-9
    write_tensors(tensors, folder / "model.safetensors", metadata)

    code = bench(folder, tmp_path / "out", "--methods", "nf4")

    output = capsys.readouterr()
    assert code == 0
    assert "nf4-b4-g64: unsupported: layer model.layers.0.self_attn.q_proj: " in output.err
    assert "nf4-b4-g64: unsupported: layer model.layers.0.self_attn.q_proj: " in output.out.replace("\n", " ")


def test_report_rebuilds_the_same_bytes(model: Path, tmp_path: Path) -> None:
    bench(model, tmp_path, "--methods", "nf4")
    pages = {path: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    for path in pages:
        path.unlink()

    code = main(["report", "--out", str(tmp_path)])

    assert code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "here").iterdir()} == pages


def test_lm_eval_judges_the_same_text(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench(model, tmp_path, "--methods", "nf4", "--tasks", "lords_bench_passages")
    first = capsys.readouterr().out

    bench(model, tmp_path, "--methods", "nf4", "--tasks", "lords_bench_passages")

    assert "lm-eval" in first
    assert capsys.readouterr().out == first


def test_two_runs_at_once_on_one_folder_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RecordStore(tmp_path / "records" / "here" / "accuracy.jsonl"):
        code = bench(model, tmp_path)

    error = capsys.readouterr().err
    assert code == 2
    assert "is being written by process" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "--methods", "awq"], "unknown method 'awq'; known: nf4,"),
        (["bench", "latency", "--fake", "--kernels", "nosuch"], "unknown kernel 'nosuch'; known: rank_expanded"),
        (["bench", "--model", "/no/model"], "no model directory '/no/model'"),
        (["bench", "--calibration", "/no/text"], "--calibration '/no/text' cannot be read"),
        (["quantize", "/no/model", "--out", "x", "--method", "awq"], "unknown method 'awq'"),
        (["eval", "/no/model"], "no model directory '/no/model'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert words in refusal(capsys, arguments)


def test_a_model_of_conv1d_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpt2 = save_tiny_gpt2(tmp_path / "gpt2")
    capsys.readouterr()

    error = refusal(capsys, ["eval", str(gpt2)])

    assert "no nn.Linear to quantize; its weights are in transformer.h.0.attn.c_attn (Conv1D)" in error


@pytest.mark.parametrize("below", ["n" * 300, "file/below", "loop/below"])
@pytest.mark.parametrize(
    "command",
    [
        ["report", "--out"],
        ["gpu", "--take"],
        ["gpu", "--device", "fake", "--out"],
        ["export", __file__],
        ["testbed", "card"],
        ["testbed", "train", "--max-steps", "1", "--out"],
        ["quantize", str(TESTBED_MODEL), "--method", "nf4", "--out"],
        ["train", "qat", str(TESTBED_MODEL), "--data", __file__, "--out"],
        ["tune", "--device", "fake", "--m", "1", "--shapes", "64x64", "--out"],
        ["gate", "--accuracy", "--head"],
        ["explain", "16", "64", "64", "--device", "H200", "--tables"],
    ],
    ids=lambda command: " ".join(word for word in command if not word.startswith("/")),
)
def test_a_path_that_the_system_refuses_is_refused_in_one_line(
    command: list[str], below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")

    refusal(capsys, [*command, str(tmp_path / below)])

    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_a_report_without_records_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no records below" in refusal(capsys, ["report", "--out", str(tmp_path)])


def test_a_refusal_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    refusal(capsys, ["bench", "--model", "/no/model"])

    assert list(tmp_path.iterdir()) == []


def test_records_name_the_command(model: Path, tmp_path: Path) -> None:
    bench(model, tmp_path, "--methods", "nf4")

    records = read_records(tmp_path / "records" / "here" / "accuracy.jsonl").records
    assert records[0].command.startswith(f"lords-bench bench --model {model} --out {tmp_path} ")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no records below"):
        main(["report", "--out", str(tmp_path), "--debug"])


def test_an_interrupt_says_how_to_go_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lords_bench.cli.bench.accuracy.run_suite", interrupt)

    code = bench(model, tmp_path)

    assert code == 130
    assert capsys.readouterr().err.endswith("the same command goes on where this one stopped\n")


def test_quantize_and_eval_agree_with_bench(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quantized"
    bench(model, tmp_path / "reports", "--methods", "nf3")
    record = read_records(tmp_path / "reports" / "records" / "here" / "accuracy.jsonl").records[1]
    assert record.samples is not None

    assert main(["quantize", str(model), "--method", "nf3", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert main(["eval", str(out), "--reference", str(model)]) == 0

    table = capsys.readouterr().out
    assert f"7 layers at {record.samples.bits_per_weight:.3f} bits per weight" in said
    for metric in METRICS.values():
        assert estimate(metric.estimator.interval(record.samples), metric)[0] in table
    assert from_pretrained(out).config.quantization_config.method == "nf3"


def test_the_cases_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list", "--methods", "nf4"]) == 0

    assert capsys.readouterr().out.splitlines()[:2] == ["unquantized", "nf4-b4-g64"]


def test_env_names_the_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["torch"] is not None


def test_env_says_what_the_machine_means_for_a_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0

    said = capsys.readouterr().out
    assert "Measuring on the processor" in said
    assert "governor" in said


@pytest.mark.parametrize("command", [[], ["bench"], ["quantize"], ["eval"], ["report"], ["env"], ["testbed", "train"]])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])

    assert end.value.code == 0
    assert "usage: lords-bench" in capsys.readouterr().out
