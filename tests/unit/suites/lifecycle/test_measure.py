from dataclasses import replace

import pytest
import torch

from lords_bench.integrations.hf_model import CausalModel, load_causal_model
from lords_bench.quant import QuantSpec
from lords_bench.suites.lifecycle.cases import Adapter, Budget, Group, Plan, TextSize
from lords_bench.suites.lifecycle.measure import LifecycleMeasurement
from lords_bench.suites.lifecycle.text import LifecycleText
from lords_bench.suites.passages import Passage
from lords_bench.suites.testbed.corpus import Document
from tiny_models import save_tiny_llama

QAT = Group(stage="qat", method="lords", spec=QuantSpec(method="lords", bits=3))
PLAN = Plan(
    groups=(QAT,),
    qat=Budget(steps=3, batch_windows=2, learning_rates=(1e-3, 1e-2), seeds=(0, 1)),
    peft=Budget(steps=2, batch_windows=1, learning_rates=(1e-2,), seeds=(0, 1)),
    text=TextSize(test_passages=2, validation_passages=1, window_tokens=24),
)
ADAPTERS: tuple[Adapter, ...] = ("lords", "qlora", "loftq", "qpissa")


def peft(adapter: Adapter) -> Group:
    spec = QuantSpec(method="lords", bits=4) if adapter == "lords" else QuantSpec(method="nf4", double_quant=True)
    return Group(stage="peft", method=adapter, spec=spec, adapter=adapter)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    return load_causal_model(str(save_tiny_llama(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def measurement(model: CausalModel) -> LifecycleMeasurement:
    lines = ("the quick brown fox\n", "jumps over it\n", "a lazy dog sleeps\n", "def f(x): return x\n")
    documents = tuple(Document(name=line, text=line * 20) for line in lines)
    passages = (Passage(document=0, text="the quick brown\n" * 3), Passage(document=1, text="a lazy dog\n" * 3))
    text = LifecycleText(
        training={"base": documents, "shifted": documents},
        held_out={(d, s): passages for d in ("base", "shifted") for s in ("validation", "test")},
    )
    return LifecycleMeasurement(model, text, PLAN)


def test_the_same_seed_gives_the_same_run_and_another_does_not(measurement: LifecycleMeasurement) -> None:
    first, again, other = (measurement.train(QAT, learning_rate=1e-3, seed=seed) for seed in (0, 0, 1))

    assert first.step_loss_nats == again.step_loss_nats
    assert first.scores == again.scores
    assert first.step_loss_nats != other.step_loss_nats


def test_the_model_itself_is_never_changed(measurement: LifecycleMeasurement, model: CausalModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}

    measurement.train(QAT, learning_rate=1e-2, seed=0)
    measurement.train(peft("qlora"), learning_rate=1e-2, seed=0)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())


def test_all_fine_tuning_methods_train_equally_many_numbers(measurement: LifecycleMeasurement) -> None:
    counts = {a: measurement.train(peft(a), learning_rate=1e-2, seed=0).trainable_numbers for a in ADAPTERS}

    assert len(set(counts.values())) == 1


def test_training_text_is_learned_and_scored_in_both_domains(measurement: LifecycleMeasurement) -> None:
    start = measurement.start(QAT)
    trained = measurement.train(QAT, learning_rate=1e-2, seed=0)

    first, second = start.of("base", "test"), trained.of("base", "test")
    assert first is not None
    assert second is not None
    assert second.bits_per_byte < first.bits_per_byte
    assert trained.of("base", "validation") is not None
    assert trained.of("shifted", "test") is not None


def test_a_random_start_depends_on_the_seed(measurement: LifecycleMeasurement) -> None:
    first, second = (measurement._prepare(peft("qlora"), seed=seed).state_dict() for seed in (0, 1))  # noqa: SLF001

    name = next(name for name in first if name.endswith(".down"))
    assert not torch.equal(first[name], second[name])


def test_inputs_hold_the_whole_budget(measurement: LifecycleMeasurement, model: CausalModel) -> None:
    settings = dict(measurement.inputs.settings)
    other = replace(PLAN, qat=replace(PLAN.qat, steps=4))

    assert settings["qat_steps"] == 3
    assert settings["window_tokens"] == 24
    assert LifecycleMeasurement(model, measurement._text, other).inputs != measurement.inputs  # noqa: SLF001
