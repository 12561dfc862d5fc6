"""The protocol on the fake device: what is measured, what is refused, and why sampling ends."""

import pytest

from lords_bench.errors import UsageError
from lords_bench.records.status import Status
from lords_bench.stats.verdict import Verdict
from lords_bench.timing.comparison import Policy
from lords_bench.timing.fake import FakeDevice, fake_candidate
from lords_bench.timing.protocol import compare

TRUTH = {"base": 10_000.0, "same": 10_000.0, "slow": 10_400.0, "fast": 8_000.0}


def test_verdicts_follow_the_truth() -> None:
    candidates = [fake_candidate(name) for name in TRUTH]

    found = compare(FakeDevice(truth_ns=TRUTH), candidates, baseline="base")

    assert {name: found.judge(name).verdict for name in ("same", "slow", "fast")} == {
        "same": Verdict.SAME,
        "slow": Verdict.SLOWER,
        "fast": Verdict.FASTER,
    }
    assert found.stopped == "precise"


def test_a_candidate_that_computes_the_wrong_thing_has_no_number() -> None:
    wrong = fake_candidate("fast", check=lambda: "element 3 is nan")

    found = compare(FakeDevice(truth_ns=TRUTH), [fake_candidate("base"), wrong], baseline="base")

    outcome = found.outcome("fast")
    assert (outcome.status, outcome.measurement, outcome.reason) == (Status.INCORRECT, None, "element 3 is nan")
    assert found.judge("fast").verdict is Verdict.INVALID


def test_a_baseline_that_is_no_candidate_is_refused() -> None:
    with pytest.raises(UsageError, match="'nothing' is not among the candidates base"):
        compare(FakeDevice(truth_ns=TRUTH), [fake_candidate("base")], baseline="nothing")


def test_sampling_ends_with_the_budget_after_at_least_six_rounds() -> None:
    policy = Policy(budget_s=1e-9)

    found = compare(FakeDevice(truth_ns=TRUTH), [fake_candidate("base")], baseline="base", policy=policy)

    assert found.stopped == "budget"
    assert found.outcome("base").measurement is not None
    assert found.outcome("base").measurement.n == 6
