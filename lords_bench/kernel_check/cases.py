"""Random problems for the check: one set of codes with low-rank scales, block scales and an adapter."""

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from lords_bench.kernels.common.check_case import CheckCase
from lords_bench.kernels.common.entry import Kernel
from lords_bench.kernels.common.prepared import prepare
from lords_bench.kernels.common.prepared_blocks import LoraAdapter, prepare_blockwise
from lords_bench.quant import named_codebook
from lords_bench.reference.packing import pack_codes

if TYPE_CHECKING:
    from lords_bench.kernels.common.ptx import Decoder

# M, N, K: single tokens and tiles of them, with and without ragged edges.
SHAPES = (
    (1, 256, 1024),
    (1, 200, 700),
    (3, 130, 300),
    (16, 256, 1024),
    (40, 200, 700),
    (130, 130, 700),
    (600, 256, 512),
)
RANKS = (16, 5, 64)
# One that kernels pad to their widest, on one shape of few tokens and one of more: it takes the compiler longest.
WIDE_RANK = 99
WIDE_SHAPES = (SHAPES[1], SHAPES[4])
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


BLOCKS = (64, 128)
SCALING = 0.5


def make_case(  # noqa: PLR0913  (what a product is, flat)
    m: int,
    n: int,
    k: int,
    *,
    bits: int,
    rank: int,
    dtype: torch.dtype,
    device: torch.device,
    seed: int = 0,
    block: int | None = None,
) -> CheckCase:
    """A weight with scales of both signs and levels on the 7-bit grid (the integers at an odd seed: off the grid).

    Odd seeds have zero points and blocks of 128, even ones none and blocks of 64, unless `block` says otherwise.
    """
    generator = torch.Generator().manual_seed(seed)
    levels_L = torch.tensor(named_codebook(f"int{bits}" if seed % 2 else f"nf{bits}-grid7").levels)
    codes_NK = torch.randint(0, 1 << bits, (n, k), generator=generator, dtype=torch.uint8)
    b_NR = (torch.randn(n, rank, generator=generator) * 0.3).half()
    a_RK = (torch.randn(rank, k, generator=generator) * 0.3).half()
    x_MK = torch.randn(m, k, generator=generator)
    bias_N = torch.randn(n, generator=generator)
    block = BLOCKS[seed % 2] if block is None else block
    groups = -(-k // block)
    scale_NG = (torch.randn(n, groups, generator=generator) * 0.3).half()
    zero_NG = torch.rand(n, groups, generator=generator) - 0.5
    adapter = LoraAdapter(
        a_RK=(torch.randn(rank, k, generator=generator) * 0.1).to(device, dtype),
        b_NR=(torch.randn(n, rank, generator=generator) * 0.1).to(device, dtype),
        scaling=SCALING,
    )
    return CheckCase(
        name=case_name(m=m, n=n, k=k, bits=bits, rank=rank, dtype=dtype),
        codes_NK=codes_NK.to(device),
        packed=pack_codes(codes_NK, bits).to(device),
        b_NR=b_NR.to(device),
        a_RK=a_RK.to(device),
        levels_L=levels_L.to(device),
        bits=bits,
        x_MK=x_MK.to(device, dtype),
        bias_N=bias_N.to(device, dtype),
        block=block,
        scale_NG=scale_NG.to(device),
        zero_NG=zero_NG.to(device) if seed % 2 else None,
        adapter=adapter,
    )


def case_name(*, m: int, n: int, k: int, bits: int, rank: int, dtype: torch.dtype, **_more: Any) -> str:
    """Name of the case that `make_case` makes of these arguments."""
    return f"m{m}-n{n}-k{k}-b{bits}-r{rank}-{str(dtype).removeprefix('torch.')}"


def case_grid() -> tuple[dict[str, Any], ...]:
    """Arguments of `make_case` for every shape, width and dtype.

    Ranks go round such that every three shapes in a row bring every rank to every width and dtype; the kind of levels
    and zero points alternate. The cases of `WIDE_RANK` follow.
    """
    axes = product(enumerate(SHAPES), enumerate((4, 3, 2)), enumerate(DTYPES))
    found = [
        {"m": m, "n": n, "k": k, "bits": bits, "dtype": dtype, "rank": RANKS[(row + column + layer) % len(RANKS)]}
        for (row, (m, n, k)), (column, bits), (layer, dtype) in axes
    ]
    found += [
        {"m": m, "n": n, "k": k, "bits": bits, "dtype": dtype, "rank": WIDE_RANK}
        for (m, n, k), bits, dtype in product(WIDE_SHAPES, (4, 3, 2), DTYPES)
    ]
    return tuple({**case, "seed": seed} for seed, case in enumerate(found))


def all_cases(device: torch.device) -> Iterator[CheckCase]:
    yield from (make_case(**arguments, device=device) for arguments in case_grid())


def prepared_for(kernel: Kernel, case: CheckCase, decoder: "Decoder | None" = None) -> Any:
    """The case's weight as the kernel takes it.

    Args:
        kernel: of the registry.
        case: the problem.
        decoder: None is the fastest that fits; naming one prepares for kernels on a CPU as well.

    Raises:
        UsageError: the weight does not fit the decoder.
    """
    if kernel.weight == "lords":
        return prepare(case, case.x_MK.dtype, decoder=decoder)
    assert case.scale_NG is not None
    return prepare_blockwise(
        case.packed, case.scale_NG, case.levels_L, k=case.codes_NK.shape[1], bits=case.bits, block=case.block,
        dtype=case.x_MK.dtype, zero_NG=case.zero_NG, decoder=decoder,
        adapter=case.adapter if kernel.weight == "qlora" else None,
    )  # fmt: skip
