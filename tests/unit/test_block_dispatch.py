"""Block-wise products: the formula serves where nothing was tuned, a tuned route where it holds."""

from dataclasses import replace

import pytest
import torch

from lords_bench import block_dispatch
from lords_bench.block_dispatch import ROUTES, block_kernels_for, block_matmul, blocks_served_by
from lords_bench.errors import UsageError
from lords_bench.kernel_check import make_case, prepared_for
from lords_bench.kernel_registry import KERNELS, PreparedBlockwise
from lords_bench.records.tuned import M_BUCKETS, ROUTE, Choice, TunedEntry
from lords_bench.tuning.keys import BLOCK_ROUTED, block_problem_of, key_of
from lords_bench.tuning.lookup import Entries
from tuned_builders import MACHINE, make_entry


def block_weight(*, has_zero: bool = False, adapter: bool = False) -> PreparedBlockwise:
    """Prepared for kernels, through the portable decoder."""
    case = make_case(1, 64, 256, bits=4, rank=8, dtype=torch.float32, device=torch.device("cpu"), seed=int(has_zero))
    weight: PreparedBlockwise = prepared_for(KERNELS["qlora_fused" if adapter else "blockwise"], case, "table")
    return weight


def use_tables(monkeypatch: pytest.MonkeyPatch, *entries: TunedEntry) -> None:
    """Let `entries` be the tables and a GPU be the machine."""
    found = Entries(entries)
    monkeypatch.setattr(block_dispatch, "active_entries", lambda: found)
    monkeypatch.setattr(block_dispatch, "machine_of", lambda _device: MACHINE)


def route_entry(m: int, weight: PreparedBlockwise, choice: Choice) -> TunedEntry:
    key = key_of(ROUTE, block_problem_of(m, weight.operands), MACHINE)
    return make_entry(key=key, choice=choice, default=Choice(kernel="blockwise_gemm"))


def test_routes_cover_every_number_of_tokens_and_end_in_a_kernel_that_takes_all() -> None:
    limits = [route.max_m for route in ROUTES]

    assert limits[-1] is None
    assert limits[:-1] == sorted(limit for limit in limits if limit is not None)
    assert set(limits[:-1]) <= set(M_BUCKETS)
    assert all(route.kernels[-1] == "blockwise_dequantize_matmul" for route in ROUTES)


@pytest.mark.parametrize(
    ("m", "kernel"),
    [
        (1, "blockwise"),
        (32, "blockwise"),
        (33, "blockwise_gemm"),
        (512, "blockwise_gemm"),
        (513, "blockwise_dequantize_matmul"),
    ],
)
def test_the_formula_serves_where_nothing_was_tuned(m: int, kernel: str) -> None:
    found = blocks_served_by(m, block_weight())

    assert (found.choice, found.origin) == (Choice(kernel=kernel), "formula")


def test_a_tuned_route_moves_the_switch_point_to_dequantized_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = block_weight()
    use_tables(monkeypatch, route_entry(128, weight, Choice(kernel="blockwise_dequantize_matmul")))

    assert blocks_served_by(100, weight).choice.kernel == "blockwise_dequantize_matmul"
    assert blocks_served_by(64, weight).choice.kernel == "blockwise_gemm"
    assert blocks_served_by(129, weight).choice.kernel == "blockwise_gemm"
    assert blocks_served_by(100, block_weight(has_zero=True)).choice.kernel == "blockwise_gemm"


def test_a_route_to_a_kernel_that_does_not_take_so_many_tokens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = block_weight()
    use_tables(monkeypatch, route_entry(4096, weight, Choice(kernel="blockwise")))

    assert blocks_served_by(100_000, weight).choice.kernel == "blockwise_dequantize_matmul"


def test_a_tuned_configuration_reaches_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = block_weight()
    choice = Choice(kernel="blockwise_gemm", settings=(("block_m", 32), ("block_n", 64), ("num_warps", 2)))
    use_tables(monkeypatch, route_entry(64, weight, choice))
    seen = []

    def launch(x_MK: torch.Tensor, *arguments: object) -> torch.Tensor:
        seen.append(arguments[-1])
        return x_MK.new_zeros(x_MK.shape[0], 64)

    kernel = replace(KERNELS["blockwise_gemm"], launch=launch)
    monkeypatch.setattr(block_dispatch, "KERNELS", {**KERNELS, "blockwise_gemm": kernel})

    y = block_matmul(torch.ones(5, 10, 256), weight)

    assert y.shape == (5, 10, 64)
    assert (seen[0].block_m, seen[0].block_n, seen[0].num_warps) == (32, 64, 2)


def test_the_kernel_of_a_bucket_is_looked_up_once_per_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, asked = block_weight(), []
    look_up = block_dispatch.blocks_served_by
    monkeypatch.setattr(block_dispatch, "blocks_served_by", lambda m, of: asked.append(m) or look_up(m, of))
    kernel = replace(KERNELS["blockwise"], launch=lambda x_MK, *_: x_MK.new_zeros(x_MK.shape[0], 64))
    monkeypatch.setattr(block_dispatch, "KERNELS", {**KERNELS, "blockwise": kernel})

    for m in (3, 4, 4, 5):
        block_matmul(torch.ones(m, 256), weight)

    assert asked == [4, 8]


def test_an_empty_batch_launches_nothing() -> None:
    assert block_matmul(torch.empty(2, 0, 256), block_weight()).shape == (2, 0, 64)


def test_every_kernel_of_the_route_is_a_candidate_for_few_tokens() -> None:
    assert set(block_kernels_for(8, block_weight())) == set(BLOCK_ROUTED)
    assert block_kernels_for(8, block_weight())[0] == "blockwise"


@pytest.mark.parametrize(
    ("x", "bias_N", "message"),
    [
        (torch.ones(3, 255), None, r"x has shape \(3, 255\) .* the weight takes \(…, 256\) in torch.float32"),
        (torch.ones(3, 256).half(), None, "is torch.float16 on cpu; the weight takes"),
        (torch.ones(()), None, r"x has shape \(\)"),
        (torch.ones(3, 256), torch.ones(63), r"bias \(63,\) in torch.float32 does not fit N = 64"),
        (torch.ones(3, 256), torch.ones(64).half(), "in torch.float16 does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(x: torch.Tensor, bias_N: torch.Tensor | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        block_matmul(x, block_weight(), bias_N)


def test_a_weight_with_an_adapter_is_refused() -> None:
    with pytest.raises(UsageError, match="would leave out; use a QLoRA kernel"):
        block_matmul(torch.ones(3, 256), block_weight(adapter=True))
