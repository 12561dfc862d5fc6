"""Whatever a folder's JSON and headers say, it loads to the same numbers or is refused in one line, at little cost."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM

import lords_bench
from folder_mutations import Mutation, mutated, mutations, rewrite
from lords_bench import json_object
from lords_bench.cli import main
from lords_bench.errors import MESSAGE_CHARACTERS, LordsBenchError, ModelError
from lords_bench.integrations import hf_quantizer, stored_files
from lords_bench.integrations.hf_model import load_causal_model, quiet_transformers
from lords_bench.integrations.quantized_folder import load_any_model, save_quantized_folder
from lords_bench.integrations.stored_files import CONFIG_FILE, INDEX_FILE, MODEL_FILE
from lords_bench.quant import QuantSpec
from lords_bench.reference.tensor_files import read_tensors, write_tensors
from lords_bench.suites.accuracy.layers import quantize_layer
from tiny_models import save_tiny_llama

LAYER = "model.layers.0.mlp.up_proj"
EMBEDDING = "model.embed_tokens.weight"
Load = Callable[[Path], Any]


def by_transformers(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def by_command(folder: Path) -> Any:
    return load_any_model(str(folder))[0].model


LOADERS: dict[str, Load] = {
    "transformers": by_transformers,
    "from_pretrained": lords_bench.from_pretrained,
    "command": by_command,
}


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    hf_quantizer.register()
    with quiet_transformers():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, as the command writes it; a test that changes it takes a copy."""
    root = tmp_path_factory.mktemp("folders")
    model = load_causal_model(str(save_tiny_llama(root / "dense", hidden=32)))
    weights = {layer.name: quantize_layer(layer, QuantSpec(bits=3, block=32)) for layer in model.layers}
    save_quantized_folder(model, weights, root / "quantized")
    return root / "quantized"


@pytest.fixture(scope="module")
def parts(folder: Path) -> Path:
    """The same in parts, with an index."""
    with quiet_transformers():
        lords_bench.from_pretrained(folder).save_pretrained(folder.with_name("parts"), max_shard_size="30KB")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, folder.with_name("parts"))
    return folder.with_name("parts")


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, dict[str, Tensor]]:
    """What each way of loading makes of the folder when nothing is wrong with it."""
    with quiet_transformers():
        return {name: tensors_of(load(folder)) for name, load in LOADERS.items()}


def tensors_of(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model: Any, expected: dict[str, Tensor]) -> bool:
    found = tensors_of(model)
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def verdict(load: Load, folder: Path, expected: dict[str, Tensor]) -> str:
    """What became of a load: `same`, `refused`, or what is wrong with it."""
    try:
        model = load(folder)
    except LordsBenchError as error:
        line = str(error)
        return "refused" if line.isprintable() and len(line) <= MESSAGE_CHARACTERS else f"no line: {line!r}"
    except Exception as error:  # noqa: BLE001  (which exceptions there are is the question)
        # Before it asks the plug-in, transformers reads config.json and fails there as it will.
        is_foreign = load is by_transformers and not any(map(is_ours, frames_of(error)))
        return "refused" if is_foreign else f"a traceback: {error!r}"
    return "same" if same(model, expected) else "other numbers"


def is_ours(frame: str) -> bool:
    """The environment may lie in a folder of the project's name."""
    return "/lords_bench/" in frame and "site-packages" not in frame


def frames_of(error: BaseException) -> Iterator[str]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


def faults(damaged: Path, whole: dict[str, dict[str, Tensor]]) -> dict[str, str]:
    """By way of loading, what is neither the same numbers nor a refusal in one line."""
    found = {name: verdict(load, damaged, whole[name]) for name, load in LOADERS.items()}
    return {name: outcome for name, outcome in found.items() if outcome not in {"same", "refused"}}


