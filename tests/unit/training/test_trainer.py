import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from lords_bench.errors import LordsBenchError, ModelError, SpecError, StoreError, UsageError
from lords_bench.integrations.hf_model import load_causal_model
from lords_bench.integrations.quantized_folder import load_any_model
from lords_bench.training import load_adapter, prepare_peft, use_adapter
from lords_bench.training import trainer as module
from lords_bench.training.folder import TRAINING_FILE
from lords_bench.training.settings import TrainSettings
from lords_bench.training.trainer import ADAPTER_FILE, train_model
from tiny_models import save_tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def settings(base: Path, tmp_path: Path) -> TrainSettings:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 15)
    return TrainSettings(
        mode="qat",
        model=str(base),
        out=str(tmp_path / "out"),
        data=(str(tmp_path / "text.txt"),),
        bits=3,
        learning_rate=3e-3,
        steps=6,
        batch=2,
        window_tokens=32,
        warmup_steps=1,
        save_steps=2,
        eval_steps=3,
        use_cpu=True,
    )


def peft(settings: TrainSettings, method: str = "lords") -> TrainSettings:
    return replace(settings, mode="peft", method=method, bits=4)


def log_of(settings: TrainSettings) -> list[dict[str, Any]]:
    finished = json.loads((Path(settings.out) / TRAINING_FILE).read_text())["finished"]
    return [{k: v for k, v in entry.items() if k in ("step", "loss", "eval_loss")} for entry in finished["log"]]


