"""`WAYS`: every method of the latency suite by name, and how it is built for a problem."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from lords_bench.errors import UsageError
from lords_bench.records.latency import DENSE, KERNEL_PREFIX, SUBJECT
from lords_bench.suites.baselines import libraries, own
from lords_bench.suites.baselines.problem import LayerProblem, Way

Build = Callable[[LayerProblem], Way]

WAYS: Mapping[str, Build] = MappingProxyType(
    {
        SUBJECT: own.lords,
        DENSE: own.dense,
        "nf-block": own.nf_block,
        "nf-dequantize": own.nf_dequantize,
        "int-block": own.int_block,
        "bitsandbytes": libraries.bitsandbytes,
        "bitsandbytes-dequantize": libraries.bitsandbytes_dequantize,
        "qlora-peft": libraries.qlora_peft,
        "qlora-fused": own.qlora_fused,
        "qlora-merged": own.qlora_merged,
        "tinygemm": libraries.tinygemm,
        "gemlite": libraries.gemlite,
    }
)


def builder(method: str) -> Build:
    """How a method is built; `lords-<kernel>` is one LoRDS kernel by itself.

    Raises:
        UsageError: unknown method; the message lists the known ones.
    """
    if method in WAYS:
        return WAYS[method]
    if method.startswith(KERNEL_PREFIX):
        return partial(own.lords_kernel, name=method.removeprefix(KERNEL_PREFIX))
    raise UsageError(f"unknown method {method!r}; known: {', '.join(WAYS)} and lords-KERNEL")
