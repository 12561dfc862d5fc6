"""A file has one reason to exist and at most 600 lines."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from architecture.import_map import ROOT

LIMIT_LINES = 600
FOLDERS = ("lords_bench", "kernels", "reference", "suites", "tests")

# A file that is longer for a good reason: its own limit, and the reason.
EXCEPTIONS: dict[str, tuple[int, str]] = {}


def line_counts() -> Iterator[tuple[str, int]]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):  # does not follow the links: each file is counted once
            yield path.relative_to(ROOT).as_posix(), len(path.read_text("utf-8").splitlines())
    yield "noxfile.py", len((ROOT / "noxfile.py").read_text("utf-8").splitlines())


def too_long(counts: Mapping[str, int], exceptions: Mapping[str, tuple[int, str]]) -> list[str]:
    limits = {name: exceptions.get(name, (LIMIT_LINES, ""))[0] for name in counts}
    return sorted(f"{name}: {count} lines" for name, count in counts.items() if count > limits[name])


def unneeded(counts: Mapping[str, int], exceptions: Mapping[str, tuple[int, str]]) -> list[str]:
    return sorted(name for name in exceptions if counts.get(name, 0) <= LIMIT_LINES)


def test_no_file_is_longer_than_its_limit() -> None:
    assert too_long(dict(line_counts()), EXCEPTIONS) == []


def test_every_exception_is_needed_and_has_a_reason() -> None:
    assert unneeded(dict(line_counts()), EXCEPTIONS) == []
    assert [name for name, (_, reason) in EXCEPTIONS.items() if not reason.strip()] == []


def test_all_code_is_counted() -> None:
    counted = dict(line_counts())

    assert {"lords_bench/errors.py", "reference/codebooks.py", "suites/testbed/corpus.py", "noxfile.py"} <= set(counted)
    assert Path(__file__).relative_to(ROOT).as_posix() in counted


# The guards can fail.


def test_a_line_too_many_is_found() -> None:
    assert too_long({"a.py": 601, "b.py": 600}, {}) == ["a.py: 601 lines"]


def test_an_exception_raises_the_limit_to_its_own_value() -> None:
    assert too_long({"a.py": 650, "b.py": 651}, {"a.py": (650, "why"), "b.py": (650, "why")}) == ["b.py: 651 lines"]


def test_an_exception_for_a_short_or_missing_file_is_found() -> None:
    assert unneeded({"a.py": 600}, {"a.py": (650, "why"), "gone.py": (650, "why")}) == ["a.py", "gone.py"]
