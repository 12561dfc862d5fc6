"""The route: a tuned table decides where it holds, the formula elsewhere; a call asks neither files nor devices."""

import builtins
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lords_bench import route
from lords_bench.blockwise_product import block_matmul
from lords_bench.errors import UsageError
from lords_bench.kernel_check import make_case, prepared_for
from lords_bench.kernel_registry import KERNELS, PreparedBlockwise
from lords_bench.kernel_registry.kernel import kernel_module
from lords_bench.ops import lords_matmul
from lords_bench.prepared import PreparedWeight, prepare
from lords_bench.records.tuned import M_BUCKETS, ROUTE, Choice, TunedEntry
from lords_bench.route import ROUTES, Weight, check_capability, kernels_for, launcher, served_by
from lords_bench.tuning.keys import key_of, problem_of, routed
from lords_bench.tuning.lookup import Entries
from tuned_builders import MACHINE, make_entry

CUDA_QUERIES = ("get_device_properties", "get_device_name", "get_device_capability", "current_device", "is_available")

# Everything that reads a file or resolves a launch.
READERS = (
    (builtins, "open"),
    (Path, "read_bytes"),
    (Path, "glob"),
    (route, "active_entries"),
    (route, "machine_of"),
    (route, "served_by"),
)


def kernel_weight(n: int = 64, k: int = 256, rank: int = 16) -> PreparedWeight:
    """Prepared for kernels, through the portable decoder."""
    case = make_case(1, n, k, bits=4, rank=rank, dtype=torch.float32, device=torch.device("cpu"))
    return prepare(case, torch.float32, decoder="table")


def block_weight(*, has_zero: bool = False, adapter: bool = False) -> PreparedBlockwise:
    """Prepared for kernels, through the portable decoder."""
    case = make_case(1, 64, 256, bits=4, rank=8, dtype=torch.float32, device=torch.device("cpu"), seed=int(has_zero))
    weight: PreparedBlockwise = prepared_for(KERNELS["qlora_fused" if adapter else "blockwise"], case, "table")
    return weight


def entry_for(m: int, weight: Weight, choice: Choice, kernel: str = ROUTE) -> TunedEntry:
    default = Choice(kernel=kernel if kernel != ROUTE else "scale_tile")
    return make_entry(key=key_of(kernel, problem_of(m, weight), MACHINE), choice=choice, default=default)


@pytest.fixture(autouse=True)
def _no_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "launch_table", {})


def use_tables(monkeypatch: pytest.MonkeyPatch, *entries: TunedEntry, driver: str = "570.1") -> None:
    """Let `entries` be the tables and a GPU be the machine."""
    found = Entries(entries)
    monkeypatch.setattr(route, "active_entries", lambda: found)
    monkeypatch.setattr(route, "machine_of", lambda _device: replace(MACHINE, driver=driver))


@pytest.mark.parametrize(("kind", "last"), [("lords", "reference"), ("blockwise", "blockwise_dequantize_matmul")])
def test_routes_cover_every_number_of_tokens_and_end_in_what_takes_all(kind: str, last: str) -> None:
    limits = [route.max_m for route in ROUTES[kind]]

    assert limits[-1] is None
    assert limits[:-1] == sorted(limit for limit in limits if limit is not None)
    assert set(limits[:-1]) <= set(M_BUCKETS)
    assert all(route.kernels[-1] == last for route in ROUTES[kind])


@pytest.mark.parametrize(
    ("m", "kernel"),
    [(1, "rank_expanded"), (2, "scale_tile"), (32, "scale_tile"), (33, "scale_tile_gemm"), (5000, "dequantize_matmul")],
)
def test_the_formula_serves_where_nothing_was_tuned(m: int, kernel: str) -> None:
    found = served_by(m, kernel_weight())

    assert (found.choice, found.origin) == (Choice(kernel=kernel), "formula")


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
def test_the_formula_serves_blocks_where_nothing_was_tuned(m: int, kernel: str) -> None:
    found = served_by(m, block_weight())

    assert (found.choice, found.origin) == (Choice(kernel=kernel), "formula")


@pytest.mark.parametrize(("rank", "kernel"), [(5, "rank_expanded"), (16, "rank_expanded"), (17, "scale_tile")])
def test_one_token_leaves_a_kernel_that_lacks_registers_above_rank_16(rank: int, kernel: str) -> None:
    assert served_by(1, kernel_weight(rank=rank)).choice == Choice(kernel=kernel)


