"""lm-eval itself, offline, on the tiny model: the field's judge must agree with ours on the very same text."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from lords_bench.errors import UsageError
from lords_bench.integrations import lm_eval_tasks
from lords_bench.integrations.choices import ChoiceScorer
from lords_bench.integrations.hf_model import CausalModel
from lords_bench.integrations.lm_eval_tasks import CHOICES_TASK, PASSAGES_TASK, run_tasks
from lords_bench.integrations.scoring import WindowScorer
from lords_bench.integrations.windows import rolling_windows
from lords_bench.suites.passages import evenly_spaced_passages
from lords_bench.suites.testbed.choices import next_line_items
from lords_bench.suites.testbed.corpus import held_out_documents
from tiny_models import bos_tokenizer, byte_tokenizer

WINDOW_TOKENS = 48


@pytest.fixture(params=[byte_tokenizer, bos_tokenizer], ids=["plain", "bos"])
def model(llama: CausalModel, request: pytest.FixtureRequest) -> CausalModel:
    return replace(llama, tokenizer=request.param())


def test_bits_per_byte_of_held_out_text_are_those_of_lm_eval(model: CausalModel) -> None:
    passages = [passage.text for passage in evenly_spaced_passages(held_out_documents(), 4, 200)]
    windows = rolling_windows(model.tokenizer, passages, WINDOW_TOKENS)
    nll_nats = sum(WindowScorer(model, windows).score({}).nll_nats)

    metrics = run_tasks(model, [PASSAGES_TASK], passages=passages, window_tokens=WINDOW_TOKENS)

    found = {metric.metric: metric.value for metric in metrics}
    assert len(windows) > len(passages)
    assert found["bits_per_byte"] == pytest.approx(
        nll_nats / math.log(2) / sum(w.byte_count for w in windows), rel=1e-5
    )


def test_choice_accuracy_on_next_lines_is_that_of_lm_eval(model: CausalModel) -> None:
    items = next_line_items(held_out_documents()[:6], 24, 0)
    correct = ChoiceScorer(model, items).correct({})

    metrics = run_tasks(model, [CHOICES_TASK], items=items)

    found = {metric.metric: metric.value for metric in metrics}
    assert found["acc_mutual_info"] == pytest.approx(sum(correct) / len(correct))


def test_a_task_whose_data_is_not_at_hand_is_refused_in_one_line(llama: CausalModel, tmp_path: Path) -> None:
    task = tmp_path / "far.yaml"
    task.write_text("task: far\ndataset_path: nobody/nothing\noutput_type: loglikelihood_rolling\ntest_split: test\n")

    with pytest.raises(UsageError, match=r"lm-eval cannot run .*far\.yaml' here: .*nobody/nothing") as error:
        run_tasks(llama, [str(task)])

    assert "\n" not in str(error.value)


def test_an_unknown_task_is_refused(llama: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # Reading lm-eval's own tasks takes seconds.
    monkeypatch.setattr(lm_eval_tasks, "_task_manager", lambda **_: TaskManager(include_defaults=False))

    with pytest.raises(UsageError, match="lm-eval has no task 'no_such_task'"):
        run_tasks(llama, ["no_such_task"])