class Stop(TrainerCallback):
    """Ends the process, as it were, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        del args, control, named
        if state.global_step == self.step:
            raise KeyboardInterrupt


def interrupted(monkeypatch: pytest.MonkeyPatch, settings: TrainSettings, step: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "FiniteGradients", lambda: Stop(step))
        with pytest.raises(KeyboardInterrupt):
            train_model(settings)


def test_what_qat_exports_loads_again_with_fewer_nats(settings: TrainSettings) -> None:
    result = train_model(replace(settings, eval_data=settings.data, steps=6))

    loaded, weights = load_any_model(str(result.outputs[0]))
    ids = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(0))
    evaluations = [entry["eval_loss"] for entry in log_of(settings) if "eval_loss" in entry]
    assert {weight.spec.bits_per_code for weight in weights.values()} == {3}
    assert len(weights) == 7
    assert bool(torch.isfinite(loaded.model(input_ids=ids).logits).all())
    assert evaluations[-1] < evaluations[0]
    assert result.eval_loss == pytest.approx(evaluations[-1])


@pytest.mark.parametrize("mode", ["qat", "peft"])
def test_an_interrupted_training_ends_with_the_same_losses(
    mode: str, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings if mode == "qat" else peft(settings)
    whole = replace(settings, out=str(tmp_path / "whole"))
    train_model(whole)
    interrupted(monkeypatch, settings, step=5)

    train_model(settings)

    assert log_of(settings) == log_of(whole)
    assert not (Path(settings.out) / "checkpoints").exists()


def test_a_lords_adapter_fits_its_base_and_gives_the_merged_model(settings: TrainSettings) -> None:
    settings = peft(settings)
    result = train_model(settings)
    ids = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(0))

    fresh = load_causal_model(settings.model).model
    prepare_peft(fresh, "lords", settings.spec)
    use_adapter(fresh, load_adapter(Path(settings.out) / ADAPTER_FILE))
    merged, weights = load_any_model(str(result.outputs[1]))

    assert len(weights) == 7
    # The adapter is kept in float32, the folder in float16.
    assert torch.allclose(fresh(input_ids=ids).logits, merged.model(input_ids=ids).logits, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("method", ["qlora", "qpissa"])
def test_an_additive_adapter_is_merged_into_a_dense_model(method: str, settings: TrainSettings) -> None:
    result = train_model(peft(settings, method))

    _, weights = load_any_model(str(result.outputs[1]))

    assert result.outputs[0].name == ADAPTER_FILE
    assert weights == {}


def test_accumulation_sees_as_much_text_as_a_larger_batch(settings: TrainSettings, tmp_path: Path) -> None:
    train_model(replace(settings, batch=4))
    other = replace(settings, batch=2, accumulate=2, out=str(tmp_path / "other"))
    train_model(other)

    losses = [[entry["loss"] for entry in log_of(one)] for one in (settings, other)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_bf16_trains_to_nearly_the_same_loss(settings: TrainSettings, tmp_path: Path) -> None:
    first = train_model(settings)
    second = train_model(replace(settings, bf16=True, out=str(tmp_path / "bf16")))

    assert first.train_loss == pytest.approx(second.train_loss, rel=0.02)


def test_a_loss_that_is_not_finite_stops_with_step_and_layer_and_keeps_the_last_checkpoint(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            del args, control
            if state.global_step == 3:
                with torch.no_grad():
                    named["model"].model.norm.weight.fill_(float("nan"))

    monkeypatch.setattr(module, "FiniteGradients", Spoil)

    with pytest.raises(ModelError, match=r"step 4: loss nan, weight of model.norm.weight is not finite.*is kept"):
        train_model(settings)
    kept = sorted(path.name for path in (Path(settings.out) / "checkpoints").iterdir())
    assert kept == ["checkpoint-2"]


def test_a_gradient_that_is_not_finite_stops_before_the_update(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.QuantizedTrainer.training_step

    def spoiled(self: Any, model: Any, *arguments: Any, **named: Any) -> Any:
        loss = original(self, model, *arguments, **named)
        if self.state.global_step == 2:
            model.model.layers[0].mlp.gate_proj.weight.grad[0, 0] = float("inf")
        return loss

    monkeypatch.setattr(module.QuantizedTrainer, "training_step", spoiled)

    with pytest.raises(ModelError, match=r"step 3: .*gradient of .*gate_proj.weight is not finite"):
        train_model(settings)


def to_files(settings: TrainSettings, content: str, name: str = "bad.jsonl") -> TrainSettings:
    path = Path(settings.data[0]).with_name(name)
    path.write_text(content)
    return replace(settings, data=(str(path),))


REFUSALS: dict[str, tuple[Callable[[TrainSettings], TrainSettings], type[LordsBenchError], str]] = {
    "empty": (lambda s: to_files(s, " \n", "a.txt"), UsageError, "no text in"),
    "short": (lambda s: to_files(s, "ab", "a.txt"), UsageError, "3 tokens, less than one window of 32"),
    "missing": (lambda s: replace(s, data=("nowhere.txt",)), UsageError, "'nowhere.txt' cannot be read"),
    "no json": (lambda s: to_files(s, '{"text": "a"}\nnonsense\n'), UsageError, "line 2 is not JSON"),
    "no text": (lambda s: to_files(s, '{"content": "a"}\n'), UsageError, 'line 1 has no "text"'),
    "mode": (lambda s: replace(s, mode="ptq"), UsageError, "unknown mode 'ptq'"),
    "peft method": (lambda s: replace(s, mode="peft", method="lora"), SpecError, "unknown fine-tuning method 'lora'"),
    "qat method": (lambda s: replace(s, method="qlora"), SpecError, "unknown method 'qlora'"),
    "feedback": (lambda s: replace(s, method="gptq"), SpecError, "needs calibration inputs"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(case: str, settings: TrainSettings) -> None:
    change, error, message = REFUSALS[case]

    with pytest.raises(error, match=message) as raised:
        train_model(change(settings))
    assert "\n" not in str(raised.value)
    assert not Path(settings.out).exists()


def test_a_folder_begun_in_another_mode_is_refused(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, settings, step=3)

    with pytest.raises(UsageError, match="begun with mode = 'qat', now it is 'peft'"):
        train_model(replace(settings, mode="peft"))


def test_a_finished_or_foreign_folder_is_refused(settings: TrainSettings, tmp_path: Path) -> None:
    train_model(replace(settings, steps=1))

    with pytest.raises(StoreError, match="holds a finished training"):
        train_model(replace(settings, steps=1))
    with pytest.raises(StoreError, match="is no training folder"):
        train_model(replace(settings, out=str(tmp_path)))


def test_a_quantized_model_is_not_trained_again(settings: TrainSettings, tmp_path: Path) -> None:
    result = train_model(replace(settings, steps=1))

    with pytest.raises(UsageError, match="is quantized already"):
        train_model(replace(settings, model=str(result.outputs[0]), out=str(tmp_path / "again")))
