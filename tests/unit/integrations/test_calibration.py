from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lords_bench.errors import ModelError, UsageError
from lords_bench.integrations.calibration import InputHessian, collect_hessians, iterate_hessians
from lords_bench.integrations.hf_model import CausalModel, load_causal_model
from lords_bench.integrations.windows import Window, rolling_windows
from tiny_models import save_tiny_llama

TEXTS = ("def f(x):\n    return x\n" * 4, "import os\n", "a" * 70)
HIDDEN, LAYERS = 64, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "llama", hidden=HIDDEN, layers=LAYERS)
    return load_causal_model(str(folder))


@pytest.fixture(scope="module")
def windows(model: CausalModel) -> tuple[Window, ...]:
    return rolling_windows(model.tokenizer, TEXTS, 40)


def token_count(windows: tuple[Window, ...]) -> int:
    return sum(window.input_count for window in windows)


@torch.no_grad()
def recorded_inputs(model: CausalModel, windows: tuple[Window, ...]) -> dict[str, Tensor]:
    """Every layer's inputs over all windows, (tokens, K), float64, recorded one layer and window at a time."""
    inputs: dict[str, list[Tensor]] = {layer.name: [] for layer in model.layers}

    def keep(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        del module
        inputs[name].append(args[0][0].double())

    handles = [
        layer.module.register_forward_pre_hook(lambda module, args, name=layer.name: keep(name, module, args))
        for layer in model.layers
    ]
    for window in windows:
        model.model(input_ids=torch.tensor([window.tokens[:-1]]))
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in inputs.items()}


def test_every_layer_gets_the_mean_of_its_own_inputs(model: CausalModel, windows: tuple[Window, ...]) -> None:
    hessians = collect_hessians(model, windows)

    inputs = recorded_inputs(model, windows)
    assert list(hessians) == list(inputs)
    for name, x_MK in inputs.items():
        expected_KK = x_MK.T @ x_MK / len(x_MK)
        # float32 sums of a hundred products, and float32 activations computed alike on both sides.
        torch.testing.assert_close(hessians[name].double(), expected_KK, rtol=1e-3, atol=1e-4)


def test_layers_that_read_one_tensor_share_its_hessian_and_no_others_do(
    model: CausalModel, windows: tuple[Window, ...]
) -> None:
    groups = [group.layer_names for group in iterate_hessians(model, windows)]

    short = [tuple(name.split(".")[-1] for name in group) for group in groups]
    assert short == [("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",)] * LAYERS
    assert [group[0].split(".")[2] for group in groups] == ["0"] * 4 + ["1"] * 4


def test_a_shared_hessian_is_one_tensor(model: CausalModel, windows: tuple[Window, ...]) -> None:
    hessians = collect_hessians(model, windows)

    first = "model.layers.0.self_attn."
    assert hessians[f"{first}q_proj"] is hessians[f"{first}v_proj"]
    assert hessians[f"{first}q_proj"] is not hessians[f"{first}o_proj"]


@pytest.mark.parametrize("memory_bytes", [1, 3 * 4 * HIDDEN**2, 6 * 4 * HIDDEN**2])
def test_several_passes_within_a_memory_bound_give_the_same_hessians(
    model: CausalModel, windows: tuple[Window, ...], memory_bytes: int
) -> None:
    whole = collect_hessians(model, windows)

    for group in iterate_hessians(model, windows, memory_bytes=memory_bytes):
        assert group.token_count == token_count(windows)
        for name in group.layer_names:
            assert torch.equal(group.hessian_KK, whole[name])


def test_inputs_are_packed_in_order_into_passes_within_the_memory_bound(
    model: CausalModel, windows: tuple[Window, ...]
) -> None:
    fractions: list[float] = []

    list(iterate_hessians(model, windows, memory_bytes=5 * 4 * HIDDEN**2, advance=fractions.append))

    # In units of 4·64² bytes the inputs of two decoder layers are 1 1 1 4 1 1 1 4: 1 1 1, 4 1, 1 1, 4.
    assert len(fractions) == 4 * len(windows)


