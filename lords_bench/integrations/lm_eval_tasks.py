"""lm-eval on a loaded model: its own tasks by name, and our evaluation text as tasks, all without a network.

lm-eval is the field's judge; running it on the very passages and choice items of the accuracy suite proves that our
bits per byte and accuracy mean what its numbers mean. It is imported when a function here is called: listing its tasks
takes seconds, and the accuracy suite does not need it.
"""

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lords_bench.errors import UsageError, reason_of
from lords_bench.integrations.choices import ChoiceQuestion
from lords_bench.integrations.hf_model import CausalModel
from lords_bench.integrations.task_metric import TaskMetric

PASSAGES_TASK = "lords_bench_passages"
CHOICES_TASK = "lords_bench_choices"
LOCAL_TASKS = (PASSAGES_TASK, CHOICES_TASK)


def run_tasks(
    model: CausalModel,
    names: Sequence[str],
    *,
    passages: Sequence[str] = (),
    items: Sequence[ChoiceQuestion] = (),
    window_tokens: int | None = None,
    batch_size: int = 8,
) -> tuple[TaskMetric, ...]:
    """lm-eval's figures of these tasks for the model as it now is (swap weights around the call).

    Args:
        model: the model; its current weights count.
        names: task, group or tag names of lm-eval, paths of task files, `PASSAGES_TASK` or `CHOICES_TASK`.
        passages: text of `PASSAGES_TASK`, tokenized without special tokens as `windows.rolling_windows` does it.
        items: items of `CHOICES_TASK`.
        window_tokens: longest input of `PASSAGES_TASK`; None is the model's.
        batch_size: sequences per forward pass.

    Raises:
        UsageError: lm-eval is not installed, no such task, or its data is neither cached nor reachable.
    """
    by_name = [name for name in names if name not in LOCAL_TASKS and not name.endswith((".yaml", ".yml"))]
    manager = _task_manager(include_defaults=bool(by_name))
    for name in by_name:
        if not manager.match_tasks([name]):
            known = ", ".join(LOCAL_TASKS)
            raise UsageError(f"lm-eval has no task {name!r}; 'lm-eval ls tasks' lists what it has, besides {known}")
    metrics: list[TaskMetric] = []
    for name in names:
        task: str | dict[str, Any] = name
        settings: dict[str, Any] = {}
        if name == PASSAGES_TASK:
            task, settings = passages_task(passages), {"max_length": window_tokens, "add_bos_token": False}
        elif name == CHOICES_TASK:
            task = choices_task(items)
        metrics += _evaluate(model, task, manager, batch_size=batch_size, **settings)
    return tuple(metrics)


@lru_cache(maxsize=2)
def _task_manager(*, include_defaults: bool) -> Any:
    """lm-eval's index of tasks; reading its own some ten thousand takes seconds."""
    return _import_lm_eval("lm_eval.tasks").TaskManager(include_defaults=include_defaults)


def passages_task(passages: Sequence[str]) -> dict[str, Any]:
    """Rolling log-likelihood of texts, as lm-eval's task configuration."""
    return _task(
        PASSAGES_TASK,
        [{"text": passage} for passage in passages],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target=lambda document: document["text"],
        metric_list=[{"metric": name} for name in ("byte_perplexity", "bits_per_byte")],
    )


def choices_task(items: Sequence[ChoiceQuestion]) -> dict[str, Any]:
    """Choice items as lm-eval's task configuration."""
    return _task(
        CHOICES_TASK,
        [{"context": item.context, "options": list(item.options), "answer": item.answer} for item in items],
        output_type="multiple_choice",
        doc_to_text=lambda document: document["context"],
        doc_to_choice=lambda document: document["options"],
        doc_to_target="answer",
        target_delimiter="",
        metric_list=[
            {"metric": n, "aggregation": "mean", "higher_is_better": True} for n in ("acc", "acc_mutual_info")
        ],
    )


def _task(name: str, rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    datasets = _import_lm_eval("datasets")

    def load(**_: Any) -> Any:
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})

    return {"task": name, "test_split": "test", "custom_dataset": load, "metadata": {"version": 1.0}, **fields}


def _evaluate(
    model: CausalModel, task: str | dict[str, Any], manager: Any, *, batch_size: int, **settings: Any
) -> tuple[TaskMetric, ...]:
    evaluator = _import_lm_eval("lm_eval.evaluator")
    huggingface = _import_lm_eval("lm_eval.models.huggingface")
    with _quiet():
        harness = huggingface.HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch_size, **settings)
        try:
            results = evaluator.simple_evaluate(
                model=harness, tasks=[task], task_manager=manager, bootstrap_iters=1000, log_samples=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"lm-eval cannot run {task if isinstance(task, str) else task['task']!r} here: {reason_of(error)}; "
                "connect to the hub, or put the data in the Hugging Face cache"
            ) from error
    return tuple(_metrics(results["results"]))


def _metrics(results: Mapping[str, Mapping[str, Any]]) -> Iterator[TaskMetric]:
    for task, values in results.items():
        for key, value in values.items():
            metric, _, filter_name = key.partition(",")
            if not filter_name or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{filter_name}")
            known = float(error) if isinstance(error, int | float) else None
            yield TaskMetric(task=task, metric=metric, value=float(value), standard_error=known)


def _import_lm_eval(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; run: pip install 'lords-bench[lm-eval]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's log lines and progress bars, which would fight with ours."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
