"""Shapes of whole models, and weights that look like trained ones without being any. Data, but for the generator.

Sizes are those of the public `config.json` of each model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError

if TYPE_CHECKING:
    import torch

# Every width stays a multiple of it when a model is made smaller.
WIDTH_UNIT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """A decoder's sizes; `head` is the width of one attention head."""

    name: str
    blocks: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head: int
    vocabulary: int
    source: str

    def smaller(self, scale: int, blocks: int | None) -> "ModelShape":
        """The same with widths, head count and vocabulary divided by `scale`, and so many blocks.

        Raises:
            UsageError: nothing would be left, or more blocks than the model has.
        """
        count = self.blocks if blocks is None else blocks
        if scale < 1 or self.hidden // scale < WIDTH_UNIT or self.heads // scale < 1:
            most = min(self.hidden // WIDTH_UNIT, self.heads)
            raise UsageError(f"--scale {scale} leaves nothing of {self.name}; give 1 to {most}")
        if not 1 <= count <= self.blocks:
            raise UsageError(f"--layers {count}: {self.name} has {self.blocks} blocks")
        return ModelShape(
            name=self.name,
            blocks=count,
            hidden=_width(self.hidden, scale),
            intermediate=_width(self.intermediate, scale),
            heads=self.heads // scale,
            key_heads=max(1, self.key_heads // scale),
            head=self.head,
            vocabulary=max(256, self.vocabulary // scale),
            source=self.source,
        )

    def linears(self) -> tuple[tuple[str, int, int], ...]:
        """(name, N, K) of every linear layer of every block, in model order; the head is none of them."""
        query, key = self.heads * self.head, self.key_heads * self.head
        block = (
            ("self_attn.q_proj", query, self.hidden),
            ("self_attn.k_proj", key, self.hidden),
            ("self_attn.v_proj", key, self.hidden),
            ("self_attn.o_proj", self.hidden, query),
            ("mlp.gate_proj", self.intermediate, self.hidden),
            ("mlp.up_proj", self.intermediate, self.hidden),
            ("mlp.down_proj", self.hidden, self.intermediate),
        )
        return tuple((f"model.layers.{index}.{name}", n, k) for index in range(self.blocks) for name, n, k in block)


LLAMA_3_8B = ModelShape(
    name="llama-3-8b", blocks=32, hidden=4096, intermediate=14336, heads=32, key_heads=8, head=128, vocabulary=128256,
    source="config.json of meta-llama/Meta-Llama-3-8B",
)  # fmt: skip
LLAMA_1B = ModelShape(
    name="llama-3.2-1b", blocks=16, hidden=2048, intermediate=8192, heads=32, key_heads=8, head=64, vocabulary=128256,
    source="config.json of meta-llama/Llama-3.2-1B",
)  # fmt: skip

# Student-t with so many degrees of freedom, rows and columns of log-normal size, and a few columns far above the rest.
DEGREES = 8
WEIGHT_STD = 0.02
SIZE_SPREAD = 0.25
OUTLIER_SHARE = 0.002
OUTLIER_FACTOR = 8.0
GENERATOR = (
    f"student-t {DEGREES}, std {WEIGHT_STD}, rows and columns log-normal {SIZE_SPREAD}, "
    f"{OUTLIER_SHARE:.1%} of columns x{OUTLIER_FACTOR:g}"
)


def synthetic_weight(n: int, k: int, *, seed: int, device: "torch.device", dtype: "torch.dtype") -> "torch.Tensor":
    """A random N×K weight with row and column structure, heavy tails and outlier channels (at least one).

    The structure is what trained linear layers show and what a low-rank scale can use; the figures above are round
    ones, not fitted to any model. Made on the device; a CPU and a GPU draw different numbers from one seed.
    """
    import torch

    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    square_NK = normal(n, k).square_()
    for _ in range(DEGREES - 1):
        square_NK += normal(n, k).square_()
    weight_NK = normal(n, k) / (square_NK / DEGREES).sqrt_()
    column_K = torch.exp(SIZE_SPREAD * normal(k))
    outliers = torch.randperm(k, generator=generator, device=device)[: max(1, round(OUTLIER_SHARE * k))]
    column_K[outliers] *= OUTLIER_FACTOR
    row_N1 = WEIGHT_STD * torch.exp(SIZE_SPREAD * normal(n, 1))
    return (weight_NK * row_N1 * column_K).to(dtype)


def _width(width: int, scale: int) -> int:
    return max(WIDTH_UNIT, width // scale // WIDTH_UNIT * WIDTH_UNIT)
