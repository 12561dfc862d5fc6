"""The workbench of a real device: methods are built with torch, checked against float64, and timed together."""

from collections.abc import Sequence

import torch

from lords_bench.errors import LordsBenchError, reason_of
from lords_bench.products.keys import machine_of
from lords_bench.records.latency import DENSE, LatencyCase
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.suites.baselines.check import Checked, as_candidate
from lords_bench.suites.baselines.prewarm import prewarm
from lords_bench.suites.baselines.problem import LayerProblem, Way
from lords_bench.suites.baselines.registry import builder
from lords_bench.suites.latency.run import Built, Timed
from lords_bench.timing.comparison import Policy
from lords_bench.timing.device import Device
from lords_bench.timing.failure import failure_of
from lords_bench.timing.protocol import compare


class TorchWorkbench:
    """Builds methods on `place` and times them on `device`.

    Args:
        device: what times.
        place: where tensors live.
        dtype: of activations and of the dense weight.
        policy: how long to look at one comparison.
        seed: of weights and activations.
    """

    def __init__(
        self, device: Device, *, place: torch.device, dtype: torch.dtype, policy: Policy, seed: int = 0
    ) -> None:
        self._device, self._place, self._dtype, self._policy, self._seed = device, place, dtype, policy, seed

    def prewarm(self, wanted: Sequence[tuple[LatencyCase, str]]) -> None:
        """Compile in parallel processes what each (case, method) will launch; on a CPU there is nothing to compile."""
        machine = machine_of(torch.empty(0, device=self._place).device)
        if machine is not None:
            prewarm(wanted, dtype=self._dtype, machine=machine)

    @torch.no_grad()
    def time(self, case: LatencyCase, regime: Regime, methods: tuple[str, ...]) -> Timed:
        """All methods of one case in one regime, in the same rounds."""
        problem = LayerProblem(case, device=self._place, dtype=self._dtype, seed=self._seed)
        ways: dict[str, Way] = {}
        checked: dict[str, Checked] = {}
        failures: dict[str, tuple[Status, str]] = {}
        for method in methods:
            try:
                ways[method] = builder(method)(problem)
                checked[method] = as_candidate(
                    method, ways[method], problem, regime=regime, cache_bytes=self._device.cache_bytes
                )
            except LordsBenchError as error:
                failures[method] = (Status.UNSUPPORTED, str(error))
            # Whatever a library raises while it is set up is the outcome of its method, and the others go on.
            except Exception as error:  # noqa: BLE001
                failure = failure_of(error)
                failures[method] = (failure.status, f"while it was built: {failure.reason}")
        comparison = None
        if DENSE in checked:
            candidates = [found.candidate for found in checked.values()]
            comparison = compare(self._device, candidates, baseline=DENSE, regime=regime, policy=self._policy)
        built = {
            method: Built(
                kernel=ways[method].kernel,
                bits_per_weight=ways[method].stored_bytes * 8 / (case.n * case.k),
                config=ways[method].config,
                config_origin=ways[method].config_origin,
                worst_error=found.worst_error,
                bytes_moved=found.candidate.bytes_moved,
                flops=found.candidate.flops,
            )
            for method, found in checked.items()
        }
        return Timed(built=built, failures=failures, comparison=comparison, broken=self._broken())

    def _broken(self) -> str | None:
        """An illegal access leaves a CUDA process without a device: every later call fails."""
        if self._place.type != "cuda":
            return None
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            return reason_of(error)
        return None
