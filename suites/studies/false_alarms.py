"""False alarms and finds of the measuring protocol on the fake device.

    python -m lords_bench.suites.studies.false_alarms [--draw]

Runs every condition of `lords_bench.timing.self_test` 300 times with two equal candidates and 300 times with one that
is 2 % slower, writes the shares to docs/measuring/false-alarms.json, then draws docs/measuring/false-alarms.svg from
that file. Two minutes on one core. `--draw` only draws: the same bytes from the same file.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lords_bench.files import write_whole
from lords_bench.report.svg import ROLES, draw, standalone

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "measuring"
SHARES = FOLDER / "false-alarms.json"
FIGURE = FOLDER / "false-alarms.svg"
RUNS = 300
SLOWDOWNS = (0.0, 0.02)
NAME = "false-alarms"
TITLE = "False alarms between equal candidates, and 2 % slowdowns found, by condition and by way of comparing"

# Name in the file, name in the figure, colour, marker.
WAYS = (
    ("protocol", "this protocol", "low-rank", "o"),
    ("means_apart", "two means more than 1 % apart", "optimised", "D"),
    ("welch", "Welch's t-test, p < 0.01", "affine", "s"),
)


def measure() -> dict[str, Any]:
    """Condition to slowdown to shares."""
    from lords_bench.timing.self_test import CONDITIONS, rates

    found: dict[str, Any] = {"runs": RUNS, "conditions": {}}
    for name, noise in CONDITIONS.items():
        found["conditions"][name] = {}
        for slowdown in SLOWDOWNS:
            result = rates(noise, slowdown=slowdown, runs=RUNS)
            shares = {way: round(getattr(result, way), 6) for way, *_ in WAYS}
            shares |= {"covered": round(result.covered, 6), "median_rounds": result.median_rounds}
            shares |= {"verdicts": {str(verdict): count for verdict, count in sorted(result.verdicts.items())}}
            found["conditions"][name][f"{slowdown:g}"] = shares
            sys.stdout.write(f"{name}, slowdown {slowdown:.0%}: {json.dumps(shares)}\n")
            sys.stdout.flush()
    return found


def figure(found: dict[str, Any]) -> str:
    """The shares as two panels of one SVG."""
    conditions = list(found["conditions"])

    def paint(canvas: Any) -> None:
        panels = canvas.subplots(1, 2, sharey=True)
        titles = (f"A/A: claimed a difference\n({found['runs']} runs each)", "2 % slower: found")
        for panel, slowdown, title in zip(panels, ("0", "0.02"), titles, strict=True):
            for place, (way, label, role, marker) in enumerate(WAYS):
                shares = [100 * found["conditions"][name][slowdown][way] for name in conditions]
                heights = [index + 0.22 * (place - 1) for index in range(len(conditions))]
                panel.plot(shares, heights, marker, color=ROLES[role].drawn, label=label, clip_on=False)
            panel.set_title(title, loc="left", fontsize=11)
            panel.set_xlim(0, 100)
            panel.set_xlabel("% of runs")
            panel.set_ylim(len(conditions) - 0.5, -0.5)
        panels[0].set_yticks(range(len(conditions)), conditions)
        panels[0].axvline(1, color=ROLES["muted"].drawn, linewidth=1, linestyle="--")
        panels[1].axvline(95, color=ROLES["muted"].drawn, linewidth=1, linestyle="--")
        handles, labels = panels[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="lower center", ncols=len(WAYS), frameon=False)
        canvas.subplots_adjust(left=0.17, right=0.97, top=0.9, bottom=0.16, wspace=0.12)

    svg = standalone(draw(NAME, 130 + 25 * len(conditions), paint))
    end = svg.index(">") + 1
    return f'{svg[:end]}\n<title id="{NAME}-title">{TITLE}</title>{svg[end:]}'.rstrip() + "\n"


def main() -> None:
    """Measure unless told only to draw, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw the stored shares, measure nothing")
    if not parser.parse_args().draw:
        write_whole(SHARES, json.dumps(measure(), indent=1) + "\n")
    write_whole(FIGURE, figure(json.loads(SHARES.read_text())))


if __name__ == "__main__":
    main()
