"""lm-eval on a loaded model: its own tasks by name, and our evaluation text as tasks, all without a network.

lm-eval is the field's judge; running it on the very passages and choice items of the accuracy suite proves that our
bits per byte and accuracy mean what its numbers mean. It is imported when a function here is called: listing its tasks
takes seconds, and the accuracy suite does not need it.
"""

import contextlib
import io
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lords_bench.errors import UsageError
from lords_bench.integrations.hf_model import CausalModel
from lords_bench.integrations.scoring import Choice

PASSAGES_TASK = "lords_bench_passages"
CHOICES_TASK = "lords_bench_choices"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMetric:
    """One number that lm-eval gives: `metric` of `task`, with its standard error where it states one."""

    task: str
    metric: str
    value: float
    standard_error: float | None


def run_named_tasks(
    model: CausalModel, names: Sequence[str], *, batch_size: int = 8, limit: int | None = None
) -> tuple[TaskMetric, ...]:
    """Runs lm-eval's tasks of these names with the model as it now is (swap weights around the call).

    Args:
        model: the model; its current weights count.
        names: task, group or tag names, or paths of task files.
        batch_size: sequences per forward pass.
        limit: first so many documents of each task; None takes all.

    Raises:
        UsageError: lm-eval is not installed, no such task, or its data is neither cached nor reachable.
    """
    tasks = _import_lm_eval("lm_eval.tasks")
    manager = tasks.TaskManager()
    unknown = [name for name in names if not manager.match_tasks([name]) and not name.endswith((".yaml", ".yml"))]
    if unknown:
        raise UsageError(f"lm-eval has no task {unknown[0]!r}; 'lm-eval ls tasks' lists what it has")
    return _evaluate(model, list(names), manager, batch_size=batch_size, limit=limit)


def run_local_tasks(
    model: CausalModel, *, passages: Sequence[str], items: Sequence[Choice], window_tokens: int, batch_size: int = 8
) -> tuple[TaskMetric, ...]:
    """lm-eval's own figures for our evaluation text: `bits_per_byte` of the passages and `acc` of the choice items.

    Passages are tokenized without special tokens, as `windows.rolling_windows` does it.

    Raises:
        UsageError: lm-eval is not installed.
    """
    tasks = _import_lm_eval("lm_eval.tasks")
    manager = tasks.TaskManager(include_defaults=False)
    metrics: list[TaskMetric] = []
    if passages:
        task = _task(
            PASSAGES_TASK,
            [{"text": passage} for passage in passages],
            output_type="loglikelihood_rolling",
            doc_to_text="",
            doc_to_target=lambda document: document["text"],
            metric_list=[{"metric": name} for name in ("byte_perplexity", "bits_per_byte")],
        )
        settings = {"max_length": window_tokens, "add_bos_token": False}
        metrics += _evaluate(model, [task], manager, batch_size=batch_size, limit=None, **settings)
    if items:
        task = _task(
            CHOICES_TASK,
            [{"context": item.context, "options": list(item.options), "answer": item.answer} for item in items],
            output_type="multiple_choice",
            doc_to_text=lambda document: document["context"],
            doc_to_choice=lambda document: document["options"],
            doc_to_target="answer",
            target_delimiter="",
            metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        )
        metrics += _evaluate(model, [task], manager, batch_size=batch_size, limit=None)
    return tuple(metrics)


def _task(name: str, rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    datasets = _import_lm_eval("datasets")

    def load(**_: Any) -> Any:
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})

    return {"task": name, "test_split": "test", "custom_dataset": load, "metadata": {"version": 1.0}, **fields}


def _evaluate(
    model: CausalModel,
    tasks: list[Any],
    manager: Any,
    *,
    batch_size: int,
    limit: int | None,
    **settings: Any,
) -> tuple[TaskMetric, ...]:
    evaluator = _import_lm_eval("lm_eval.evaluator")
    huggingface = _import_lm_eval("lm_eval.models.huggingface")
    with _quiet():
        harness = huggingface.HFLM(
            pretrained=model.model, tokenizer=model.tokenizer, batch_size=batch_size, **settings
        )
        try:
            results = evaluator.simple_evaluate(
                model=harness,
                tasks=tasks,
                task_manager=manager,
                limit=limit,
                bootstrap_iters=1000,
                log_samples=False,
            )
        except (OSError, ValueError, KeyError) as error:
            names = ", ".join(str(task) for task in tasks if isinstance(task, str))
            line = str(error).strip().split("\n")[0]
            raise UsageError(
                f"lm-eval cannot run {names or 'the local tasks'} here: {line}; "
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
