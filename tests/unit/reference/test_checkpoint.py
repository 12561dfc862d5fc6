"""What is saved comes back bit for bit; what is damaged, foreign or newer is refused by name."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lords_bench.errors import ModelError, StoreError
from lords_bench.quant import Codebook, QuantSpec
from lords_bench.reference import checkpoint, tensor_files
from lords_bench.reference.adapters import start_adapter
from lords_bench.reference.checkpoint import load_weights, save_weights
from lords_bench.reference.double_quant import double_quantize
from lords_bench.reference.packing import pack_codes, pack_stream
from lords_bench.reference.weights import AffineWeight, BlockwiseWeight, LordsWeight, QuantizedWeight

N, K = 6, 256
OWN_CODEBOOK = Codebook(name="mine", levels=(-1.0, -1 / 3, 0.1, 1.0))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codes(bits: int) -> torch.Tensor:
    return torch.randint(0, 1 << bits, (N, K), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))


def make_weights() -> dict[str, QuantizedWeight]:
    """One weight of every kind and every way of storing levels and scales."""
    return {
        "model.layers.0.q_proj": LordsWeight(
            spec=QuantSpec(method="lords", bits=3, rank=2, levels="learned"),
            shape=(N, K),
            packed=pack_codes(codes(3), 3),
            b_NR=random(N, 2).half(),
            a_RK=random(2, K).half(),
            levels_L=random(8).sort().values,
        ),
        "blocks": BlockwiseWeight(
            spec=QuantSpec(method="block-opt", bits=2, levels=OWN_CODEBOOK, scale_dtype="bfloat16"),
            shape=(N, K),
            packed=pack_codes(codes(2), 2),
            scale_NG=random(N, 4).bfloat16(),
            levels_L=torch.tensor(OWN_CODEBOOK.levels),
        ),
        "double": BlockwiseWeight(
            spec=QuantSpec(method="nf4", double_quant=True),
            shape=(N, K),
            packed=pack_codes(codes(4), 4),
            scale_NG=double_quantize(random(N, 4).abs()),
            levels_L=None,
        ),
        "affine": AffineWeight(
            spec=QuantSpec(method="int-rtn", bits=4),
            shape=(N, K),
            packed=pack_codes(codes(4), 4),
            scale_NG=random(N, 4).half(),
            packed_zeros=pack_stream(codes(4)[:, :4], 4),
        ),
    }


def test_saved_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    weights = make_weights()

    save_weights(weights, tmp_path / "weights.safetensors")
    loaded = load_weights(tmp_path / "weights.safetensors")

    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        assert (type(loaded[name]), loaded[name].spec) == (type(weight), weight.spec)
        assert loaded[name].bits_per_weight == weight.bits_per_weight
        assert torch.equal(loaded[name].dequantize(), weight.dequantize())
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(make_weights(), path)
    return path


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> None:
    """Save the file again with its tensors and its description of the weights changed."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    described = json.loads(metadata["weights"])
    change(tensors, described)
    save_file(tensors, path, metadata=metadata | {"weights": json.dumps(described)})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no checkpoint at .*absent\.safetensors"):
        load_weights(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kept_fraction", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, kept_fraction: float) -> None:
    path = saved(tmp_path)
    os.truncate(path, int(path.stat().st_size * kept_fraction))

    with pytest.raises(ModelError, match=r"weights\.safetensors is no whole safetensors file \(.+\); fetch it again"):
        load_weights(path)


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save({"a": torch.zeros(1)}, path)

    with pytest.raises(ModelError, match="is no whole safetensors file"):
        load_weights(path)


def test_the_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"format": "pt"})

    with pytest.raises(ModelError, match=r"has format 'pt', not 'lords-bench/checkpoint'"):
        load_weights(path)


def test_a_newer_major_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", "2.0")
        path = saved(tmp_path)

    with pytest.raises(ModelError, match=r"has checkpoint version '2\.0', this is 1\.0; update lords_bench"):
        load_weights(path)


def drop_tensor(tensors: dict[str, torch.Tensor], _described: dict[str, Any]) -> None:
    del tensors["affine.scale_NG"]


def add_tensor(tensors: dict[str, torch.Tensor], _described: dict[str, Any]) -> None:
    tensors["stray.packed"] = torch.zeros(1)


def change_dtype(tensors: dict[str, torch.Tensor], _described: dict[str, Any]) -> None:
    tensors["affine.scale_NG"] = tensors["affine.scale_NG"].float()


def change_shape(tensors: dict[str, torch.Tensor], _described: dict[str, Any]) -> None:
    tensors["double.mean"] = torch.zeros(2)


def poison(tensors: dict[str, torch.Tensor], _described: dict[str, Any]) -> None:
    tensors["model.layers.0.q_proj.b_NR"][0, 0] = float("inf")


