"""The latency suite as data: layers of five models, a ladder of M, three numbers of bits, two block sizes.

Sizes are those of the public `config.json` of each model. Layers are the separate modules of transformers' models
(`q_proj`, `k_proj`, `v_proj`, …; `gate_proj` and `up_proj`), not the fused ones that some servers make of them: those
are what a quantized checkpoint stores and an adapter hangs on. Modules of one shape are timed once, under all names.

    LATENCY_CPU     a toy of the same structure: what a CPU can time in a minute, through plain PyTorch
    LATENCY_QUICK   Llama-3-8B, the ends and the middle of the ladder, 4 bits at block 64
    LATENCY_FULL    every model, M, number of bits and block size; the quick cases come first
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from lords_bench.errors import SpecError, UsageError
from lords_bench.quant import BITS, GemmShape
from lords_bench.records.latency import LatencyCase, SuiteSize


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerShape:
    """A linear layer of N out and K in features; `name` lists every module of that shape."""

    name: str
    n: int
    k: int

    def __post_init__(self) -> None:
        GemmShape(m=1, n=self.n, k=self.k)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLayers:
    """The distinct linear layers of one block of a model.

    Attributes:
        name: as file and case names have it, such as `llama-3-8b`.
        layers: every shape once.
        source: where the sizes come from.
    """

    name: str
    layers: tuple[LayerShape, ...]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencySuite:
    """Cases that are timed together.

    Attributes:
        size: which set of cases it is; records of different sizes may stand on one page, the cases are the same nouns.
        title: what the page calls it.
        cases: what is timed, the most telling first: a run that is cut short has those.

    Raises:
        SpecError: no case, or a case twice.
    """

    size: SuiteSize
    title: str
    cases: tuple[LatencyCase, ...]

    def __post_init__(self) -> None:
        ids = [case.case_id for case in self.cases]
        if not ids:
            raise SpecError("a latency suite has no case; ask for models and bits that exist together")
        repeated = sorted({case_id for case_id in ids if ids.count(case_id) > 1})
        if repeated:
            raise SpecError(f"the latency suite has case {repeated[0]!r} twice; ids must differ")


M_LADDER = tuple(1 << power for power in range(13))  # 1 … 4096
M_QUICK = (1, 4, 16, 64, 256, 1024, 4096)
M_CPU = (1, 4, 16, 64, 256)
BLOCKS = (64, 128)


def _decoder_layers(*, hidden: int, intermediate: int, query: int, key: int) -> tuple[LayerShape, ...]:
    """Linear layers of one decoder block; `query` and `key` are heads × head size of each kind."""
    attention = (
        (LayerShape(name="q_proj+o_proj", n=query, k=hidden),)
        if query == hidden
        else (LayerShape(name="q_proj", n=query, k=hidden), LayerShape(name="o_proj", n=hidden, k=query))
    )
    return (
        *attention,
        LayerShape(name="k_proj+v_proj", n=key, k=hidden),
        LayerShape(name="gate_proj+up_proj", n=intermediate, k=hidden),
        LayerShape(name="down_proj", n=hidden, k=intermediate),
    )


MODELS: tuple[ModelLayers, ...] = (
    ModelLayers(
        name="llama-3-8b",
        layers=_decoder_layers(hidden=4096, intermediate=14336, query=32 * 128, key=8 * 128),
        source="config.json of meta-llama/Meta-Llama-3-8B",
    ),
    ModelLayers(
        name="qwen3-8b",
        layers=_decoder_layers(hidden=4096, intermediate=12288, query=32 * 128, key=8 * 128),
        source="config.json of Qwen/Qwen3-8B",
    ),
    ModelLayers(
        name="llama-3-70b",
        layers=_decoder_layers(hidden=8192, intermediate=28672, query=64 * 128, key=8 * 128),
        source="config.json of meta-llama/Meta-Llama-3-70B",
    ),
    ModelLayers(
        name="qwen3-4b",
        layers=_decoder_layers(hidden=2560, intermediate=9728, query=32 * 128, key=8 * 128),
        source="config.json of Qwen/Qwen3-4B",
    ),
    ModelLayers(
        name="qwen3-32b",
        layers=_decoder_layers(hidden=5120, intermediate=25600, query=64 * 128, key=8 * 128),
        source="config.json of Qwen/Qwen3-32B",
    ),
)

# Llama-3-8B with every size divided by eight: small enough for plain PyTorch, the same proportions.
TOY = ModelLayers(
    name="llama-3-8b-eighth",
    layers=_decoder_layers(hidden=512, intermediate=1792, query=512, key=128),
    source="sizes of Llama-3-8B divided by 8",
)


def _cases(
    models: Iterable[ModelLayers], ladder: Iterable[int], bits: Iterable[int], blocks: Iterable[int]
) -> tuple[LatencyCase, ...]:
    """Formats outermost, then models, then M: a run cut short has whole ladders of the first formats."""
    return tuple(
        LatencyCase(model=model.name, layer=layer.name, m=m, n=layer.n, k=layer.k, bits=width, block=block)
        for width, block, model, layer, m in (
            (width, block, model, layer, m)
            for width, block in product(tuple(bits), tuple(blocks))
            for model in models
            for layer in model.layers
            for m in ladder
        )
    )


_QUICK_CASES = _cases(MODELS[:1], M_QUICK, (4,), (64,))
_FULL_CASES = tuple(dict.fromkeys((*_QUICK_CASES, *_cases(MODELS, M_LADDER, BITS, BLOCKS))))

LATENCY_CPU = LatencySuite(
    size="cpu",
    title="PyTorch reference timings on a CPU: they say nothing about GPU kernels",
    cases=_cases((TOY,), M_CPU, (4,), (64,)),
)
LATENCY_QUICK = LatencySuite(size="quick", title="Latency of linear layers", cases=_QUICK_CASES)
LATENCY_FULL = LatencySuite(size="full", title="Latency of linear layers", cases=_FULL_CASES)


def named_model(name: str) -> ModelLayers:
    """The layers of a model by name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    found = next((model for model in (*MODELS, TOY) if model.name == name), None)
    if found is None:
        raise UsageError(f"unknown model {name!r}; known: {', '.join(model.name for model in (*MODELS, TOY))}")
    return found


def select_cases(
    suite: LatencySuite,
    *,
    models: tuple[str, ...] | None = None,
    bits: tuple[int, ...] | None = None,
    m: tuple[int, ...] | None = None,
    blocks: tuple[int, ...] | None = None,
) -> LatencySuite:
    """The suite's cases of these models, bits, M and block sizes; None selects all.

    Raises:
        UsageError: an unknown model, or a combination with no case.
    """
    for name in models or ():
        named_model(name)
    cases = tuple(
        case
        for case in suite.cases
        if (models is None or case.model in models)
        and (bits is None or case.bits in bits)
        and (m is None or case.m in m)
        and (blocks is None or case.block in blocks)
    )
    if not cases:
        asked = f"models {models or 'all'}, bits {bits or 'all'}, M {m or 'all'}, blocks {blocks or 'all'}"
        raise UsageError(
            f"no case of the {suite.size} latency suite has {asked}; see 'lords-bench bench latency --list'"
        )
    return LatencySuite(size=suite.size, title=suite.title, cases=cases)