def test_a_pass_reads_the_model_only_as_deep_as_it_must(model: CausalModel, windows: tuple[Window, ...]) -> None:
    calls: list[int] = []
    last = model.layers[-1].module.register_forward_hook(lambda *_: calls.append(1))
    passes = iterate_hessians(model, windows, memory_bytes=1)

    next(passes)
    last.remove()

    # The first, whole run finds out who shares; the pass for the first input stops in the first layer.
    assert len(calls) == 1


def test_later_passes_see_the_weights_exchanged_since(model: CausalModel, windows: tuple[Window, ...]) -> None:
    plain = collect_hessians(model, windows)
    value = next(layer for layer in model.layers if layer.name.endswith("0.self_attn.v_proj"))
    original = value.module.weight.data

    seen: dict[str, InputHessian] = {}
    try:
        for group in iterate_hessians(model, windows, memory_bytes=1):
            seen |= dict.fromkeys(group.layer_names, group)
            if value.name in group.layer_names:
                value.module.weight.data = 2 * original
    finally:
        value.module.weight.data = original

    output = "model.layers.0.self_attn.o_proj"
    torch.testing.assert_close(seen[value.name].hessian_KK, plain[value.name], rtol=0, atol=0)
    torch.testing.assert_close(seen[output].hessian_KK, 4 * plain[output])


def test_a_layer_called_twice_is_listened_to_at_every_call(model: CausalModel, windows: tuple[Window, ...]) -> None:
    first, second = (model.model.model.layers[i].mlp for i in range(2))
    own = second.up_proj
    shared = replace(model, layers=tuple(layer for layer in model.layers if layer.module is not own))
    second.up_proj = first.up_proj

    try:
        groups = list(iterate_hessians(shared, windows))
    finally:
        second.up_proj = own

    (repeated,) = [group for group in groups if "model.layers.0.mlp.up_proj" in group.layer_names]
    assert repeated.layer_names == ("model.layers.0.mlp.up_proj",)
    assert repeated.token_count == 2 * token_count(windows)


def test_a_layer_that_no_token_reaches_is_named(model: CausalModel, windows: tuple[Window, ...]) -> None:
    mlp = model.model.model.layers[1].mlp
    forward = mlp.forward
    mlp.forward = torch.zeros_like

    try:
        with pytest.raises(ModelError, match=r"no calibration token reached layer model\.layers\.1\.mlp\.gate_proj"):
            collect_hessians(model, windows)
    finally:
        mlp.forward = forward


def test_inputs_that_overflow_are_named(tmp_path: Path, windows: tuple[Window, ...]) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path / "llama")))
    model.model.model.embed_tokens.weight.data *= float("inf")

    with pytest.raises(ModelError, match=r"the inputs of layer model\.layers\.0\.self_attn\.q_proj are not finite"):
        collect_hessians(model, windows)


def test_no_windows_are_refused(model: CausalModel) -> None:
    with pytest.raises(UsageError, match="no calibration windows"):
        collect_hessians(model, ())


def test_progress_rises_to_one_over_all_passes(model: CausalModel, windows: tuple[Window, ...]) -> None:
    fractions: list[float] = []

    list(iterate_hessians(model, windows, memory_bytes=1, advance=fractions.append))

    assert fractions == sorted(fractions)
    assert len(fractions) == 4 * LAYERS * len(windows)
    assert fractions[-1] == pytest.approx(1.0)


def test_the_model_runs_as_before_even_after_a_window_that_failed(
    model: CausalModel, windows: tuple[Window, ...]
) -> None:
    tokens = torch.tensor([windows[0].tokens])
    before = model.model(input_ids=tokens).logits
    broken = Window(tokens=(10**6, 1), target_count=1, byte_count=1)

    with pytest.raises(IndexError):
        collect_hessians(model, (*windows, broken))

    assert torch.equal(model.model(input_ids=tokens).logits, before)
