"""`lords-bench quantize`, `eval` and `testbed train`, and how every command gets its model."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import track
from rich.table import Table

from lords_bench.cli.output import complain, say
from lords_bench.cli.task_results import print_metrics
from lords_bench.errors import UsageError, reason_of
from lords_bench.records.environment import Device
from lords_bench.spec.quant import QuantSpec
from lords_bench.suites.testbed.load import TESTBED_MODEL
from lords_bench.terminal import Console

if TYPE_CHECKING:
    from lords_bench.integrations.hf_model import CausalModel
    from lords_bench.suites.testbed.corpus import Document


TESTBED_NAME = "testbed"


def choose_device(asked: Device | None) -> Device:
    """The device asked for, else a GPU where there is one.

    Raises:
        UsageError: cuda without a GPU.
    """
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise UsageError("--device cuda, but torch sees no GPU; leave it out to use the CPU")
    return asked or ("cuda" if available else "cpu")


def load_model(source: str | None, *, device: Device, dtype: str, console: Console) -> "CausalModel":
    """Loads a model (None is the testbed's), says what of it stays unquantized.

    Raises:
        ModelError: it cannot be used.
    """
    import torch

    from lords_bench.integrations.hf_model import load_causal_model

    model = load_causal_model(source or str(TESTBED_MODEL), dtype=getattr(torch, dtype), device=device)
    if source is None:
        model = replace(model, name=TESTBED_NAME)
    if model.unquantized:
        names = ", ".join(f"{module.name} ({module.kind})" for module in model.unquantized)
        share = f"{100 * model.unquantized_share:.1f} %"
        console.print(f"{share} of the weights stay unquantized: {names}", style="yellow")
    return model


def read_calibration(file: str | None) -> "Document | None":
    """The text to calibrate on, or None for the testbed's.

    Raises:
        UsageError: the file is missing or not UTF-8 text.
    """
    from lords_bench.suites.testbed.corpus import Document

    if file is None:
        return None
    try:
        return Document(name=Path(file).name, text=Path(file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--calibration {file!r} cannot be read as UTF-8 text: {reason_of(error)}") from error


def quantize(arguments: argparse.Namespace) -> int:
    """Quantizes a model and writes it as a folder."""
    spec = QuantSpec(
        method=arguments.method,
        bits=arguments.bits,
        block=arguments.block,
        rank=arguments.rank,
        levels=arguments.levels,
        scale_dtype=arguments.scale_dtype,
        double_quant=arguments.double_quant,
    )
    from lords_bench.integrations.calibration import collect_hessians
    from lords_bench.integrations.quantized_folder import require_free, save_quantized_folder
    from lords_bench.integrations.windows import rolling_windows
    from lords_bench.suites.evaluation_text import QUICK, calibration_passages
    from lords_bench.suites.layers import quantize_layer

    console = Console(stderr=True)
    out = Path(arguments.out)
    require_free(out)
    model = load_model(arguments.model, device=choose_device(arguments.device), dtype=arguments.dtype, console=console)
    hessians = {}
    if spec.needs_hessian:
        passages = calibration_passages(QUICK, read_calibration(arguments.calibration))
        limit = min(QUICK.window_tokens, model.context_tokens or QUICK.window_tokens)
        hessians = collect_hessians(model, rolling_windows(model.tokenizer, [p.text for p in passages], limit))
    weights = {
        layer.name: quantize_layer(layer, spec, hessian_KK=hessians.get(layer.name))
        for layer in track(model.layers, "quantizing", console=console, transient=True)
    }
    save_quantized_folder(model, weights, out)
    bits = sum(weight.bits_per_weight * weight.shape[0] * weight.shape[1] for weight in weights.values())
    count = sum(layer.weight_count for layer in model.layers)
    say(f"{len(weights)} layers at {bits / count:.3f} bits per weight: {out}")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Measures one model, and its divergence from a reference where one is given."""
    import torch

    from lords_bench.integrations.lm_eval_tasks import run_tasks
    from lords_bench.integrations.quantized_folder import load_any_model
    from lords_bench.report.accuracy.metrics import METRICS, estimate
    from lords_bench.suites.evaluate import AccuracyEvaluation
    from lords_bench.suites.evaluation_text import FULL, QUICK, text_of_testbed
    from lords_bench.suites.layers import replaced_layers

    console = Console(stderr=True)
    device = choose_device(arguments.device)
    model, weights = load_any_model(arguments.model, device=device, dtype=getattr(torch, arguments.dtype))
    text = text_of_testbed(FULL if arguments.full else QUICK, calibration=None)
    metrics = dict(METRICS)
    if arguments.reference is None:
        evaluation = AccuracyEvaluation(model, text)
        samples = evaluation.score({})
        metrics = {name: METRICS[name] for name in ("bits_per_byte", "choice")}
    else:
        reference = load_model(arguments.reference, device=device, dtype=arguments.dtype, console=console)
        evaluation = AccuracyEvaluation(reference, text)
        samples = evaluation.score(replaced_layers(reference, model, weights))
    table = Table("Metric", "Value", "95 % interval", title=model.name)
    for metric in metrics.values():
        value, interval = estimate(metric.interval(samples), metric)
        table.add_row(f"{metric.label} {metric.unit}".strip(), value, interval)
    Console().print(table)
    if arguments.tasks:
        passages, limit = [passage.text for passage in text.passages], evaluation.window_tokens
        found = run_tasks(model, arguments.tasks, passages=passages, items=text.items, window_tokens=limit)
        print_metrics({model.name: found})
    return 0


def train_testbed(arguments: argparse.Namespace) -> int:
    """Trains the testbed's model, or a larger one in a stated time.

    Raises:
        UsageError: a large model without a time, or a time and a number of steps.
    """
    from lords_bench.suites.testbed.train import TestbedRecipe, train_testbed

    if arguments.max_steps is not None and (arguments.size == "large" or arguments.seconds is not None):
        raise UsageError("--max-steps belongs to a training without --seconds; leave one out")
    if arguments.size == "large" or arguments.seconds is not None:
        from lords_bench.suites.testbed.timed import LARGE, train_for

        if arguments.seconds is None:
            raise UsageError("--size large is trained in a stated time; give --seconds")
        recipe = LARGE if arguments.size == "large" else TestbedRecipe()
        say(train_for(Path(arguments.out), recipe, arguments.seconds))
        return 0
    say(train_testbed(Path(arguments.out), TestbedRecipe(), max_steps=arguments.max_steps, notice=complain))
    return 0


def write_card(arguments: argparse.Namespace) -> int:
    """Judges a trained testbed model and writes its card."""
    from lords_bench.suites.testbed.card import write_card

    say(write_card(Path(arguments.model)))
    return 0
