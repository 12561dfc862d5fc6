"""A model trained in a stated time: it ends then, on text that holds nothing it is judged on."""

import json
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lords_bench.cli import main
from lords_bench.errors import ModelError, UsageError
from lords_bench.suites.testbed import timed
from lords_bench.suites.testbed.corpus import Document
from lords_bench.suites.testbed.timed import LARGE, python_sources, train_for
from lords_bench.suites.testbed.train import TestbedRecipe, build_model

TINY = TestbedRecipe(
    vocabulary=300, hidden=64, intermediate=64, layers=1, heads=2, context=32, batch_windows=2, library_passes=1000,
)  # fmt: skip
TEXT = tuple(Document(name=f"f{number}.py", text=f"value_{number} = {number}\n" * 40) for number in range(8))


def test_the_large_model_has_75_million_weights() -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build_model(LARGE).parameters())

    assert 75e6 < count < 76e6


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("tick_s", "steps"), [(1, 71), (4, 20)], ids=["as planned", "slower than planned"])
def test_training_ends_at_its_time_and_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tick_s: int, steps: int
) -> None:
    # The clock is read at the start, after each of the 20 steps that are timed, and when those are over: 22 times.
    clock = chain(range(22), count(21 + tick_s, tick_s))
    monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    out = train_for(tmp_path / "model", TINY, 100.0, documents=TEXT)

    record = json.loads((out / "training.json").read_text())
    assert (record["planned_steps"], record["steps"]) == (71, steps)
    assert record["tokens"] == record["steps"] * 2 * 32
    assert record["training_files"] == 8
    assert (out / "model.safetensors").is_file()
    assert not (out / "unused").exists()


def test_what_cannot_be_trained_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").touch()

    with pytest.raises(ModelError, match="holds a trained model already"):
        train_for(tmp_path, TINY, 1.0, documents=TEXT)
    with pytest.raises(UsageError, match=r"seconds=0\.0 is no number above 0"):
        train_for(tmp_path / "new", TINY, 0.0, documents=TEXT)
    with pytest.raises(ModelError, match="are no batch of 2"):
        train_for(tmp_path / "new", TINY, 5.0, documents=[Document(name="a.py", text="a")])
    assert main(["testbed", "train", "--size", "large", "--out", str(tmp_path / "new")]) == 2
    assert "give --seconds" in capsys.readouterr().err


def test_the_text_of_packages_follows_the_library_s_without_held_out_modules_and_repetitions(tmp_path: Path) -> None:
    files = {
        "pkg/a.py": "first = 1\n",
        "pkg/b.py": "first = 1\n",
        "pkg/argparse.py": "held = 'out'\n",
        "pkg/test_json.py": "held = 'out'\n",
        "zipfile/new.py": "held = 'out'\n",
        "pkg/long.py": "x = 1\n" * 100_000,
        "pkg/empty.py": " \n",
        "pkg/other.py": "last = 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    names = [document.name for document in python_sources(tmp_path)]

    own = [name for name in names if name.startswith("packages/")]
    assert own == ["packages/pkg/a.py", "packages/pkg/other.py"]
    assert names.index(own[0]) == len(names) - 2 > 100
    assert len(python_sources(tmp_path, most_bytes=1)) == 1