def copy_of(folder: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    return target


@given(data=st.data())
@pytest.mark.parametrize("file", [CONFIG_FILE, MODEL_FILE])
def test_a_field_that_is_wrong_changes_no_number_and_makes_no_traceback(
    file: str, folder: Path, whole: dict[str, dict[str, Tensor]], data: st.DataObject
) -> None:
    mutation = data.draw(st.sampled_from(mutations(folder, file)))

    damaged = mutated(folder, mutation, folder.with_name("damaged"))

    assert faults(damaged, whole) == {}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *[(("quantization_config",), kind) for kind in ("missing", "null", "list", "text")],
        *[(("quantization_config", "layer_specs"), kind) for kind in ("list", "text", "minus one")],
        *[(("quantization_config", "modules_to_not_convert"), kind) for kind in ("object", "text", "list", "nan")],
        *[(("quantization_config", "levels"), kind) for kind in ("missing", "null", "list", "object", "text")],
        *[(("quantization_config", "method"), kind) for kind in ("list", "object", "nan")],
        (("quantization_config", "rank"), "beyond a float"),
        (("quantization_config", "double_quant"), "text"),
        (("hidden_size",), "beyond a float"),
        (("num_attention_heads",), "zero"),
        (("num_hidden_layers",), "huge"),
        (("rope_parameters", "rope_type"), "list"),
        (("max_position_embeddings",), "minus one"),
        (("dtype",), "list"),
        (("transformers_version",), "object"),
    ],
)
def test_known_damage_is_refused(
    folder: Path, whole: dict[str, dict[str, Tensor]], path: tuple[str | int, ...], kind: str
) -> None:
    damaged = mutated(folder, Mutation(file=CONFIG_FILE, path=path, kind=kind), folder.with_name("damaged"))

    assert faults(damaged, whole) == {}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scale_dtype": "bfloat16"}, "stored as|as torch.float16 .* not torch.bfloat16"),
        ({"scale_dtype": "float32"}, "as torch.float16 .* not torch.float32"),
        ({"bits": 4}, "'weight' as torch.uint8 .*, not torch.uint8"),
        ({"method": "nf3", "scales": "absmax"}, "lacks tensor 'scale_NG'"),
        ({"rank": 2}, r"'b_NR' as torch.float16 \(\d+, 1\), not torch.float16 \(\d+, 2\)"),
        ({"layer_specs": {"lm_head": {"bits": 2}}}, "names layer 'lm_head', which the model does not quantize"),
    ],
)
def test_a_description_that_the_headers_contradict_is_refused(
    folder: Path, tmp_path: Path, load: Load, change: dict[str, Any], complaint: str
) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    rewrite(damaged / CONFIG_FILE, lambda config: config["quantization_config"].update(change))

    with pytest.raises(ModelError, match=complaint):
        load(damaged)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (f"{LAYER}.a_RK", "BF16"),
        (f"{LAYER}.a_RK", "I16"),
        (f"{LAYER}.weight", "F16"),
        (f"{LAYER}.weight", "BF16"),
        (EMBEDDING, "I32"),
        ("model.norm.weight", "F16"),
    ],
)
def test_a_header_that_calls_bytes_by_another_dtype_is_refused(
    folder: Path, tmp_path: Path, load: Load, tensor: str, dtype: str
) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    rewrite(damaged / MODEL_FILE, lambda header: header[tensor].update(dtype=dtype))

    with pytest.raises(ModelError, match=r"fetch (it|the file) again"):
        load(damaged)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    ("part", "dtype"), [("weight", torch.float32), ("a_RK", torch.float32), ("b_NR", torch.bfloat16)]
)
def test_tensors_that_were_converted_are_refused(
    folder: Path, tmp_path: Path, load: Load, part: str, dtype: torch.dtype
) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    tensors, _ = read_tensors(damaged / MODEL_FILE)
    tensors[f"{LAYER}.{part}"] = tensors[f"{LAYER}.{part}"].to(dtype)
    write_tensors(tensors, damaged / MODEL_FILE, {"format": "pt"})

    with pytest.raises(ModelError, match=rf"layer {LAYER} has '{part}' as {dtype}"):
        load(damaged)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("tensor", [EMBEDDING, "model.norm.weight", f"{LAYER}.b_NR"])
def test_a_tensor_that_is_not_there_is_not_made_up(folder: Path, tmp_path: Path, load: Load, tensor: str) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    tensors, _ = read_tensors(damaged / MODEL_FILE)
    del tensors[tensor]
    write_tensors(tensors, damaged / MODEL_FILE, {"format": "pt"})

    with pytest.raises(ModelError, match=r"lacks|missing|claims"):
        load(damaged)


