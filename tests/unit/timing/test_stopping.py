"""When sampling ends, and what makes a batch unusable."""

import pytest

from lords_bench.timing.comparison import Policy
from lords_bench.timing.device import Border
from lords_bench.timing.stopping import BUDGET, MAX_ROUNDS, PRECISE, SETTLED, StoppingRule, cause_between

Ended = tuple[str | None, int]


def ended(policy: Policy, width_at: dict[int, float], *, seconds_per_round: float = 0.0) -> Ended:
    """Why a run ends and after how many rounds, where the width after n rounds is that of the last entry up to n."""
    rule = StoppingRule(policy)
    for rounds in range(1, policy.max_rounds + 1):
        width = next((width for count, width in sorted(width_at.items(), reverse=True) if count <= rounds), None)
        reason = rule.reached(rounds, rounds * seconds_per_round, lambda width=width: width)  # type: ignore[misc]
        if reason:
            return reason, rounds
    return None, policy.max_rounds


def test_a_narrow_interval_ends_the_run_at_the_least_number_of_rounds() -> None:
    assert ended(Policy(), {1: 0.001}) == (PRECISE, 30)


def test_an_interval_that_narrows_late_ends_the_run_late() -> None:
    reason, rounds = ended(Policy(), {1: 0.02, 60: 0.004})

    assert reason == PRECISE
    assert 60 <= rounds <= 70


def test_an_interval_that_no_longer_narrows_ends_the_run() -> None:
    reason, rounds = ended(Policy(), {1: 0.02})

    assert reason == SETTLED
    assert 120 <= rounds <= 140


def test_an_interval_that_narrows_as_it_should_is_not_settled() -> None:
    widths = {count: 0.1 / count**0.5 for count in range(1, 1000)}

    assert ended(Policy(), widths)[0] == PRECISE


def test_the_budget_ends_the_run_but_not_before_six_rounds() -> None:
    assert ended(Policy(budget_s=1.0), {1: 0.02}, seconds_per_round=0.1) == (BUDGET, 10)
    assert ended(Policy(budget_s=1.0), {1: 0.02}, seconds_per_round=9.0) == (BUDGET, 6)


def test_rounds_without_an_interval_end_at_the_most() -> None:
    assert ended(Policy(max_rounds=100), {}) == (MAX_ROUNDS, 100)


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (Border(violation_ns=5), Border(violation_ns=5), None),
        (Border(violation_ns=5), Border(violation_ns=6), "heat or a board limit held the clock down"),
        (Border(at_ns=0, violation_ns=0), Border(at_ns=1000, violation_ns=20), None),
        (
            Border(at_ns=0, violation_ns=0),
            Border(at_ns=1000, violation_ns=21),
            "heat or a board limit held the clock down",
        ),
        (Border(), Border(violation_ns=6), None),
        (Border(violation_ns=5), Border(), None),
        (Border(power_cap_ns=5), Border(power_cap_ns=9), None),
        (Border(), Border(foreign=("process 7",)), "another process computed on the device: process 7"),
    ],
)
def test_a_batch_is_unusable_for_a_cause_alone(before: Border, after: Border, cause: str | None) -> None:
    assert cause_between(before, after) == cause
