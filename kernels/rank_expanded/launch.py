"""Launch of the rank-expanded kernel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import triton

from lords_bench.errors import UsageError
from lords_bench.kernels.common.gpu import Gpu
from lords_bench.kernels.common.handle import launch_ready
from lords_bench.kernels.common.layout import k_block
from lords_bench.kernels.common.operands import GRID7_STEPS, GRID7_ZERO, LordsOperands, integer_tile_a
from lords_bench.kernels.common.ready import Ready, ready_call
from lords_bench.kernels.common.sums import launch_sums, ready_sums
from lords_bench.kernels.common.support import YES, Support, no, require_matrix
from lords_bench.kernels.common.workspace import arrival_counters, partial_buffer, splits_at_once
from lords_bench.kernels.rank_expanded.kernel import rank_expanded_kernel
from lords_bench.kernels.rank_expanded.space import MAX_RANK, MAX_TOKENS, RankExpandedConfig, default_config


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RankExpandedOperands:
    """`LordsOperands` with A in the column order of the integer path (as many bytes again as A itself).

    Attributes:
        packed_bytes: the packed rows as bytes; a view, made once because it costs a call a microsecond.
    """

    lords: LordsOperands
    a_columns: torch.Tensor
    packed_bytes: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "packed_bytes", self.lords.packed.view(torch.int8))


def supports(m: int, operands: LordsOperands, dtype: torch.dtype) -> Support:
    """One to four tokens, ranks up to 64, levels on the 7-bit grid or of an INT-n codebook, any float activations."""
    if m > MAX_TOKENS:
        return no(f"M = {m} is above {MAX_TOKENS}, where decoding once per token stops paying; use scale_tile")
    if operands.levels.integer_levels is None:
        return no("levels are off the 7-bit grid, which the integer path needs; use scale_tile")
    if operands.levels.decoder == "table16":
        return no("decoder 'table16' has no integer path; prepare the weight for 'grid7' or 'table'")
    if operands.rank > MAX_RANK:
        return no(f"rank {operands.rank} is above {MAX_RANK}, where registers run out; use scale_tile")
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return no(f"activations are {dtype}; use float16, bfloat16 or float32")
    return YES


def prepare(operands: LordsOperands) -> RankExpandedOperands:
    """A reordered for the kernel; once per weight."""
    decoder = operands.levels.decoder
    a_columns = integer_tile_a(operands.a_RK, k_blocks=operands.k_blocks, bits=operands.bits, decoder=decoder)
    return RankExpandedOperands(lords=operands, a_columns=a_columns)


def launch(
    x_MK: torch.Tensor,
    prepared: RankExpandedOperands,
    *,
    bias_N: torch.Tensor | None = None,
    config: RankExpandedConfig | None = None,
    out: torch.Tensor | None = None,
    arrivals: torch.Tensor | None = None,
) -> torch.Tensor:
    """y_MN = x_MK @ W_NK^T + bias, in the dtype of x. Arguments as for `scale_tile.launch`.

    Raises:
        UsageError: a problem that `supports` refuses.
    """
    operands = prepared.lords
    ready = ready_call(_call, x_MK, operands, config, bias_N is not None)
    m = x_MK.shape[0]
    y_MN = torch.empty(m, operands.n, dtype=x_MK.dtype, device=x_MK.device) if out is None else out
    if y_MN.numel() == 0:
        return y_MN
    partial = partial_buffer(ready.splits, m, operands.n, x_MK.device)
    if arrivals is None:
        arrivals = arrival_counters(ready.grid[1] * m, x_MK.device)
    levels = operands.levels
    table = levels.words if levels.decoder != "table" or levels.integer_levels is None else levels.integer_levels
    tensors = (
        prepared.packed_bytes, prepared.a_columns, operands.b_NR, x_MK, y_MN if bias_N is None else bias_N,
        y_MN, partial, arrivals, table,
    )  # fmt: skip
    integers = (m, operands.n, operands.k, ready.config.tiles_per_program, *x_MK.stride(), y_MN.stride(0))
    launch_ready(rank_expanded_kernel, ready, tensors, integers)
    if ready.sums is not None:
        launch_sums(ready.sums, partial, y_MN, bias_N)
    return y_MN


def _call(
    x_MK: torch.Tensor, operands: LordsOperands, config: RankExpandedConfig | None, gpu: Gpu, has_bias: bool
) -> Ready:
    require_matrix(x_MK, operands.k, operands.packed.device)
    m = x_MK.shape[0]
    support = supports(m, operands, x_MK.dtype)
    if not support.ok:
        raise UsageError(support.reason)
    config = config or default_config(
        operands.n, operands.k, bits=operands.bits, decoder=operands.levels.decoder, gpu=gpu
    )
    splits = triton.cdiv(operands.k_blocks, config.blocks_k)
    groups = triton.cdiv(operands.n, config.block_n * config.tiles_per_program)
    constants = _constexprs(config, operands, has_bias)
    sums = (
        None
        if config.last_sums
        else ready_sums(m, operands.n, level_unit=constants["LEVEL_UNIT"], has_bias=has_bias, config=config, gpu=gpu)
    )
    return Ready(
        grid=(splits, groups, m), constants=constants, config=config, gpu=gpu,
        splits=splits, sums=sums,
    )  # fmt: skip


def _constexprs(config: RankExpandedConfig, operands: LordsOperands, has_bias: bool) -> Mapping[str, Any]:
    bits, decoder = operands.bits, operands.levels.decoder
    return {
        "K_BLOCKS": operands.k_blocks,
        "RANK": operands.rank,
        "RANK_CHUNK": 16,
        "BLOCK_N": config.block_n,
        "BLOCKS_K": config.blocks_k,
        "BITS": bits,
        "DECODER": decoder,
        "LAST_SUMS": config.last_sums,
        "AT_ONCE": splits_at_once(config.block_n, config.num_warps),
        "ZERO": 1 << (bits - 1) if decoder == "uniform" else GRID7_ZERO,
        "LEVEL_UNIT": 2.0 ** (1 - bits) if decoder == "uniform" else 1 / GRID7_STEPS,
        "EVEN_N": operands.n % config.block_n == 0,
        "EVEN_GROUPS": triton.cdiv(operands.n, config.block_n) % config.tiles_per_program == 0,
        "EVEN_K": operands.k_blocks % config.blocks_k == 0 and operands.k % k_block(bits) == 0,
        "HAS_BIAS": has_bias,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
