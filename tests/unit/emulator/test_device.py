"""Plain Triton kernels compile for a GPU that is not there, give right results, and are refused as it would refuse."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lords_bench.emulator import EmulatedDevice, FaultKind, emulated
from lords_bench.emulator.counters import InstructionClass
from lords_bench.emulator.target import EMULATED_GPUS, threads_that_fit
from lords_bench.errors import UsageError
from lords_bench.static.target import TARGETS as TARGETS_OF_THE_GATE

triton = pytest.importorskip("triton")

import plain_kernels as plain  # noqa: E402  (needs Triton)

TARGETS = ("sm_80", "sm_90", "sm_120")


@pytest.fixture(params=TARGETS)
def device(request: pytest.FixtureRequest) -> Iterator[EmulatedDevice]:
    with emulated(request.param) as found:
        yield found


@pytest.fixture
def hopper() -> Iterator[EmulatedDevice]:
    with emulated("sm_90") as found:
        yield found


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def test_elements_are_computed_in_place(device: EmulatedDevice) -> None:
    x, y = randn(1000), torch.zeros(1000)

    plain.scale_and_shift[(4,)](x, y, 1000, 2.5, BLOCK=256)

    (launch,) = device.launches
    torch.testing.assert_close(y, 2.5 * x + 1, rtol=1e-6, atol=1e-6)
    assert (launch.kernel, launch.grid, launch.faults) == ("scale_and_shift", (4, 1, 1), ())
    assert launch.target.removesuffix("a") == device.gpu.name


def test_a_row_is_reduced_across_warps(device: EmulatedDevice) -> None:
    x, y = randn(5, 300), torch.zeros(5, 300)

    plain.softmax_rows[(5,)](x, y, 300, BLOCK=512, num_warps=8)

    torch.testing.assert_close(y, x.softmax(1), rtol=1e-5, atol=1e-7)
    assert device.launches[0].faults == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("stages", [1, 3])
def test_a_product_runs_on_tensor_cores(device: EmulatedDevice, dtype: torch.dtype, stages: int) -> None:
    x, w, y = randn(70, 90, dtype=dtype), randn(90, 100, dtype=dtype), torch.zeros(70, 100)

    plain.multiply[(2, 2)](x, w, y, 70, 100, 90, M=64, N=64, K=32, num_warps=4, num_stages=stages)

    (launch,) = device.launches
    torch.testing.assert_close(y.double(), x.double() @ w.double(), rtol=1e-5, atol=1e-4)
    assert launch.faults == ()
    assert launch.counts.warp_instructions[InstructionClass.TENSOR] > 0


def test_a_matrix_is_transposed_through_shared_memory(device: EmulatedDevice) -> None:
    x, y = randn(64, 64), torch.zeros(64, 64)

    plain.transpose[(1,)](x, y, N=64)

    assert torch.equal(y, x.T)
    assert device.launches[0].faults == ()
    assert device.launches[0].counts.shared_accesses


def test_atomics_of_all_ctas_add_up(hopper: EmulatedDevice) -> None:
    x, counts = torch.arange(512) % 7, torch.zeros(7, dtype=torch.int32)

    plain.count_values[(4,)](x, counts, BLOCK=128)

    assert counts.tolist() == torch.bincount(x).tolist()
    assert hopper.launches[0].faults == ()


def test_a_missing_mask_is_found_with_its_line(
    hopper: EmulatedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Triton's cache knows a kernel by its text, and keeps the lines that it was first compiled at.
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    x, y = randn(1000), torch.zeros(1000)

    plain.scale_beyond_the_end[(4,)](x, y, 1000, BLOCK=256)

    faults = hopper.launches[0].faults
    line = next(
        i for i, text in enumerate(Path(plain.__file__).read_text().splitlines(), 1) if "x_ptr + places), mask" in text
    )
    assert {fault.kind for fault in faults} == {FaultKind.GLOBAL_BOUNDS}
    assert sum(fault.accesses for fault in faults) >= 1
    # Triton's own line numbers of loads that it splits count up by one each.
    assert all(fault.source.startswith("plain_kernels.py:") for fault in faults)
    assert all(0 <= int(fault.source.split(":")[1]) - line <= 3 for fault in faults)


def test_an_empty_grid_launches_nothing(hopper: EmulatedDevice) -> None:
    plain.scale_and_shift[(0,)](torch.zeros(4), torch.zeros(4), 4, 1.0, BLOCK=16)

    assert hopper.launches == []


def test_more_shared_memory_than_the_target_has_is_refused() -> None:
    x, w, y = randn(16, 256, dtype=torch.float16), randn(256, 256, dtype=torch.float16), torch.zeros(16, 256)
    options = {"M": 64, "N": 256, "K": 128, "num_warps": 8, "num_stages": 3}

    with emulated("sm_120"), pytest.raises(triton.runtime.errors.OutOfResources, match="shared memory"):
        plain.multiply[(1, 1)](x, w, y, 16, 256, 256, **options)


def test_more_registers_than_the_target_has_are_refused(hopper: EmulatedDevice) -> None:
    x = torch.zeros(1024)

    with pytest.raises(triton.runtime.errors.OutOfResources, match="threads"):
        plain.scale_and_shift[(1,)](x, x, 1024, 1.0, BLOCK=1024, num_warps=16, maxnreg=168)

    assert hopper.launches == []
    assert [threads_that_fit(registers) for registers in (None, 64, 65, 168, 255)] == [1024, 1024, 896, 384, 256]


def test_a_product_smaller_than_the_tensor_core_takes_is_refused(hopper: EmulatedDevice) -> None:
    x = torch.zeros(64, 64, dtype=torch.float16)

    with pytest.raises(triton.compiler.errors.CompilationError):
        plain.multiply[(1, 1)](x, x, torch.zeros(64, 64), 64, 64, 64, M=64, N=64, K=8)

    assert hopper.launches == []


def test_tensor_memory_is_named_as_missing() -> None:
    with (
        pytest.raises(UsageError, match=r"unknown emulated device 'sm_100'; known: emulated-sm_80.*tcgen05"),
        emulated("sm_100"),
    ):
        pass


def test_the_order_of_ctas_does_not_matter_and_can_be_shuffled() -> None:
    x = randn(1000)
    results = []
    for options in ({}, {"shuffle": 3}, {"batch_threads": 128}):
        y = torch.zeros(1000)
        with emulated("sm_80", **options) as found:
            plain.scale_and_shift[(8,)](x, y, 1000, 2.5, BLOCK=128)
        assert found.launches[0].faults == ()
        results.append(y)

    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_outside_of_the_context_nothing_is_emulated(hopper: EmulatedDevice) -> None:
    from triton.runtime import driver

    with emulated("sm_80") as inner:
        assert driver.active is inner
    assert driver.active is hopper


def test_the_limits_are_those_of_the_static_gate() -> None:
    assert {name: gpu.max_shared_bytes for name, gpu in EMULATED_GPUS.items()} == {
        name: TARGETS_OF_THE_GATE[name].max_shared_bytes for name in EMULATED_GPUS
    }
