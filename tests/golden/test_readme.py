"""Every figure of the README's results is that of the committed records."""

import re
from collections.abc import Iterator

import pytest

from architecture.import_map import ROOT
from lords_bench.records import LifecycleRecord, read_nouns, read_records
from lords_bench.report.document import Article, Cell, Table
from lords_bench.suites.accuracy.page import accuracy_page
from lords_bench.suites.lifecycle.page import lifecycle_page

README = (ROOT / "README.md").read_text("utf-8")
RECORDS = ROOT / "reports/records/cpu"
BITS = (4, 3, 2)
QUESTIONS = {"QAT": "After QAT: LoRDS against {}", "Fine-tuning": "After fine-tuning: LoRDS against {}"}


@pytest.fixture(scope="module")
def accuracy() -> Article:
    return accuracy_page(read_records(RECORDS / "accuracy.jsonl").records, has_figures=False).articles[0]


@pytest.fixture(scope="module")
def lifecycle() -> Article:
    return lifecycle_page(read_nouns(RECORDS / "lifecycle.jsonl", LifecycleRecord).records).articles[0]


def rows_below(header: str, text: str = README) -> Iterator[list[str]]:
    """Cells of the table whose header line begins so."""
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(header))
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def tables_of(article: Article) -> list[Table]:
    return [block for section in article.sections for block in section.blocks if isinstance(block, Table)]


def method_row(article: Article, method: str, bits: int) -> tuple[Cell, ...]:
    """Name, need of calibration, bits per weight and KL, as a result of that many bits."""
    results = next(table for table in tables_of(article) if table.label == "Results")
    groups = [rows for group, rows in results.groups_in("markdown") if group.title.startswith(f"{bits} bits ·")]
    return next(cells for rows in groups for cells in rows if cells[0].text == method)


def wrong_kl(article: Article, cells: list[str]) -> list[str]:
    """What a row of the first table says other than the records."""
    names = re.findall(r"`([^`]+)`", cells[0])
    wrong = []
    for index, bits in enumerate(BITS):
        method = names[index] if len(names) > 1 else names[0]
        _, calibration, stored, kl = method_row(article, method, bits)[:4]
        expected = f"{kl.text} ({kl.detail})"
        wrong += [] if cells[2 + index] == expected else [f"{cells[2 + index]} is {expected}"]
        wrong += [] if cells[1] == calibration.text else [f"{method}: calibration"]
        wrong += [] if abs(float(str(stored.text)) - bits - 0.25) < 0.002 else [f"{method}: bits"]
    return wrong


def cell_of(article: Article, title: str, row: str, column: int) -> Cell:
    """The cell of the table whose title begins so, in the row of that name."""
    table = next(table for table in tables_of(article) if (table.title or table.label).startswith(title))
    return next(cells[column] for _, rows in table.groups_in("html") for cells in rows if cells[0].text == row)


def wrong_training(article: Article, cells: list[str]) -> list[str]:
    """What a row of the second table says other than the records."""
    stage, bits = cells[0].split(", ")
    title = f"{'QAT on the base domain' if stage == 'QAT' else stage} · {bits}"
    baseline, _, value = cells[2].rpartition(" ")
    asked = cell_of(article, "Every question", QUESTIONS[stage].format(baseline), 1 + BITS.index(int(bits[0])))
    expected = {
        cells[1]: cell_of(article, title, "LoRDS", 3).text,
        value: cell_of(article, title, baseline, 3).text,
        cells[3]: f"{asked.word} {asked.text} ({asked.detail})",
    }
    return [f"{said} is {found}" for said, found in expected.items() if said != found]


def test_every_divergence_is_that_of_the_records(accuracy: Article) -> None:
    rows = list(rows_below("| method | needs calibration |"))

    assert len(rows) == 7
    assert [wrong for row in rows for wrong in wrong_kl(accuracy, row)] == []


def test_every_training_result_is_that_of_the_records(lifecycle: Article) -> None:
    rows = list(rows_below("| stage | LoRDS |"))

    assert len(rows) == 9
    assert [wrong for row in rows for wrong in wrong_training(lifecycle, row)] == []


@pytest.mark.parametrize(
    ("question", "bits"),
    [
        ("LoRDS against NormalFloat blocks", BITS),
        ("LoRDS against optimised blocks", (3, 2)),
        ("LoRDS with error feedback against GPTQ", BITS),
        ("LoRDS with error feedback against the same recipe on blocks", (3, 2)),
    ],
)
def test_every_change_among_the_findings_is_that_of_the_records(
    accuracy: Article, question: str, bits: tuple[int, ...]
) -> None:
    answers = [cell_of(accuracy, "Verdict by question", question, 1 + BITS.index(number)) for number in bits]

    assert {answer.word for answer in answers} == {"better"}
    assert f"{', '.join(str(answer.text) for answer in answers)})" in README


def test_the_figures_in_the_text_are_those_of_the_records(accuracy: Article, lifecycle: Article) -> None:
    stored = [float(str(method_row(accuracy, "int-rtn", bits)[2].text)) for bits in BITS]
    extra = [value - bits - 0.25 for value, bits in zip(stored, BITS, strict=True)]
    same_bits = cell_of(lifecycle, "Fine-tuning · 4 bits", "LoRDS of higher rank", 3).text

    text = " ".join(README.split())
    assert f"which store {min(extra):.2f} to {max(extra):.2f} bits more" in text
    assert f"at {stored[2]:.2f} bits reach {method_row(accuracy, 'int-rtn', 2)[3].text}, below data-free" in text
    assert f"as many bits as QLoRA at 4 bits ({same_bits})" in text


def test_a_wrong_figure_is_found(accuracy: Article, lifecycle: Article) -> None:
    quantized = ["`lords`", "no", "3.92 (3.69 … 4.15)", "16.7 (15.9 … 17.5)", "129 (121 … 137)"]
    trained = ["QAT, 3 bits", "1.5065", "NormalFloat blocks 1.5066", "not resolved −0.0002 (−0.0027 … +0.0023)"]

    assert wrong_kl(accuracy, quantized) == ["3.92 (3.69 … 4.15) is 3.93 (3.69 … 4.15)"]
    assert wrong_training(lifecycle, trained) == ["1.5066 is 1.5067"]
