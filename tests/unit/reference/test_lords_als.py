"""The alternating least squares: what stays put, and what does not depend on how it is run."""

import torch

from lords_bench.reference.als import refit_a, refit_b
from lords_bench.reference.workers import PanelWorkers


def problem(n: int = 30, k: int = 50, rank: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(n, k, generator=generator)
    values = torch.rand(n, k, generator=generator) * 2 - 1
    return weight, values, torch.randn(n, rank, generator=generator), torch.randn(rank, k, generator=generator)


def test_a_direction_the_data_leaves_open_keeps_its_value() -> None:
    weight, values, b, a = problem()
    a[1] = 0.0

    fitted = refit_b(weight, values, a, b_NR=b)

    torch.testing.assert_close(fitted[:, 1], b[:, 1])
    assert not torch.allclose(fitted[:, 0], b[:, 0])


def test_inputs_of_zero_weight_do_not_count() -> None:
    weight, values, b, a = problem()
    h = torch.ones(weight.shape[1])
    h[10:] = 0.0

    with_all_inputs = refit_b(weight, values, a, b_NR=b, input_weight_K=h)
    with_ten_inputs = refit_b(weight[:, :10], values[:, :10], a[:, :10], b_NR=b)

    torch.testing.assert_close(with_all_inputs, with_ten_inputs, rtol=1e-4, atol=1e-5)


def test_a_column_refit_is_the_row_refit_of_the_transpose() -> None:
    weight, values, b, a = problem()

    fitted = refit_a(weight, values, b, a_RK=a)

    torch.testing.assert_close(fitted.T, refit_b(weight.T, values.T, b.T, b_NR=a.T))


def test_the_arithmetic_is_float64_for_a_float64_weight_and_float32_for_bfloat16() -> None:
    weight, values, b, a = problem()

    assert refit_b(weight.double(), values.double(), a, b_NR=b).dtype == torch.float64
    assert refit_b(weight.bfloat16(), values.bfloat16(), a, b_NR=b).dtype == torch.float32


def test_threads_do_not_change_a_bit() -> None:
    weight, values, b, a = problem(n=600, k=512, rank=4)

    alone = refit_b(weight, values, a, b_NR=b)
    threads = torch.get_num_threads()
    with PanelWorkers(weight.device) as workers:
        shared = refit_b(weight, values, a, b_NR=b, workers=workers)

    assert torch.equal(alone, shared)
    assert torch.get_num_threads() == threads
