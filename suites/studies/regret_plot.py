"""Draw the regret of every search on every recorded table.

    python -m lords_bench.suites.studies.regret_plot

Reads `reports/tuning/*.jsonl`, writes `docs/images/tuning-regret.svg` and prints the figures that the log quotes. No
device is asked. `ranked without the model` is the default search with its guesses taken away.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

import lords_bench
from lords_bench.files import whole_file
from lords_bench.options import COUNT
from lords_bench.records.tuning_table import TuningTable
from lords_bench.terminal import Console
from lords_bench.tuning.replay import Replay, guesses_for, read_tables, regret_curve
from lords_bench.tuning.strategies import search_budget

ROOT = Path(lords_bench.__file__).resolve().parent.parent
# Name in the legend to (search, whether it is given the model's guesses).
SEARCHES = {
    "ranked (default)": ("ranked", True),
    "ranked without the model": ("ranked", False),
    "tpe (Optuna)": ("tpe", False),
    "random": ("random", False),
}
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#777777")
POINTS = 15


def curve(table: TuningTable, search: str, *, model: bool, seeds: int) -> list[float]:
    """Mean regret in percent at POINTS shares of the space from 1 to 15 percent."""
    tries = search_budget("ranked", len(table.rows))
    replay = Replay(table, guesses_for(table) if model else None)
    found = [regret_curve(replay, search, seed=seed, tries=tries) for seed in range(seeds)]
    at = [max(1, int(share / 100 * len(table.rows))) - 1 for share in range(1, POINTS + 1)]
    return [100 * sum(one[index] for one in found) / seeds for index in at]


def main() -> None:
    """Draw one panel per group of tables, and print regret after 15 % of each space."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=COUNT, default=1)
    arguments, console = parser.parse_args(), Console(width=200, highlight=False)
    groups = {
        "measured: blocked product on a CPU": [*read_tables(ROOT / "reports" / "tuning" / "cpu.jsonl")],
        "predicted from machine code: kernels": [*read_tables(ROOT / "reports" / "tuning" / "predicted.jsonl")],
    }
    mpl.rcParams |= {"svg.hashsalt": "lords_bench", "svg.fonttype": "none", "font.size": 9}
    figure, axes = plt.subplots(1, len(groups), figsize=(9, 3.4), layout="constrained", squeeze=False)
    for axis, (title, tables) in zip(axes[0], groups.items(), strict=True):
        for colour, (name, (search, model)) in zip(COLOURS, SEARCHES.items(), strict=True):
            curves = [curve(table, search, model=model, seeds=arguments.seeds) for table in tables]
            mean = [sum(column) / len(column) for column in zip(*curves, strict=True)]
            worst = [max(column) for column in zip(*curves, strict=True)]
            axis.plot(range(1, POINTS + 1), mean, color=colour, label=name)
            axis.plot(range(1, POINTS + 1), worst, color=colour, linestyle=":", linewidth=1)
            at = [one[-1] for one in curves]
            console.print(f"{title}; {name}; after 15 %: mean {sum(at) / len(at):.2f} %, worst table {max(at):.2f} %")
        axis.axhline(3, color="#bbbbbb", linewidth=0.8)
        axis.set(title=f"{title} ({len(tables)} tables)", xlabel="share of the space tried, %", ylim=(0, 30))
    axes[0][0].set_ylabel("slower than the best, %")
    axes[0][0].legend(frameon=False)
    out = ROOT / "docs" / "images" / "tuning-regret.svg"
    with whole_file(out) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
    console.print(str(out.relative_to(ROOT)))


if __name__ == "__main__":
    main()
