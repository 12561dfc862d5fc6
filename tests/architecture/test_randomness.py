"""Random numbers of a test hang neither on the tests that ran before it nor on the examples that were tried before."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

DRAWN: list[float] = []


@pytest.mark.parametrize("turn", range(3))
def test_a_test_draws_what_it_would_draw_alone(turn: int) -> None:
    DRAWN.append(float(torch.rand(1 + turn)[0]))

    assert len(set(DRAWN)) == 1


def test_an_example_draws_the_same_numbers_whenever_it_is_tried() -> None:
    drawn: dict[int, set[float]] = {}

    @settings(max_examples=10, database=None)
    @given(st.integers(0, 3))
    def example(value: int) -> None:
        drawn.setdefault(value, set()).add(float(torch.rand(1 + value)[0]))

    example()
    example()

    assert drawn
    assert all(len(numbers) == 1 for numbers in drawn.values())
