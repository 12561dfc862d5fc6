"""The project's own launches as calls that can be compiled: a kernel, a problem and a configuration.

`lords_bench.static.worker` calls `launch_problem` on a target that is only pretended. What runs is the kernel's own
`launch`, with its rules for shapes that were not tuned, on weights prepared as on a GPU and with no memory behind them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lords_bench.errors import UsageError
from lords_bench.kernels.common.static_case import Launched
from lords_bench.products.registry import ENTRIES, PARTS, config_of, named_kernel
from lords_bench.records.codec import from_plain, to_plain
from lords_bench.static.compile import CompiledLaunch
from lords_bench.static.request import CompileRequest, request_for
from lords_bench.static.target import Target

# Multiprocessors of a large GPU of each target: they decide how many tiles a program walks over.
SM_COUNTS: Mapping[str, int] = MappingProxyType(
    {
        "sm_80": 108, "sm_86": 84, "sm_89": 128, "sm_90": 132, "sm_100": 148, "sm_120": 170,
        "gfx942": 304, "gfx950": 256, "gfx1100": 96,
    }
)  # fmt: skip

_DECODING_LOOPS = frozenset(name for entry in ENTRIES for name in entry.loops)


def compile_request(launched: Launched, target: Target) -> CompileRequest:
    return request_for("lords_bench.static.launches:launch_problem", target, launched=to_plain(launched))


def launch_problem(target: Target, launched: Mapping[str, Any]) -> None:
    """Launch what was asked for (a `Launched` as plain data), as on a GPU of the target.

    Raises:
        UsageError: the kernel refuses the problem.
    """
    from lords_bench.kernels.common.gpu import Gpu, pretended_gpu

    asked = from_plain(Launched, launched, path="launched")
    with pretended_gpu(Gpu(arch=target.name, sm_count=asked.multiprocessors or SM_COUNTS[target.name])):
        if asked.kernel in PARTS:
            PARTS[asked.kernel].launch(asked)
        else:
            _launch_product(asked)


def weights_per_turn(launch: CompiledLaunch) -> int | None:
    """Weights that one program decodes in one turn of its main loop; None where there is no such loop."""
    if launch.name not in _DECODING_LOOPS:
        return None
    constants: dict[str, Any] = dict(launch.constants)
    return int(constants["BLOCK_N"] * constants.get("BLOCKS_K", 1) * (256 if constants["BITS"] == 3 else 128))


def _launch_product(asked: Launched) -> None:
    from lords_bench.kernels.common.without_memory import any_without_memory, tokens_without_memory

    kernel, problem = named_kernel(asked.kernel), asked.problem
    weight = any_without_memory(problem, lora_rank=asked.lora_rank)
    x_MK = tokens_without_memory(problem, problem.k)
    support = kernel.supports(problem.m_bucket, weight, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    bias_N = tokens_without_memory(problem, problem.n)[0] if asked.bias else None
    kernel.launch(x_MK, weight, bias_N, config_of(asked.kernel, asked.settings or ()))
