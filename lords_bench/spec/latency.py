"""What the latency suite times, as nouns: layers of models, one product of one layer, and suites of those."""

from dataclasses import dataclass
from typing import Literal

from lords_bench.errors import SpecError
from lords_bench.spec.quant import BITS, parity_rank
from lords_bench.spec.shapes import GemmShape

SuiteSize = Literal["cpu", "quick", "full"]


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
class LatencyCase:
    """One product y_MN = x_MK @ W_NKᵀ with W in a format of `bits` and storage parity with blocks of `block`.

    Attributes:
        model: name of the model the layer is of.
        layer: name of the layer.
        m: rows of the activation (tokens).
        n: out features.
        k: in features.
        bits: bits per code.
        block: inputs per block scale; the rank of LoRDS is at parity with it.

    Raises:
        SpecError: a size below 1, or bits that no format has.
    """

    model: str
    layer: str
    m: int
    n: int
    k: int
    bits: int
    block: int

    def __post_init__(self) -> None:
        GemmShape(m=self.m, n=self.n, k=self.k)
        if self.bits not in BITS:
            raise SpecError(f"case of layer {self.layer!r} has {self.bits} bits; choose of {', '.join(map(str, BITS))}")
        if self.block < 1:
            raise SpecError(f"case of layer {self.layer!r} has block {self.block}; give at least 1")

    @property
    def shape(self) -> GemmShape:
        """The product's size."""
        return GemmShape(m=self.m, n=self.n, k=self.k)

    @property
    def rank(self) -> int:
        """Rank of LoRDS at storage parity with the block."""
        return parity_rank(self.n, self.k, self.block)

    @property
    def case_id(self) -> str:
        """Unique within the suite: `llama-3-8b/o_proj-m16-b4-g64`."""
        return f"{self.model}/{self.layer}-m{self.m}-b{self.bits}-g{self.block}"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyMethod:
    """A way to compute a product that the suite times.

    Attributes:
        name: as records have it.
        label: as pages have it.
        bits: numbers of bits that it exists for.
        needs: package that must be installed, None where the project itself suffices.
        is_subject: whether it is LoRDS, and not what LoRDS is compared with.
    """

    name: str
    label: str
    bits: tuple[int, ...]
    needs: str | None = None
    is_subject: bool = False


SUBJECT = "lords"
DENSE = "dense"
# The baseline's second samples of every round: the A/A comparison that gives the noise floor.
DENSE_AGAIN = "dense-again"
KERNEL_PREFIX = "lords-"

METHODS: tuple[LatencyMethod, ...] = (
    LatencyMethod(name=SUBJECT, label="LoRDS", bits=BITS, is_subject=True),
    LatencyMethod(name=DENSE, label="dense matmul", bits=BITS),
    LatencyMethod(name="nf-block", label="NF blocks (this project)", bits=BITS),
    LatencyMethod(name="nf-dequantize", label="NF blocks, dequantize + matmul", bits=BITS),
    LatencyMethod(name="int-block", label="int blocks (this project)", bits=BITS),
    LatencyMethod(name="bitsandbytes", label="bitsandbytes NF4", bits=(4,), needs="bitsandbytes"),
    LatencyMethod(
        name="bitsandbytes-dequantize", label="bitsandbytes NF4, dequantize + matmul", bits=(4,), needs="bitsandbytes"
    ),
    LatencyMethod(name="qlora-peft", label="QLoRA as PEFT runs it", bits=(4,), needs="peft"),
    LatencyMethod(name="qlora-fused", label="QLoRA, fused (this project)", bits=BITS),
    LatencyMethod(name="qlora-merged", label="QLoRA, merged and quantized again", bits=BITS),
    LatencyMethod(name="tinygemm", label="torch int4 (tinygemm)", bits=(4,)),
    LatencyMethod(name="gemlite", label="gemlite int4", bits=(4,), needs="gemlite"),
)


def method_label(name: str) -> str:
    """Label of a method, or of a LoRDS kernel that was timed by itself (`lords-scale_tile`)."""
    found = next((method.label for method in METHODS if method.name == name), None)
    if found is None and name.startswith(KERNEL_PREFIX):
        return f"LoRDS, kernel {name.removeprefix(KERNEL_PREFIX)}"
    return found or name
