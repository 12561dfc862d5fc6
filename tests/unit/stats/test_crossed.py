import numpy as np
import pytest

from lords_bench.errors import RecordError
from lords_bench.stats import PairedVerdict, crossed_difference, crossed_interval

CLUSTERS = tuple(range(20))
ONES = (1.0,) * 20


def covered(*, seed_spread: float, document_spread: float, trials: int = 400) -> float:
    """Share of made-up experiments, 3 seeds × 20 documents, whose interval holds the true mean 0."""
    stream = np.random.RandomState(0)
    hits = 0
    for _ in range(trials):
        table = stream.normal(0, seed_spread, (3, 1)) + stream.normal(0, document_spread, (1, 20))
        interval = crossed_interval([list(row) for row in table], ONES, clusters=CLUSTERS)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0 <= interval.high
    return hits / trials


# 400 trials: a true coverage of 95 % shows at least 91.7 % in 999 of 1000 experiments (binomial).
@pytest.mark.parametrize(("seed_spread", "document_spread"), [(1.0, 0.01), (0.01, 1.0), (0.3, 1.0)])
def test_the_interval_covers_the_truth_whichever_varies_more(seed_spread: float, document_spread: float) -> None:
    assert covered(seed_spread=seed_spread, document_spread=document_spread) >= 0.917


def test_documents_alone_would_be_too_sure_where_seeds_vary() -> None:
    rows = [[1.0] * 20, [0.0] * 20, [-0.5] * 20]

    interval = crossed_interval(rows, ONES, clusters=CLUSTERS)

    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 0 < interval.high


def test_the_estimate_is_the_mean_over_seeds_of_ratios_of_sums() -> None:
    interval = crossed_interval([[2.0, 4.0, 6.0], [4.0, 8.0, 12.0]], [1.0, 2.0, 3.0], clusters=(0, 0, 1))

    assert interval.estimate == pytest.approx(3.0)


def test_one_cluster_allows_no_interval() -> None:
    interval = crossed_interval([[1.0, 2.0]], [1.0, 1.0], clusters=(0, 0))

    assert (interval.low, interval.high) == (None, None)


def test_a_difference_is_paired_by_seed_and_item() -> None:
    stream = np.random.RandomState(0)
    hard = stream.normal(10, 5, (3, 20))
    subject = [list(row - 0.1 + noise) for row, noise in zip(hard, stream.normal(0, 0.01, (3, 20)), strict=True)]

    difference = crossed_difference(subject, [list(row) for row in hard], ONES, clusters=CLUSTERS, lower_is_better=True)

    assert difference.outcome is PairedVerdict.BETTER
    assert difference.interval.estimate == pytest.approx(-0.1, abs=0.01)


def test_seeds_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(RecordError, match=r"\[20, 20\] against \[20\]"):
        crossed_difference([[1.0] * 20] * 2, [[1.0] * 20], ONES, clusters=CLUSTERS, lower_is_better=True)


def test_no_seed_is_refused() -> None:
    with pytest.raises(RecordError, match="over 0 seeds"):
        crossed_interval([], ONES, clusters=CLUSTERS)
