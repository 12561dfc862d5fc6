"""`lords-bench bench SUITE`: one module per suite, which holds its options, runs it and names the report."""

from lords_bench.cli.bench import accuracy, cost, latency, lifecycle
from lords_bench.cli.command import Parser, add_command


def add_arguments(parser: Parser) -> None:
    """Add the suites; without one it is accuracy."""
    parser.description = "Runs a suite, keeps its records and writes the report. Without a suite it is accuracy."
    suites = parser.add_commands("SUITE", otherwise="accuracy")
    first = add_command(suites, "accuracy", "quantize a model by every method and measure it (default)")
    accuracy.add_arguments(first)
    latency.add_arguments(add_command(suites, "latency", "time LoRDS and its baselines on layers of models"))
    lifecycle.add_arguments(add_command(suites, "lifecycle", "train a model by every method"))
    cost.add_ptq_arguments(add_command(suites, "ptq", "time and memory of quantizing a model"))
    cost.add_step_arguments(add_command(suites, "step", "time and memory of a step of fine-tuning"))
    parser.epilog = first.format_help()
