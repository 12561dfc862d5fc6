"""`lords-bench bench SUITE`: one module per suite, which holds its options, runs it and names the report."""

from lords_bench.cli.bench.accuracy import AccuracySettings, bench_accuracy
from lords_bench.cli.bench.cost import PtqSettings, StepSettings, bench_ptq, bench_step
from lords_bench.cli.bench.latency import LatencySettings, bench_latency
from lords_bench.cli.bench.lifecycle import LifecycleSettings, bench_lifecycle
from lords_bench.cli.command import Parser, add_command


def add_arguments(parser: Parser) -> None:
    """Add the suites; without one it is accuracy."""
    parser.description = "Runs a suite, keeps its records and writes the report. Without a suite it is accuracy."
    suites = parser.add_commands("SUITE", otherwise="accuracy")
    first = add_command(suites, "accuracy", "quantize a model by every method and measure it (default)")
    first.serve(bench_accuracy, AccuracySettings, resumes=True)
    latency = add_command(suites, "latency", "time LoRDS and its baselines on layers of models")
    latency.serve(bench_latency, LatencySettings, resumes=True)
    lifecycle = add_command(suites, "lifecycle", "train a model by every method")
    lifecycle.serve(bench_lifecycle, LifecycleSettings, resumes=True)
    ptq = add_command(suites, "ptq", "time and memory of quantizing a model")
    ptq.serve(bench_ptq, PtqSettings, resumes=True)
    step = add_command(suites, "step", "time and memory of a step of fine-tuning")
    step.serve(bench_step, StepSettings)
    parser.epilog = first.format_help()
