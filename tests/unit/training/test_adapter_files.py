"""Adapter files that cannot be believed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lords_bench.errors import ModelError
from lords_bench.reference.tensor_files import written_numbers
from lords_bench.training import Adapter, LayerAdapter, load_adapter, save_adapter
from lords_bench.training.adapters import FORMAT

FACTORS = {"scale_b": torch.ones(4, 1), "scale_a": torch.ones(1, 4)}


def described(**changes: str) -> dict[str, str]:
    layers = {"0": {"base_sha256": "0" * 64, "scaling": 1.0}}
    return {"format": FORMAT, "version": "1.0", "layers": json.dumps(layers)} | changes


GOOD_TENSORS = {"0.scale_b": torch.ones(4, 1), "0.scale_a": torch.ones(1, 4)}

BROKEN: dict[str, tuple[Callable[[], tuple[dict[str, Tensor], dict[str, str]]], str]] = {
    "format": (lambda: (GOOD_TENSORS, described(format="other")), "has format 'other'"),
    "version": (lambda: (GOOD_TENSORS, described(version="2.0")), "adapter version '2.0', this is 1.0"),
    "malformed": (lambda: (GOOD_TENSORS, described(layers="{")), "malformed list of layers"),
    "list": (
        lambda: (GOOD_TENSORS, described(layers="[]")),
        r"malformed list of layers \(a JSON list where an object is due\)",
    ),
    "nested": (
        lambda: (GOOD_TENSORS, described(layers='{"0":' * 100_000)),
        r"malformed list of layers \(values nested too deeply\)",
    ),
    "other dtype": (
        lambda: ({**GOOD_TENSORS, "0.scale_b": torch.ones(4, 1).half()}, described() | written_numbers(GOOD_TENSORS)),
        r"has 4 numbers of torch.float16, written were 0",
    ),
    "no number": (
        lambda: (GOOD_TENSORS, described(layers='{"0": {"base_sha256": "", "scaling": NaN}}')),
        "has scaling nan for layer '0'",
    ),
    "beyond a float": (
        lambda: (GOOD_TENSORS, described(layers='{"0": {"base_sha256": "", "scaling": 1' + "0" * 400 + "}}")),
        "has scaling 1000",
    ),
    "no hash": (lambda: (GOOD_TENSORS, described(layers='{"0": {}}')), "does not say which codes layer '0'"),
    "scaling": (
        lambda: (GOOD_TENSORS, described(layers='{"0": {"base_sha256": "", "scaling": "x"}}')),
        "has scaling 'x' for layer '0'",
    ),
    "undescribed": (lambda: (GOOD_TENSORS, described(layers="{}")), "does not describe its layer '0'"),
    "no tensors": (lambda: ({}, described()), "lacks the tensors of layer '0'"),
    "not finite": (
        lambda: ({**GOOD_TENSORS, "0.scale_a": torch.full((1, 4), torch.nan)}, described()),
        "non-finite numbers in '0.scale_a'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adapter_file_is_refused(name: str, tmp_path: Path) -> None:
    make, message = BROKEN[name]
    tensors, metadata = make()
    save_file(tensors, tmp_path / "adapter.safetensors", metadata=metadata)

    with pytest.raises(ModelError, match=message):
        load_adapter(tmp_path / "adapter.safetensors")


def test_a_missing_and_a_truncated_adapter_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    with pytest.raises(ModelError, match="no adapter at"):
        load_adapter(path)
    save_adapter(Adapter(layers={"0": LayerAdapter(tensors=FACTORS, base_sha256="", scaling=1.0)}), path)
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(ModelError, match="no whole safetensors file"):
        load_adapter(path)
