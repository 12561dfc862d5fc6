"""`lords-bench eval`: measure one model, quantized or not."""

from dataclasses import dataclass

from rich.table import Table

from lords_bench.cli.command import Parser
from lords_bench.cli.models import TASKS, ModelSettings, choose_device, load_model
from lords_bench.cli.task_results import print_metrics
from lords_bench.options import names, option
from lords_bench.terminal import Console


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSettings(ModelSettings):
    """Measures bits per byte and choice accuracy of a Hugging Face model, or of a folder of 'lords-bench quantize'.

    With --reference also the KL from that model. Writes no record.
    """

    reference: str | None = option("the unquantized model, for the KL", metavar="DIR|NAME", default=None)
    full: bool = option("four times the text", default=False)
    tasks: tuple[str, ...] = option(TASKS, names, default=())


def add_arguments(parser: Parser) -> None:
    parser.serve(evaluate, EvalSettings)


def evaluate(settings: EvalSettings) -> int:
    """Measures one model, and its divergence from a reference where one is given."""
    import torch

    from lords_bench.integrations.lm_eval_tasks import run_tasks
    from lords_bench.integrations.quantized_folder import load_any_model
    from lords_bench.suites.accuracy.layers import replaced_layers
    from lords_bench.suites.accuracy.measure import AccuracyEvaluation
    from lords_bench.suites.accuracy.metrics import METRICS, estimate
    from lords_bench.suites.accuracy.text import FULL, QUICK, text_of_testbed

    console = Console(stderr=True)
    device = choose_device(settings.device)
    model, weights = load_any_model(settings.model, device=device, dtype=getattr(torch, settings.dtype))
    text = text_of_testbed(FULL if settings.full else QUICK, calibration=None)
    metrics = dict(METRICS)
    if settings.reference is None:
        evaluation = AccuracyEvaluation(model, text)
        samples = evaluation.score({})
        metrics = {name: METRICS[name] for name in ("bits_per_byte", "choice")}
    else:
        reference = load_model(settings.reference, device=device, dtype=settings.dtype, console=console)
        evaluation = AccuracyEvaluation(reference, text)
        samples = evaluation.score(replaced_layers(reference, model, weights))
    table = Table("Metric", "Value", "95 % interval", title=model.name)
    for metric in metrics.values():
        value, interval = estimate(metric.estimator.interval(samples), metric)
        table.add_row(f"{metric.label} {metric.unit}".strip(), value, interval)
    Console().print(table)
    if settings.tasks:
        passages, limit = [passage.text for passage in text.passages], evaluation.window_tokens
        found = run_tasks(model, settings.tasks, passages=passages, items=text.items, window_tokens=limit)
        print_metrics({model.name: found})
    return 0
