import pytest
import torch
from torch import nn

from lords_bench.errors import ModelError
from lords_bench.integrations.hf_model import load_causal_model
from lords_bench.quant import QuantSpec
from lords_bench.training import export, prepare_qat
from lords_bench.training.dense import materialise
from lords_bench.training.loop import LoopSettings, train
from tiny_models import save_tiny_llama


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    loaded = load_causal_model(str(save_tiny_llama(tmp_path_factory.mktemp("tiny")))).model
    loaded.requires_grad_(True)
    return loaded


def batches(count: int) -> list[torch.Tensor]:
    ids = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(0))
    return [ids] * count


def test_the_same_batch_again_and_again_is_learned(model: nn.Module) -> None:
    prepare_qat(model, QuantSpec(method="lords", bits=4))

    log = train(model, batches(8), LoopSettings(learning_rate=3e-3, autocast=None))

    assert len(log.loss_nats) == len(log.wall_ns) == len(log.cpu_ns) == 8
    assert log.loss_nats[-1] < log.loss_nats[0] - 0.5


def test_a_weight_that_is_not_finite_stops_with_the_step_and_its_name(model: nn.Module) -> None:
    with torch.no_grad():
        model.get_parameter("model.norm.weight").fill_(float("nan"))

    with pytest.raises(ModelError, match=r"step 1: loss nan, weight of model.norm.weight is not finite"):
        train(model, batches(2), LoopSettings(learning_rate=1e-3))


def test_what_is_scored_is_what_would_be_stored(model: nn.Module) -> None:
    prepare_qat(model, QuantSpec(method="lords", bits=3))
    ids = batches(1)[0]
    with torch.no_grad():
        trained = model(input_ids=ids).logits
        materialise(model, export(model))
        stored = model(input_ids=ids).logits

    assert not any("Lords" in type(module).__name__ for module in model.modules())
    assert torch.allclose(trained, stored, atol=1e-4)
