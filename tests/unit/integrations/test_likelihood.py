from pathlib import Path

import pytest
import torch

from lords_bench.errors import ModelError
from lords_bench.integrations.hf_model import load_causal_model
from lords_bench.integrations.likelihood import window_nll_nats
from lords_bench.integrations.scoring import WindowScorer
from lords_bench.integrations.windows import rolling_windows
from tiny_models import save_tiny_llama

TEXTS = ["one line of text\n" * 5, "another, shorter one", "def f(x):\n    return x\n" * 4]


def test_likelihoods_are_those_of_the_scorer(tmp_path: Path) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path)))
    windows = rolling_windows(model.tokenizer, TEXTS, 32)

    found = window_nll_nats(model.model, windows)

    # Batches of another size round float32 sums in another order.
    assert found == pytest.approx(WindowScorer(model, windows).score({}).nll_nats, rel=1e-5)


def test_a_diverged_model_is_refused(tmp_path: Path) -> None:
    model = load_causal_model(str(save_tiny_llama(tmp_path)))
    with torch.no_grad():
        model.model.get_parameter("model.norm.weight").fill_(float("nan"))

    with pytest.raises(ModelError, match="not finite; its training diverged"):
        window_nll_nats(model.model, rolling_windows(model.tokenizer, TEXTS, 32))
