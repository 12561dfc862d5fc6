import pytest
import torch

from lords_bench.errors import ModelError
from lords_bench.integrations.hf_model import CausalModel
from lords_bench.integrations.scoring import WindowScorer
from lords_bench.integrations.windows import Window, rolling_windows

TEXTS = ("def f(x):\n    return x\n" * 8, "import os\n", "a" * 100)
# float32 sums of some hundred terms of order 1, in another order than the direct computation's.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def windows(llama: CausalModel) -> tuple[Window, ...]:
    return rolling_windows(llama.tokenizer, TEXTS, 64)


def other_weights(model: CausalModel) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        layer.name: layer.module.weight.data + 0.05 * torch.randn(layer.shape, generator=generator)
        for layer in model.layers
    }


def direct_log_probabilities(model: CausalModel, window: Window) -> torch.Tensor:
    """One window alone, without padding: (targets, vocabulary), float64."""
    logits = model.model(input_ids=torch.tensor([window.tokens[:-1]])).logits[0, -window.target_count :]
    return torch.log_softmax(logits.double(), dim=-1)


@torch.no_grad()
def test_likelihood_is_that_of_each_window_alone(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    expected = [
        -direct_log_probabilities(llama, window)
        .gather(1, torch.tensor(window.tokens[-window.target_count :])[:, None])
        .sum()
        .item()
        for window in windows
    ]

    scores = WindowScorer(llama, windows).score({})

    assert scores.nll_nats == pytest.approx(expected, abs=TOLERANCE)


@torch.no_grad()
def test_divergence_is_that_of_the_two_distributions(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    weights = other_weights(llama)
    reference = [direct_log_probabilities(llama, window) for window in windows]
    scorer = WindowScorer(llama, windows)

    scores = scorer.score(weights)

    own = {layer.name: layer.module.weight.data for layer in llama.layers}
    for layer in llama.layers:
        layer.module.weight.data = weights[layer.name]
    changed = [direct_log_probabilities(llama, window) for window in windows]
    for layer in llama.layers:
        layer.module.weight.data = own[layer.name]
    expected = [(p.exp() * (p - q)).sum().item() for p, q in zip(reference, changed, strict=True)]
    assert min(expected) > 1000 * TOLERANCE
    assert scores.kl_nats == pytest.approx(expected, abs=TOLERANCE)


def test_a_model_does_not_diverge_from_itself(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    scores = WindowScorer(llama, windows).score({})

    assert scores.kl_nats == pytest.approx([0.0] * len(windows), abs=TOLERANCE)


def test_scores_do_not_depend_on_whether_the_reference_is_kept(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    weights = other_weights(llama)
    kept, computed_again = WindowScorer(llama, windows), WindowScorer(llama, windows, reference_bytes=0)
    kept.score({})

    assert computed_again.score(weights) == kept.score(weights)


def test_scoring_leaves_the_model_as_it_was(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    scorer = WindowScorer(llama, windows)
    before = scorer.score({})

    scorer.score(other_weights(llama))

    assert scorer.score({}) == before


def test_progress_ends_at_one(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    fractions: list[float] = []

    WindowScorer(llama, windows).score({}, fractions.append)

    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_weights_that_overflow_are_refused(llama: CausalModel, windows: tuple[Window, ...]) -> None:
    layer = llama.layers[0]

    with pytest.raises(ModelError, match="not finite"):
        WindowScorer(llama, windows).score({layer.name: torch.full(layer.shape, float("inf"))})
