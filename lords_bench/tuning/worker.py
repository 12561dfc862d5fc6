"""The evaluation process: `python -m lords_bench.tuning.worker`, one JSON request per line in, one answer out.

It alone touches the device, and what a configuration takes down with it is this process and one row.

    {"op": "open", "device": "fake", "regime": "cold", "kernel": …, "problem": {…}}
    {"op": "try", "config": [[field, value], …], "stop_above_ns": 12345.0}
    {"op": "run-off", "configs": [[[field, value], …], …], "quick": true}
"""

import json
import os
import sys
from typing import Any

from lords_bench.records.codec import from_plain, to_plain
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.timing.failure import failure_of
from lords_bench.tuning.bench import Bench
from lords_bench.tuning.devices import open_bench


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Compilers and drivers print to the real standard output.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    bench: Bench | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "open":
            problem = from_plain(Problem, request["problem"], path="problem")
            answer: Any = {"refused": None}
            try:
                bench = open_bench(request["device"], request["kernel"], problem, request["regime"])
            # No memory, no device, no such kernel: the tuner says which problem it leaves out.
            except Exception as error:  # noqa: BLE001
                answer = {"refused": failure_of(error).reason}
        else:
            assert bench is not None
            answer = to_plain(_answer(bench, request))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(bench: Bench, request: dict[str, Any]) -> object:
    if request["op"] == "try":
        return bench.attempt(_settings(request["config"]), request["stop_above_ns"])
    return bench.run_off([_settings(config) for config in request["configs"]], quick=request["quick"])


def _settings(pairs: list[list[Any]]) -> Settings:
    return tuple((name, value) for name, value in pairs)


if __name__ == "__main__":
    main()
