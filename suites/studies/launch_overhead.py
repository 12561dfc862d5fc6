"""What our Python adds to Triton's own launcher in a call, launch included.

    python -m lords_bench.suites.studies.launch_overhead

Triton's launcher runs as it would on a GPU up to the driver: it binds arguments, specialises them, finds the compiled
kernel and calls it. What it calls here is a stand-in that does nothing, so that no GPU is needed and none hides the
host. Ours leave out the binding of arguments in a call that was made before (`kernels/common/handle.py`), so they may
take less than the launcher. Compared are, in rounds in a drawn order: the launcher alone, with arguments, grid and
constants at hand; the launcher with the two buffers that any caller must allocate; a kernel's `launch`; and the product
as a model calls it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from lords_bench.kernel_check import make_case
from lords_bench.kernels.common.gpu import Gpu, pretended_gpu
from lords_bench.kernels.common.prepared import prepare
from lords_bench.products.ops import lords_matmul
from lords_bench.products.registry import named_kernel
from lords_bench.products.routes import preferred
from lords_bench.static.pretended import _Driver
from lords_bench.static.target import named_target
from lords_bench.suites.studies.op_overhead import time_calls

GOAL_US = 3.0
GPU = Gpu(arch="sm_90", sm_count=132)
N, K, RANK = 256, 1024, 16
CASES = tuple((preferred("lords", tokens)[0], tokens) for tokens in (1, 8, 64))


@contextmanager
def no_driver() -> Iterator[None]:
    """Within it Triton's launcher believes in a GPU, and what it launches does nothing."""
    from triton.compiler import CompiledKernel
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    class Compiled(CompiledKernel):  # type: ignore[misc]
        """A compiled kernel that runs nothing: the driver's part is left out, the rest is Triton's."""

        def __init__(self) -> None:
            self.name = self.src = "nothing"
            self.module = self.function = 0
            self.packed_metadata = None
            self._module_pid = None
            self._run = self.nothing

        @staticmethod
        def nothing(*_arguments: Any) -> None:
            pass

    def not_compiled(kernel: Any, key: Any, _signature: Any, device: Any, *_more: Any) -> Compiled:
        found = kernel.device_caches[device][0][key] = Compiled()
        return found

    active = driver._active  # noqa: SLF001  (its getter would look for a device)
    with ExitStack() as stack:
        stack.enter_context(patch.object(JITFunction, "_do_compile", not_compiled))
        stack.enter_context(pretended_gpu(GPU))
        driver.set_active(_Driver(named_target(GPU.arch), "nothing"))
        stack.callback(setattr, driver, "_active", active)
        yield


def recorded(launch: Callable[[], object]) -> SimpleNamespace:
    """The first call of Triton's launcher that a launch makes."""
    from triton.runtime.jit import JITFunction

    found: list[SimpleNamespace] = []
    run = JITFunction.run

    def record(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(SimpleNamespace(run=kernel.run, args=args, kwargs=kwargs))
        return run(kernel, *args, **kwargs)

    with patch.object(JITFunction, "run", record):
        launch()
    return found[0]


@torch.no_grad()
def main() -> None:
    """Print a table: least and median time of a call, and what it is over Triton's launcher."""
    torch.set_num_threads(1)
    with no_driver():
        for name, m in CASES:
            case = make_case(m, N, K, bits=4, rank=RANK, dtype=torch.bfloat16, device=torch.device("cpu"))
            weight, x, kernel = prepare(case, torch.bfloat16), case.x_MK, named_kernel(name)
            lords_matmul(x, weight)
            call = recorded(lambda: kernel.launch(x, weight, None, None))  # noqa: B023  (called at once)

            def alone(call: Any = call) -> None:
                call.run(*call.args, **call.kwargs)

            def with_buffers(call: Any = call, m: int = m) -> None:
                torch.empty(m, N, dtype=torch.bfloat16, device="cpu")
                torch.empty(4, m, N, dtype=torch.float32, device="cpu")
                call.run(*call.args, **call.kwargs)

            times = time_calls(
                {
                    "Triton's launcher": alone,
                    "Triton's launcher and two buffers": with_buffers,
                    f"{name}.launch": lambda: kernel.launch(x, weight, None, None),  # noqa: B023
                    "lords_matmul": lambda: lords_matmul(x, weight),  # noqa: B023
                },
                rounds=60,
                count=50,
            )
            least = times[0].least_us
            for found in times:
                over = "" if found is times[0] else f"   over it {found.least_us - least:+6.2f} µs"
                text = f"{name:16} M={m:<3} {found.name:34} least {found.least_us:6.2f} µs"
                print(f"{text}   median {found.median_us:6.2f} µs{over}")  # noqa: T201  (a script prints)
    print(f"goal: at most {GOAL_US:g} µs over Triton's launcher")  # noqa: T201


if __name__ == "__main__":
    main()