@pytest.mark.parametrize(("m", "kernel"), [(1, "scale_tile"), (64, "scale_tile_gemm"), (5000, "dequantize_matmul")])
def test_a_rank_of_a_70b_layer_is_served_by_kernels(m: int, kernel: str) -> None:
    assert served_by(m, kernel_weight(rank=99)).choice == Choice(kernel=kernel)


def test_a_rank_that_no_kernel_takes_is_served_by_the_reference_with_its_reason() -> None:
    weight = kernel_weight(rank=129)

    assert served_by(1, weight).choice == Choice(kernel="reference")
    assert "rank above 128" in KERNELS["dequantize_matmul"].supports(1, weight, torch.float32).reason


@pytest.mark.parametrize(
    ("arch", "m", "kernel"),
    [("gfx1100", 8, "scale_tile"), ("gfx1100", 9, "scale_tile_gemm"), ("gfx1100", 32, "scale_tile_gemm"),
     ("gfx942", 32, "scale_tile")],
)  # fmt: skip
def test_the_formula_leaves_a_kernel_that_spills_on_rdna(
    monkeypatch: pytest.MonkeyPatch, arch: str, m: int, kernel: str
) -> None:
    gpu = kernel_module("common.gpu").Gpu(arch=arch, sm_count=96)
    monkeypatch.setattr(kernel_module("common.gpu"), "gpu_of", lambda _device: gpu)

    assert served_by(m, kernel_weight()).choice == Choice(kernel=kernel)


