"""The project's own launches as calls that can be compiled: a kernel, a problem and a configuration.

`lords_bench.static.worker` calls `launch_problem` on a target that is only pretended. What runs is the kernel's own
`launch`, with its rules for shapes that were not tuned, on weights prepared as on a GPU and with no memory behind them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lords_bench.errors import UsageError
from lords_bench.records.codec import from_plain, to_plain
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.static.compile import CompiledLaunch
from lords_bench.static.request import CompileRequest, request_for
from lords_bench.static.target import Target

if TYPE_CHECKING:
    from torch import Tensor

# Multiprocessors of a large GPU of each target: they decide how many tiles a program walks over.
SM_COUNTS: Mapping[str, int] = MappingProxyType(
    {
        "sm_80": 108, "sm_86": 84, "sm_89": 128, "sm_90": 132, "sm_100": 148, "sm_120": 170,
        "gfx942": 304, "gfx950": 256, "gfx1100": 96,
    }
)  # fmt: skip

# Kernels whose main loop decodes weights, a tile of `BLOCK_N` rows and `BLOCKS_K` K blocks (one, where nothing says
# how many) in each turn.
_DECODING_LOOPS = frozenset(
    {
        "rank_expanded_kernel", "scale_tile_kernel", "split_gemm_kernel", "joined_gemm_kernel", "input_gradient_kernel",
        "blockwise_kernel", "blockwise_gemm_kernel",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """What is launched.

    Attributes:
        kernel: name in the registry of kernels, or in `TRAINING`.
        problem: its `m_bucket` is the number of tokens.
        settings: fields of the configuration, those that are not named as they are by default; None for the kernel's
            own rule.
        lora_rank: rank of the adapter of a QLoRA layer; None without.
        bias: whether a bias is added.
        multiprocessors: of the GPU; None is that of a large one.
    """

    kernel: str
    problem: Problem
    settings: Settings | None = None
    lora_rank: int | None = None
    bias: bool = False
    multiprocessors: int | None = None

    def on(self, target: Target) -> CompileRequest:
        """The request to compile it for a target."""
        return request_for("lords_bench.static.launches:launch_problem", target, launched=to_plain(self))


def launch_problem(target: Target, launched: Mapping[str, Any]) -> None:
    """Launch what was asked for (a `Launched` as plain data), as on a GPU of the target.

    Raises:
        UsageError: the kernel refuses the problem.
    """
    from lords_bench.kernels.common.gpu import Gpu, pretended_gpu

    asked = from_plain(Launched, launched, path="launched")
    with pretended_gpu(Gpu(arch=target.name, sm_count=asked.multiprocessors or SM_COUNTS[target.name])):
        TRAINING.get(asked.kernel, _product)(asked)


def weights_per_turn(launch: CompiledLaunch) -> int | None:
    """Weights that one program decodes in one turn of its main loop; None where there is no such loop."""
    if launch.name not in _DECODING_LOOPS:
        return None
    constants: dict[str, Any] = dict(launch.constants)
    return int(constants["BLOCK_N"] * constants.get("BLOCKS_K", 1) * (256 if constants["BITS"] == 3 else 128))


def _product(asked: Launched) -> None:
    from lords_bench.kernel_registry import config_of, named_kernel
    from lords_bench.kernel_registry.without_memory import blocks_without_memory, weight_without_memory

    kernel, problem = named_kernel(asked.kernel), asked.problem
    weight: Any = (
        weight_without_memory(problem)
        if kernel.weight == "lords"
        else blocks_without_memory(problem, lora_rank=asked.lora_rank)
    )
    x_MK = _tokens(problem, problem.k)
    support = kernel.supports(problem.m_bucket, weight, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    bias_N = _tokens(problem, problem.n)[0] if asked.bias else None
    kernel.launch(x_MK, weight, bias_N, config_of(asked.kernel, asked.settings or ()))


def _factor_gradients(asked: Launched) -> None:
    from lords_bench.kernels.peft_backward.launch import factor_gradients
    from lords_bench.kernels.peft_backward.space import FactorGradientsConfig

    problem = asked.problem
    config = _config(FactorGradientsConfig, asked)
    factor_gradients(_tokens(problem, problem.n), _tokens(problem, problem.k), _operands(problem), config=config)


def _input_gradient(asked: Launched) -> None:
    from lords_bench.kernels.peft_backward.launch import input_gradient
    from lords_bench.kernels.peft_backward.space import InputGradientConfig

    problem = asked.problem
    input_gradient(_tokens(problem, problem.n), _operands(problem), config=_config(InputGradientConfig, asked))


def _dequantize(asked: Launched) -> None:
    from lords_bench.kernels.dequantize.launch import CONFIG, dequantize

    operands = _operands(asked.problem)
    dequantize(operands, _dtype(asked.problem.x_dtype), config=_config(CONFIG, asked))


def _fake_quantize(asked: Launched) -> None:
    import torch

    from lords_bench.kernel_registry.without_memory import without_memory
    from lords_bench.kernels.fake_quantize.launch import CONFIG, launch

    problem = asked.problem
    assert problem.rank is not None
    factor = partial(without_memory, dtype=_dtype(problem.scale_dtype))
    launch(
        without_memory(problem.n, problem.k, dtype=_dtype(problem.x_dtype)), factor(problem.n, problem.rank),
        factor(problem.rank, problem.k), without_memory(1 << problem.bits, dtype=torch.float32),
        config=_config(CONFIG, asked),
    )  # fmt: skip


# Launches of training, which are no products: by the names of their kernels.
TRAINING: Mapping[str, Callable[[Launched], None]] = MappingProxyType(
    {
        "factor_gradients": _factor_gradients,
        "input_gradient": _input_gradient,
        "dequantize": _dequantize,
        "fake_quantize": _fake_quantize,
    }
)


def _config(kind: type[Any], asked: Launched) -> Any:
    return None if asked.settings is None else kind(**dict(asked.settings))


def _operands(problem: Problem) -> Any:
    from lords_bench.kernel_registry import lords_operands
    from lords_bench.kernel_registry.without_memory import weight_without_memory
    from lords_bench.prepared import MAX_KERNEL_RANK, REFERENCE

    weight = weight_without_memory(problem)
    if weight.decoder == REFERENCE:
        raise UsageError(f"rank {problem.rank} is above {MAX_KERNEL_RANK}; no kernel takes it")
    return lords_operands(weight)


def _tokens(problem: Problem, columns: int) -> "Tensor":
    from lords_bench.kernel_registry.without_memory import without_memory

    return without_memory(problem.m_bucket, columns, dtype=_dtype(problem.x_dtype))


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)
