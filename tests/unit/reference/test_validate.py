"""Every weight that cannot be quantized is refused in one line, with the offending value and the remedy."""

import numpy as np
import pytest
import torch

from lords_bench.errors import WeightError
from lords_bench.reference.validate import check_input_weight, check_weight


def weight_with(value: float) -> torch.Tensor:
    weight_NK = torch.zeros(2, 4)
    weight_NK[1, 2] = weight_NK[1, 3] = value
    return weight_NK


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.zeros(4), r"weight has shape \(4,\); give two dimensions"),
        (torch.zeros(2, 2, 2), r"weight has shape \(2, 2, 2\); give two dimensions"),
        (torch.zeros(0, 4), r"weight of shape \(0, 4\) is empty"),
        (torch.zeros(2, 4, dtype=torch.int8), r"weight has dtype int8; convert it to one of float16, bfloat16"),
        (torch.zeros(2, 4, dtype=torch.complex64), r"weight has dtype complex64"),
        (torch.zeros(2, 4, dtype=torch.float8_e4m3fn), r"weight has dtype float8_e4m3fn"),
        (torch.zeros(2, 4, device="meta"), r"weight is on the meta device; give a dense tensor with data"),
        (torch.zeros(2, 4).to_sparse(), r"weight is in torch.sparse_coo layout; give a dense tensor"),
        (weight_with(float("nan")), r"weight has 2 non-finite values, the first nan at \[1, 2\]"),
        (weight_with(float("-inf")), r"weight has 2 non-finite values, the first -inf at \[1, 2\]"),
        (np.zeros((2, 4)), r"weight is a ndarray; give a torch tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_impossible_weight_is_refused(weight: torch.Tensor, message: str) -> None:
    with pytest.raises(WeightError, match=message) as caught:
        check_weight(weight)

    assert "\n" not in str(caught.value)


def test_a_parameter_comes_back_detached_and_unchanged() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 4))

    weight_NK = check_weight(parameter)

    assert not weight_NK.requires_grad
    assert torch.equal(weight_NK, parameter)


@pytest.mark.parametrize(
    ("input_weight", "message"),
    [
        (torch.ones(3), r"input_weight_K has shape \(3,\); give one number per in feature \(4\)"),
        (torch.ones(4, dtype=torch.int64), r"input_weight_K has dtype int64; convert it to float32"),
        (torch.tensor([1.0, 2.0, -0.5, 1.0]), r"input_weight_K goes from -0\.5 to 2\.0; give finite numbers"),
        (torch.tensor([1.0, float("inf"), 0.0, 1.0]), r"input_weight_K goes from 0\.0 to inf; give finite"),
        (torch.zeros(4), r"input_weight_K is all zero; leave it out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_input_weights_are_refused(input_weight: torch.Tensor, message: str) -> None:
    with pytest.raises(WeightError, match=message):
        check_input_weight(input_weight, 4)


def test_input_weights_are_scaled_to_a_mean_of_one() -> None:
    assert check_input_weight(torch.tensor([1e30, 3e30]), 2).tolist() == pytest.approx([0.5, 1.5])