# Indices.


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_parts_are_read(parts: Path, whole: dict[str, dict[str, Tensor]], load: Load) -> None:
    assert len(list(parts.glob("*.safetensors"))) > 1
    for name, tensor in whole["command" if load is by_command else "transformers"].items():
        assert torch.equal(load(parts).state_dict()[name], tensor)


def outside(parts: Path, place: str) -> str:
    """Moves the last part out of its folder; its name from there."""
    file = max(parts.glob("*.safetensors"))
    other = parts.with_name("other")
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    moved = shutil.move(file, other / file.name)
    if place == "link":
        file.symlink_to(moved)
        return file.name
    return str(moved) if place == "absolute" else f"../other/{file.name}"


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("place", ["parent", "absolute", "link"])
def test_a_part_outside_of_the_folder_is_not_read(parts: Path, tmp_path: Path, load: Load, place: str) -> None:
    damaged = copy_of(parts, tmp_path / "damaged")
    last, name = max(damaged.glob("*.safetensors")).name, outside(damaged, place)
    rewrite(
        damaged / INDEX_FILE,
        lambda index: index.update(weight_map={t: name if f == last else f for t, f in index["weight_map"].items()}),
    )

    with pytest.raises(ModelError, match="which is no file of it"):
        load(damaged)


def test_a_snapshot_of_the_hub_is_links(parts: Path, tmp_path: Path) -> None:
    snapshot = copy_of(parts, tmp_path / "models--a--b" / "snapshots" / "0")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for file in list(snapshot.iterdir()):
        shutil.move(file, blobs / file.name)
        file.symlink_to(Path("../../blobs") / file.name)

    for load in LOADERS.values():
        assert load(snapshot) is not None


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"metadata": {}, "weight_map": []}',
        '{"metadata": {}, "weight_map": {}}',
        '{"metadata": [], "weight_map": {"a": "b.safetensors"}}',
        '{"metadata": {}, "weight_map": {"a": 1}}',
        '{"metadata": {}, "weight_map": {"a": ["b"]}}',
        '{"metadata": {}, "weight_map": {"a": "\\ud800.safetensors"}}',
        '{"metadata": {}, "weight_map": {"a": "\\u0000.safetensors"}}',
        '{"metadata": {}, "weight_map": {"a": "model.bin"}}',
        '{"metadata": {}, "weight_map": {"a": "%s.safetensors"}}' % ("x" * 5000),
        "[" * 100_000,
        "{" + '"a":{' * 100_000,
    ],
    ids=range(16),
)
def test_an_index_that_means_nothing_is_refused(parts: Path, tmp_path: Path, load: Load, content: str) -> None:
    damaged = copy_of(parts, tmp_path / "damaged")
    (damaged / INDEX_FILE).write_text(content)

    with pytest.raises(ModelError) as error:
        load(damaged)

    assert str(error.value).isprintable()


def test_a_tensor_in_two_parts_is_refused(parts: Path, tmp_path: Path) -> None:
    damaged = copy_of(parts, tmp_path / "damaged")
    first, second = sorted(damaged.glob("*.safetensors"))[:2]
    tensors, _ = read_tensors(first)
    write_tensors({**read_tensors(second)[0], min(tensors): tensors[min(tensors)]}, second, {"format": "pt"})

    for load in LOADERS.values():
        with pytest.raises(ModelError, match=f"tensor '{min(tensors)}' is in .* and in another part"):
            load(damaged)


