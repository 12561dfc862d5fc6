"""The evaluation process: `python -m lords_bench.tuning.worker`, one JSON request per line in, one answer out.

It alone touches the device, and what a configuration takes down with it is this process and one row.

    {"op": "open", "device": "fake", "regime": "cold", "kernel": …, "problem": {…}}
    {"op": "try", "config": [[field, value], …], "stop_above_ns": 12345.0}
    {"op": "run-off", "configs": [[[field, value], …], …], "quick": true}
"""

from typing import TYPE_CHECKING, Any

from lords_bench.isolate import answer_all
from lords_bench.records.codec import from_plain, to_plain
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.timing.failure import failure_of
from lords_bench.tuning.devices import open_bench

if TYPE_CHECKING:
    from lords_bench.tuning.bench import Bench


class _Evaluation:
    """The problem that is open, and its answers."""

    def __init__(self) -> None:
        self._bench: Bench | None = None

    def answer(self, request: dict[str, Any]) -> object:
        if request["op"] == "open":
            problem = from_plain(Problem, request["problem"], path="problem")
            try:
                self._bench = open_bench(request["device"], request["kernel"], problem, request["regime"])
            # No memory, no device, no such kernel: the tuner says which problem it leaves out.
            except Exception as error:  # noqa: BLE001
                return {"refused": failure_of(error).reason}
            return {"refused": None}
        assert self._bench is not None
        if request["op"] == "try":
            return to_plain(self._bench.attempt(_settings(request["config"]), request["stop_above_ns"]))
        configs = [_settings(config) for config in request["configs"]]
        return to_plain(self._bench.run_off(configs, quick=request["quick"]))


def _settings(pairs: list[list[Any]]) -> Settings:
    return tuple((name, value) for name, value in pairs)


def main() -> None:
    """Answer requests until standard input ends."""
    answer_all(_Evaluation().answer)


if __name__ == "__main__":
    main()
