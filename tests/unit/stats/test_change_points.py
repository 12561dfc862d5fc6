"""Steps between levels: found where they are, one outlier is none, and noise is none."""

import numpy as np
import pytest

from lords_bench.stats.change_points import level_steps


def noisy(levels: tuple[float, ...], *, each: int = 12, noise: float = 0.004, seed: int = 0) -> list[float]:
    stream = np.random.default_rng(seed)
    return [float(level * np.exp(noise * stream.standard_normal())) for level in levels for _ in range(each)]


def test_two_steps_are_found_where_they_are() -> None:
    steps = level_steps(noisy((100.0, 103.0, 95.0)))

    assert [step.index for step in steps] == [12, 24]
    assert [step.relative for step in steps] == pytest.approx([0.03, -0.078], abs=0.004)


def test_noise_alone_has_no_step() -> None:
    found = [level_steps(noisy((100.0,), each=40, seed=seed)) for seed in range(40)]

    assert found == [()] * 40


def test_one_outlier_is_no_step() -> None:
    values = noisy((100.0,), each=20)
    values[9] *= 1.5

    assert level_steps(values) == ()


def test_a_number_that_repeats_exactly_and_then_moves_has_one_step() -> None:
    (step,) = level_steps([4.0] * 5 + [4.2] * 3)

    assert (step.index, step.before, step.after) == (5, 4.0, 4.2)


def test_a_step_below_one_percent_is_not_told() -> None:
    assert level_steps([4.0] * 5 + [4.03] * 5) == ()


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 2.0]])
def test_a_short_series_has_no_step(values: list[float]) -> None:
    assert level_steps(values) == ()


def test_a_value_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"holds 0\.0; logarithms need positive numbers"):
        level_steps([1.0, 0.0, 1.0, 1.0])