def test_the_formula_leaves_a_kernel_that_spills_at_3_bits_on_rdna(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = kernel_module("common.gpu").Gpu(arch="gfx1100", sm_count=96)
    monkeypatch.setattr(kernel_module("common.gpu"), "gpu_of", lambda _device: gpu)

    assert served_by(8, replace(kernel_weight(), bits=3)).choice == Choice(kernel="scale_tile_gemm")


def test_a_tuned_route_moves_the_switch_point_between_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = kernel_weight()
    use_tables(monkeypatch, entry_for(64, weight, Choice(kernel="dequantize_matmul")))

    assert served_by(33, weight).choice.kernel == "dequantize_matmul"
    assert served_by(32, weight).choice.kernel == "scale_tile"
    assert served_by(65, weight).choice.kernel == "scale_tile_gemm"


def test_a_tuned_configuration_reaches_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = kernel_weight()
    choice = Choice(kernel="scale_tile", settings=(("block_n", 128), ("num_warps", 4)))
    use_tables(monkeypatch, entry_for(8, weight, choice, kernel="scale_tile"))
    seen = []
    kernel = replace(route.KERNELS["scale_tile"], launch=lambda *arguments: seen.append(arguments[3]))
    monkeypatch.setattr(route, "KERNELS", {**route.KERNELS, "scale_tile": kernel})

    launcher(8, weight)(torch.ones(8, 256), weight, None)

    assert (seen[0].block_n, seen[0].num_warps) == (128, 4)


def test_a_route_to_a_kernel_that_does_not_take_the_weight_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = kernel_weight()
    trained = weight.with_factors(weight.b_NR, weight.a_RK)
    use_tables(monkeypatch, entry_for(1, weight, Choice(kernel="rank_expanded")))

    assert served_by(1, weight).origin == "exact"
    assert served_by(1, trained).choice == Choice(kernel="scale_tile")


def test_the_last_bucket_serves_any_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = kernel_weight()
    use_tables(monkeypatch, entry_for(4096, weight, Choice(kernel="scale_tile", settings=(("block_n", 128),))))

    # scale_tile takes 64 tokens at most, so a row that names it for 4096 and more cannot serve.
    assert served_by(100_000, weight).choice.kernel == "dequantize_matmul"


def test_settings_that_the_kernel_does_not_know_are_said_and_the_formula_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = kernel_weight()
    choice = Choice(kernel="scale_tile", settings=(("colour", 1),))
    use_tables(monkeypatch, entry_for(8, weight, choice, kernel="scale_tile"))

    with pytest.warns(UserWarning, match="a tuned entry is not used: settings do not fit scale_tile"):
        launcher(8, weight)


def test_a_nearest_entry_is_said_once_for_a_shape_and_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = kernel_weight()
    use_tables(monkeypatch, entry_for(8, weight, Choice(kernel="dequantize_matmul")), driver="575.2")

    with pytest.warns(UserWarning, match=r"similar problem \(driver 570.1 → 575.2\); `lords-bench tune` measures"):
        launcher(8, weight)

    # Warnings are errors in tests: neither another weight of the shape nor another M of the bucket says it again.
    launcher(5, kernel_weight())


def test_a_call_reads_no_file_and_asks_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = kernel_weight()
    use_tables(monkeypatch, entry_for(8, weight, Choice(kernel="reference")))

    def answer(x_MK: Tensor, weight: PreparedWeight, _bias_N: Tensor | None) -> Tensor:
        return x_MK.new_zeros(x_MK.shape[0], weight.n)

    monkeypatch.setattr(route, "bound_launch", lambda _choice: answer)
    with pytest.warns(UserWarning, match="plain PyTorch"):
        lords_matmul(torch.ones(8, 256), weight)
    lords_matmul(torch.ones(1, 256), weight)

    def forbidden(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a call must not come here")

    for name in CUDA_QUERIES:
        monkeypatch.setattr(torch.cuda, name, forbidden)
    for owner, name in READERS:
        monkeypatch.setattr(owner, name, forbidden)

    for m in (8, 5, 1):
        assert lords_matmul(torch.ones(m, 256), weight).shape == (m, 64)
    assert lords_matmul(torch.ones(8, 256), kernel_weight()).shape == (8, 64)


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_a_gpu_older_than_the_kernels_is_refused_with_the_fallback(capability: tuple[int, int]) -> None:
    name = "".join(map(str, capability))

    with pytest.raises(UsageError, match=rf"Old \(sm_{name}\) is older than sm_80.*; use x @ weight.dequantize\(\).T"):
        check_capability("Old", capability)
    check_capability("A100", (8, 0))


def test_a_tuned_route_moves_the_switch_point_to_dequantized_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = block_weight()
    use_tables(monkeypatch, entry_for(128, weight, Choice(kernel="blockwise_dequantize_matmul")))

    assert served_by(100, weight).choice.kernel == "blockwise_dequantize_matmul"
    assert served_by(64, weight).choice.kernel == "blockwise_gemm"
    assert served_by(129, weight).choice.kernel == "blockwise_gemm"
    assert served_by(100, block_weight(has_zero=True)).choice.kernel == "blockwise_gemm"


def test_a_route_to_a_kernel_that_does_not_take_so_many_tokens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = block_weight()
    use_tables(monkeypatch, entry_for(4096, weight, Choice(kernel="blockwise")))

    assert served_by(100_000, weight).choice.kernel == "blockwise_dequantize_matmul"


def test_a_tuned_configuration_of_blocks_reaches_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = block_weight()
    choice = Choice(kernel="blockwise_gemm", settings=(("block_m", 32), ("block_n", 64), ("num_warps", 2)))
    use_tables(monkeypatch, entry_for(64, weight, choice))
    seen = []

    def launch(x_MK: torch.Tensor, *arguments: object) -> torch.Tensor:
        seen.append(arguments[-1])
        return x_MK.new_zeros(x_MK.shape[0], 64)

    kernel = replace(KERNELS["blockwise_gemm"], launch=launch)
    monkeypatch.setattr(route, "KERNELS", {**KERNELS, "blockwise_gemm": kernel})

    y = block_matmul(torch.ones(5, 10, 256), weight)

    assert y.shape == (5, 10, 64)
    assert (seen[0].block_m, seen[0].block_n, seen[0].num_warps) == (32, 64, 2)


def test_the_kernel_of_a_bucket_is_looked_up_once_per_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, asked = block_weight(), []
    look_up = route.served_by
    monkeypatch.setattr(route, "served_by", lambda m, of: asked.append(m) or look_up(m, of))
    kernel = replace(KERNELS["blockwise"], launch=lambda x_MK, *_: x_MK.new_zeros(x_MK.shape[0], 64))
    monkeypatch.setattr(route, "KERNELS", {**KERNELS, "blockwise": kernel})

    for m in (3, 4, 4, 5):
        block_matmul(torch.ones(m, 256), weight)

    assert asked == [4, 8]


def test_an_empty_batch_launches_nothing() -> None:
    assert block_matmul(torch.empty(2, 0, 256), block_weight()).shape == (2, 0, 64)


def test_every_kernel_of_the_route_is_a_candidate_for_few_tokens() -> None:
    assert set(kernels_for(8, block_weight())) == set(routed("blockwise"))
    assert kernels_for(8, block_weight())[0] == "blockwise"


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