# Files that are cut or garbled, through the command.


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", [CONFIG_FILE, MODEL_FILE, "tokenizer.json", "tokenizer_config.json"])
def test_a_cut_file_is_one_line_and_exit_code_2(
    folder: Path, tmp_path: Path, name: str, kept: float, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    os.truncate(damaged / name, int((damaged / name).stat().st_size * kept))

    code = main(["eval", str(damaged)])

    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("lords-bench: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("source", ["a/" * 2500, "x" * 5000, "~nobody-of-that-name/a", "\x00"])
def test_a_path_that_cannot_be_is_one_line(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", source]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# Bombs: what they take is measured in a process of its own, since a peak never goes down.

BOMBS: dict[str, dict[str, Any]] = {
    "width": {"hidden_size": 1_000_000},
    "vocabulary": {"vocab_size": 10**9},
    "inner width": {"intermediate_size": 10**9},
    "layers": {"num_hidden_layers": 10**9},
    "heads": {"head_dim": 10**9},
    "more layers than tensors": {"num_hidden_layers": 40},
}
MOST_GROWTH_KB = 200 << 10

WATCHED = """
import resource, sys
from pathlib import Path
from lords_bench.errors import ModelError
from lords_bench.integrations import hf_quantizer
from lords_bench.integrations.hf_model import load_causal_model, quiet_transformers
from lords_bench.integrations.quantized_folder import load_quantized_folder
from transformers import AutoModelForCausalLM
good, *bombs = map(Path, sys.argv[1:])
with quiet_transformers():
    load_quantized_folder(good), AutoModelForCausalLM.from_pretrained(good)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb in bombs:
        for load in (load_quantized_folder, AutoModelForCausalLM.from_pretrained, hf_quantizer.from_pretrained):
            try:
                load(bomb)
                print(f"{bomb.name} was loaded")
            except ModelError as error:
                if "memory" in str(error):
                    print(f"{bomb.name}: {error}")
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            if grown > MOST_GROWTH_KB:
                print(f"{bomb.name} took {grown} kB")
                before += grown
"""


def test_a_bomb_is_refused_before_it_takes_memory(folder: Path, parts: Path, tmp_path: Path) -> None:
    bombs = []
    for name, change in BOMBS.items():
        bombs.append(copy_of(folder, tmp_path / name))
        rewrite(bombs[-1] / CONFIG_FILE, lambda config, change=change: config.update(change))  # type: ignore[misc]
    bombs.append(copy_of(folder, tmp_path / "header"))
    (bombs[-1] / MODEL_FILE).write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    bombs.append(copy_of(folder, tmp_path / "shape"))
    rewrite(bombs[-1] / MODEL_FILE, lambda header: header[EMBEDDING].update(shape=[1 << 40, 1 << 40]))
    for name, count in (("entries", json_object.MOST_VALUES + 1), ("bytes", 3_000_000)):
        bombs.append(copy_of(parts, tmp_path / name))
        entries = ",".join(f'"{number:x}":"a"' for number in range(count))
        (bombs[-1] / INDEX_FILE).write_text(f'{{"metadata":{{}},"weight_map":{{{entries}}}}}')

    program = WATCHED.replace("MOST_GROWTH_KB", str(MOST_GROWTH_KB))
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, [folder, *bombs])], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_buffers_that_no_file_holds_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "MOST_BUFFER_BYTES", 8)

    for load in LOADERS.values():
        with pytest.raises(ModelError, match=r"claims buffers of \d+ bytes, more than 8"):
            load(folder)


def test_an_index_of_too_many_parts_is_refused(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "MOST_PARTS", 1)

    for load in LOADERS.values():
        with pytest.raises(ModelError, match=r"names \d files, more than 1"):
            load(parts)


def test_a_dense_folder_is_held_against_its_files_too(folder: Path, tmp_path: Path) -> None:
    damaged = copy_of(folder.with_name("dense"), tmp_path / "damaged")
    rewrite(damaged / CONFIG_FILE, lambda config: config.update(vocab_size=10**9))

    for load in (lords_bench.from_pretrained, lambda path: load_causal_model(str(path))):
        with pytest.raises(ModelError, match=r"claims 32,[\d,]+ numbers, the files hold"):
            load(damaged)


@pytest.mark.parametrize("name", ["pickle", "none"])
def test_a_quantized_folder_without_headers_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    damaged = copy_of(folder, tmp_path / "damaged")
    tensors, _ = read_tensors(damaged / MODEL_FILE)
    (damaged / MODEL_FILE).unlink()
    if name == "pickle":
        torch.save(tensors, damaged / "pytorch_model.bin")

    for load in LOADERS.values():
        with pytest.raises((ModelError, OSError), match="safetensors"):
            load(damaged)
