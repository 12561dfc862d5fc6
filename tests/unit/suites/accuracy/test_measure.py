from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lords_bench.errors import ModelError, SpecError
from lords_bench.integrations.hf_model import CausalModel, load_causal_model
from lords_bench.integrations.lm_eval_tasks import PASSAGES_TASK
from lords_bench.quant import QuantSpec
from lords_bench.suites.accuracy.cases import Case
from lords_bench.suites.accuracy.layers import quantize_layer, replaced_layers
from lords_bench.suites.accuracy.measure import AccuracyEvaluation
from lords_bench.suites.accuracy.text import EvaluationSize, EvaluationText, text_of_testbed
from tiny_models import save_tiny_llama

SIZE = EvaluationSize(passages=6, choice_items=8, calibration_passages=4, passage_characters=150, window_tokens=100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return load_causal_model(str(save_tiny_llama(tmp_path_factory.mktemp("models") / "llama")))


@pytest.fixture(scope="module")
def text() -> EvaluationText:
    return text_of_testbed(SIZE, calibration=None)


@pytest.fixture(scope="module")
def evaluation(model: CausalModel, text: EvaluationText) -> AccuracyEvaluation:
    return AccuracyEvaluation(model, text)


def make_case(*specs: QuantSpec, input_weighted: bool = False) -> Case:
    bits = specs[0].bits if specs else None
    return Case(case_id="c", method="m", bits=bits, specs=specs, input_weighted=input_weighted)


def ignore(fraction: float) -> None:
    del fraction


def test_the_unquantized_model_diverges_by_nothing(evaluation: AccuracyEvaluation) -> None:
    samples = evaluation.measure(make_case(), ignore)

    assert samples.layer_names == ()
    assert max(map(abs, samples.window_kl_nats)) < 1e-4
    assert len(samples.choice_correct) == SIZE.choice_items
    assert samples.bits_per_weight is None


def test_samples_of_a_case_are_of_the_quantized_weights(evaluation: AccuracyEvaluation, model: CausalModel) -> None:
    spec = QuantSpec(method="nf3", block=32)

    samples = evaluation.measure(make_case(spec), ignore)

    weights = [quantize_layer(layer, spec) for layer in model.layers]
    errors = [
        (layer.module.weight.double() - weight.dequantize(dtype=torch.float32).double()).square().sum().item()
        for layer, weight in zip(model.layers, weights, strict=True)
    ]
    assert samples.layer_squared_error == pytest.approx(errors)
    assert samples.layer_shapes == tuple(layer.shape for layer in model.layers)
    assert samples.layer_stored_bytes == tuple(
        round(weight.bits_per_weight * layer.weight_count / 8)
        for layer, weight in zip(model.layers, weights, strict=True)
    )
    assert samples.kl_nats_per_token > 0.001


def test_fewer_bits_diverge_more(evaluation: AccuracyEvaluation) -> None:
    divergence = [
        evaluation.measure(make_case(QuantSpec(method=name, block=32)), ignore).kl_nats_per_token
        for name in ("nf4", "nf3", "nf2")
    ]

    assert divergence == sorted(divergence)


def test_error_feedback_sees_the_calibration_text(model: CausalModel, text: EvaluationText) -> None:
    case = make_case(QuantSpec(method="gptq", bits=3, block=32))
    other = replace(text, calibration=(replace(text.calibration[0], text="zyx\n" * 40),))

    here = AccuracyEvaluation(model, text).measure(case, ignore)
    there = AccuracyEvaluation(model, other).measure(case, ignore)

    assert here.layer_squared_error != there.layer_squared_error


def test_input_weights_move_the_error_to_inputs_that_matter_less(evaluation: AccuracyEvaluation) -> None:
    spec = QuantSpec(method="block-opt", bits=3, block=32)

    plain = evaluation.measure(make_case(spec), ignore)
    weighted = evaluation.measure(make_case(spec, input_weighted=True), ignore)

    assert sum(weighted.layer_squared_error) > sum(plain.layer_squared_error)


def test_what_a_layer_does_not_take_is_refused_with_the_layer_named(evaluation: AccuracyEvaluation) -> None:
    with pytest.raises(SpecError, match=r"layer model\.layers\.0\.self_attn\.q_proj: rank 999 is above"):
        evaluation.measure(make_case(QuantSpec(method="lords", rank=999)), ignore)


def test_a_block_that_does_not_divide_is_measured(evaluation: AccuracyEvaluation) -> None:
    samples = evaluation.measure(make_case(QuantSpec(method="nf4", block=48)), ignore)

    assert 0 < sum(samples.layer_squared_error) < 0.02 * sum(samples.layer_squared_norm)


def test_too_little_memory_is_a_memory_error(evaluation: AccuracyEvaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory\nmore")

    monkeypatch.setattr(evaluation, "score", refuse)

    with pytest.raises(MemoryError, match=r"can't allocate memory more$"):
        evaluation.measure(make_case(), ignore)


def test_another_runtime_error_is_a_defect_and_stays_one(
    evaluation: AccuracyEvaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(evaluation, "score", fail)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluation.measure(make_case(), ignore)


def test_progress_rises_to_one(evaluation: AccuracyEvaluation) -> None:
    fractions: list[float] = []

    evaluation.measure(make_case(QuantSpec(method="nf4", block=32)), fractions.append)

    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < fractions[-1] <= 1


def test_tasks_are_run_with_the_quantized_weights(model: CausalModel, text: EvaluationText) -> None:
    evaluation = AccuracyEvaluation(model, text, tasks=(PASSAGES_TASK,))

    samples = evaluation.measure(make_case(QuantSpec(method="nf2", block=32)), ignore)

    found = {metric.metric: metric.value for metric in evaluation.task_metrics["c"]}
    assert found["bits_per_byte"] == pytest.approx(samples.bits_per_byte, rel=1e-5)


def test_inputs_name_text_settings_and_hashes(model: CausalModel, text: EvaluationText) -> None:
    inputs = AccuracyEvaluation(model, text).inputs

    settings = dict(inputs.settings)
    assert inputs.model_sha256 == model.model_sha256
    assert inputs.corpus_sha256 == text.sha256
    assert settings["calibration"] == "training text of the testbed"
    assert (settings["passages"], settings["window_tokens"], settings["dtype"]) == (6, 100, "float32")


def test_the_text_hash_follows_every_part(text: EvaluationText) -> None:
    passage = replace(text.passages[0], text="other\n")
    changed = [
        replace(text, passages=(passage, *text.passages[1:])),
        replace(text, calibration=(passage, *text.calibration[1:])),
        replace(text, items=(replace(text.items[0], answer=(text.items[0].answer + 1) % 4), *text.items[1:])),
    ]

    assert len({text.sha256, *(other.sha256 for other in changed)}) == 4


def test_a_model_that_differs_in_more_than_linear_weights_has_another_reference(
    model: CausalModel, tmp_path: Path
) -> None:
    other = load_causal_model(str(save_tiny_llama(tmp_path / "other", seed=1)))

    with pytest.raises(ModelError, match=r"differ in model\.embed_tokens\.weight"):
        replaced_layers(model, other, {})