def unknown_field(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["spec"]["colour"] = "red"


def unknown_method(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["spec"]["method"] = "magic"


def wrong_shape(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["shape"] = [N]


def negative_shape(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["shape"] = [-1, K]


def impossible_rank(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["model.layers.0.q_proj"]["spec"]["rank"] = 999


def impossible_block(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["spec"]["block"] = 7


def no_spec(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"] = "int-rtn"


def float_shape(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["shape"] = [N + 0.5, K]


def infinite_shape(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["shape"] = [float("inf"), K]


def enormous_shape(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["shape"] = [10**1000, K]


def list_for_a_method(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["affine"]["spec"]["method"] = ["int-rtn"]


def text_for_a_switch(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["double"]["spec"]["double_quant"] = "no"


def digits_for_levels(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["blocks"]["spec"]["levels"] = {"name": "mine", "levels": "01"}


def enormous_level(_tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["blocks"]["spec"]["levels"] = {"name": "mine", "levels": [0, 10**400]}


def other_levels(tensors: dict[str, torch.Tensor], _described: dict[str, Any]) -> None:
    tensors["blocks.levels_L"] = tensors["blocks.levels_L"] * 0.5


def shorter_codebook(tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> None:
    described["blocks"]["spec"]["levels"] = {"name": "mine", "levels": [-1.0, 0.0, 1.0]}
    tensors["blocks.levels_L"] = torch.tensor([-1.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_tensor, r"weight 'affine' of .* lacks tensor 'scale_NG'"),
        (add_tensor, r"holds 1 tensors of no weight, such as 'stray\.packed'"),
        (change_dtype, r"has 'scale_NG' as torch\.float32 \(6, 4\), not torch\.float16 \(6, 4\)"),
        (change_shape, r"has 'mean' as torch\.float32 \(2,\), not torch\.float32 \(1,\)"),
        (poison, r"weight 'model\.layers\.0\.q_proj' of .* has non-finite numbers in 'b_NR'"),
        (unknown_field, r"is described wrongly \(unknown 'colour'; known: .*; update lords_bench"),
        (unknown_method, r"is described wrongly \(unknown method 'magic'; known: nf4"),
        (wrong_shape, r"weight 'affine' of .* is described wrongly"),
        (negative_shape, r"weight 'affine' of .* is described wrongly \(shape \[-1, 256\]\)"),
        (impossible_rank, r"is described wrongly \(rank 999 is above min\(N, K\) = 6"),
        (impossible_block, r"has 'scale_NG' as torch\.float16 \(6, 4\), not torch\.float16 \(6, 37\)"),
        (no_spec, r"weight 'affine' of .* has no spec"),
        (float_shape, r"is described wrongly \(shape \[6\.5, 256\]\)"),
        (infinite_shape, r"is described wrongly \(shape \[inf, 256\]\)"),
        (enormous_shape, r"has 'packed' as torch.int16 \(6, 2, 2, 16\), not torch.int16 \(1000"),
        (list_for_a_method, r"unknown method \['int-rtn'\]"),
        (text_for_a_switch, r"double_quant='no' is not offered"),
        (digits_for_levels, r"is a malformed codebook; give its name and a list of numbers"),
        (enormous_level, r"codebook 'mine' has a level outside \[-1, 1\]"),
        (other_levels, r"stores other levels than its codebook 'mine' has"),
        (shorter_codebook, r"has code 3, codebook 'mine' ends earlier"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None], message: str
) -> None:
    path = saved(tmp_path)
    rewrite(path, change)

    with pytest.raises(ModelError, match=message) as caught:
        load_weights(path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("{", r"has a malformed list of weights \("),
        ("[]", r"has a malformed list of weights \(a JSON list where an object is due\)"),
        ('{"a":' * 100_000, r"has a malformed list of weights \(values nested too deeply\)"),
        ('{"a": 1' + "0" * 5000 + "}", r"has a malformed list of weights \("),
    ],
)
def test_a_malformed_list_of_weights_is_refused(tmp_path: Path, listing: str, message: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"format": checkpoint.FORMAT, "version": "1.0", "weights": listing})

    with pytest.raises(ModelError, match=message):
        load_weights(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def write_half_then_fail(_tensors: object, partial: Path, **_options: object) -> None:
        partial.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", write_half_then_fail)

    with pytest.raises(StoreError, match=r"cannot write .*weights\.safetensors': No space left on device; free some"):
        save_weights(make_weights(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*absent.weights\.safetensors"):
        save_weights(make_weights(), tmp_path / "absent" / "weights.safetensors")


def test_a_weight_with_an_additive_adapter_is_refused(tmp_path: Path) -> None:
    weight = start_adapter(torch.ones(4, 64), QuantSpec(method="nf4"), "qlora", rank=1)

    with pytest.raises(ModelError, match=r"weight 'a' has an adapter \(down_RK\); save its base here"):
        save_weights({"a": weight}, tmp_path / "weights.safetensors")
