"""Searches judged on recorded tables: measured ones of a CPU workload, and predicted ones of kernels' machine code."""

from pathlib import Path

import pytest

from lords_bench.errors import RecordError
from lords_bench.records.tuning_table import TuningTable
from lords_bench.tuning.replay import Replay, guesses_for, read_tables, regret_curve
from lords_bench.tuning.strategies import DEFAULT, SEARCH_SHARE, search_budget

FOLDER = Path(__file__).parents[3] / "reports" / "tuning"
TABLES = [table for name in ("cpu", "predicted") for table in read_tables(FOLDER / f"{name}.jsonl")]
SEEDS = range(2)


@pytest.mark.parametrize("table", TABLES, ids=[f"{table.evidence} {table.label}" for table in TABLES])
def test_the_default_search_comes_within_three_percent_of_the_best_after_fifteen_percent_of_the_space(
    table: TuningTable,
) -> None:
    tries = search_budget(DEFAULT, len(table.rows))
    replay = Replay(table, guesses_for(table))

    regrets = [regret_curve(replay, DEFAULT, seed=seed, tries=tries)[-1] for seed in SEEDS]

    assert tries <= SEARCH_SHARE * len(table.rows)
    assert max(regrets) <= 0.03


def test_a_random_search_does_not_pass_the_same_test() -> None:
    """Else the tables would be too easy to judge a search on."""
    failed = 0
    for table in TABLES:
        tries = search_budget(DEFAULT, len(table.rows))
        failed += any(regret_curve(Replay(table), "random", seed=seed, tries=tries)[-1] > 0.03 for seed in SEEDS)

    assert failed >= len(TABLES) // 3


def test_tables_say_what_their_times_are() -> None:
    assert {(table.evidence, table.key.kernel, table.timer) for table in TABLES} == {
        ("measured", "cpu_product", "thread-cpu-time"),
        ("predicted", "rank_expanded", "machine-code model"),
        ("predicted", "scale_tile", "machine-code model"),
    }


def test_an_exhaustive_search_ends_with_no_regret() -> None:
    table = TABLES[-1]

    assert regret_curve(Replay(table), "exhaustive", seed=0, tries=len(table.rows))[-1] == 0


def test_regret_never_grows() -> None:
    curve = regret_curve(Replay(TABLES[0]), "random", seed=1, tries=40)

    assert list(curve) == sorted(curve, reverse=True)


def test_an_edited_table_is_refused_with_its_line(tmp_path: Path) -> None:
    lines = (FOLDER / "predicted.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"status":"ok"', '"status":"OK"', 1)
    path = tmp_path / "predicted.jsonl"
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(RecordError, match=r"line 2: checksum does not fit"):
        read_tables(path)


def test_a_missing_file_of_tables_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"record one with `python -m \S+\.tuning_tables`"):
        read_tables(tmp_path / "none.jsonl")
