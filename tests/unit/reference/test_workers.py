"""A weight is quantized to the same bits on any number of threads."""

import pytest
import torch

from lords_bench.quant import QuantSpec
from lords_bench.reference.methods import quantize

SIZE = 512


def structured_weight() -> torch.Tensor:
    """Rows and columns of different size: what makes the singular values differ."""
    generator = torch.Generator().manual_seed(0)
    rows_N1 = torch.exp(0.5 * torch.randn(SIZE, 1, generator=generator))
    columns_1K = torch.exp(0.5 * torch.randn(1, SIZE, generator=generator))
    return 0.02 * rows_N1 * columns_1K * torch.randn(SIZE, SIZE, generator=generator)


def hessian() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x_MK = torch.randn(2 * SIZE, SIZE, generator=generator)
    return x_MK.t() @ x_MK / x_MK.shape[0]


@pytest.mark.parametrize("method", ["lords-paper", "lords-gptq"])
def test_the_number_of_threads_does_not_change_a_bit(method: str) -> None:
    spec = QuantSpec(method=method, bits=3, block=64)
    hessian_KK = hessian() if spec.needs_hessian else None
    threads = torch.get_num_threads()
    dequantized: list[torch.Tensor] = []

    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            dequantized.append(quantize(structured_weight(), spec, hessian_KK=hessian_KK).dequantize())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(*dequantized)
