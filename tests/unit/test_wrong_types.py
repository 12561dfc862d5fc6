"""What a caller of the Python interface can mix up is refused in one line that names it, not deep inside."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lords_bench.errors import ModelError, SpecError, UsageError
from lords_bench.products import ops
from lords_bench.quant import QuantSpec
from lords_bench.records.lines import store_error
from lords_bench.reference.checkpoint import load_weights, save_weights
from lords_bench.reference.methods import quantize
from lords_bench.training import prepare_peft, prepare_qat

WEIGHT_NK = torch.linspace(-1, 1, 64 * 64).view(64, 64)


@pytest.mark.parametrize("spec", ["nf4", {"method": "nf4"}])
def test_a_spec_that_is_none_is_refused(spec: Any) -> None:
    for call in (
        lambda: quantize(WEIGHT_NK, spec),
        lambda: prepare_qat(nn.Linear(64, 64), spec),
        lambda: prepare_peft(nn.Linear(64, 64), "lords", spec),
    ):
        with pytest.raises(SpecError, match="not a QuantSpec; give one, such as QuantSpec"):
            call()


def test_bits_that_only_equal_a_whole_number_are_refused() -> None:
    bits: Any = 4.0

    with pytest.raises(SpecError, match=r"bits=4.0 is not offered; choose one of 4, 3, 2"):
        QuantSpec(method="lords", bits=bits)


def test_what_is_no_module_is_refused() -> None:
    model: Any = WEIGHT_NK

    with pytest.raises(UsageError, match=r"model is a Tensor; give an nn.Module"):
        prepare_qat(model)


def test_a_product_with_what_is_no_lords_weight_is_refused() -> None:
    blocks: Any = quantize(WEIGHT_NK, QuantSpec(method="nf4"))

    with pytest.raises(UsageError, match="weight is a BlockwiseWeight; LoRDS products take a LordsWeight"):
        ops.lords_matmul(torch.ones(2, 64), blocks)


def test_saving_what_is_no_quantized_weight_is_refused(tmp_path: Path) -> None:
    weights: Any = {"a": WEIGHT_NK}

    with pytest.raises(ModelError, match="weight 'a' is a Tensor; give what quantize or export returned"):
        save_weights(weights, tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    path = str(tmp_path / "w.safetensors")

    save_weights({"a": quantize(WEIGHT_NK, QuantSpec(method="nf4"))}, path)

    assert list(load_weights(path)) == ["a"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space and start again, completed cases are kept, or give another --out"),
        (errno.ENOTDIR, "Not a directory; give another --out"),
        (errno.EACCES, "Permission denied; give another --out"),
    ],
)
def test_only_a_full_disk_is_told_to_free_space(number: int, remedy: str) -> None:
    message = str(store_error("write", Path("a"), OSError(number, os.strerror(number))))

    assert message.startswith("cannot write 'a': ")
    assert message.endswith(remedy)
    assert ("space" in message) == (number == errno.ENOSPC)
