import pytest

from lifecycle_builders import changed_run, lifecycle_study, make_run, make_scores, make_training
from lords_bench.errors import RecordError
from lords_bench.records import LifecycleRecord
from lords_bench.report.document import Answer, Paragraph
from lords_bench.stats import PairedVerdict
from lords_bench.suites.lifecycle.judge import (
    PAPER_QUESTIONS,
    QUESTIONS,
    answer,
    difference,
    paper_answer,
    select_lifecycle,
)
from lords_bench.suites.lifecycle.page import lifecycle_page


def study(without: str = "nothing") -> list[LifecycleRecord]:
    return [record for record in lifecycle_study() if without not in record.case_id]


def swapped(first: str, second: str) -> list[LifecycleRecord]:
    """The study with the samples of two fine-tuning methods exchanged."""
    records = {record.case_id: record for record in lifecycle_study()}
    samples = {
        case_id: records[case_id.replace(first, "*").replace(second, first).replace("*", second)].samples
        for case_id in records
        if case_id.startswith((f"peft-{first}-", f"peft-{second}-"))
    }
    return [changed_run(record, samples=samples.get(record.case_id, record.samples)) for record in records.values()]


def test_a_record_that_is_there_twice_is_one_and_no_older_one() -> None:
    records = study()

    assert select_lifecycle([*records, *records]) == select_lifecycle(records)


def test_the_answer_follows_the_records_whichever_way_it_falls() -> None:
    asked = PAPER_QUESTIONS[1]

    losing, text = paper_answer(select_lifecycle(study())[0], asked)
    winning, other = paper_answer(select_lifecycle(swapped("lords", "qlora"))[0], asked)

    assert (losing, winning) == (PairedVerdict.WORSE, PairedVerdict.BETTER)
    assert text.startswith("No, it is worse: ")
    assert "LoRDS forgot less" in text
    assert other.startswith("Yes: ")
    assert "LoRDS forgot more" in other


def test_a_question_without_its_pair_is_not_answered() -> None:
    outcome, text = paper_answer(select_lifecycle(study(without="qat-block"))[0], PAPER_QUESTIONS[0])

    assert outcome is None
    assert text == "Not measured: the records hold no such pair at 3 bits."


def test_the_result_of_a_group_is_its_best_validated_rate_with_every_seed() -> None:
    group = select_lifecycle(study())[0].group("qat", "lords", 3)

    assert group is not None
    assert group.best_rate == 1e-4
    assert [run.training_seed for run in group.runs] == [0, 1, 2]
    assert not group.is_at_edge


def test_a_rate_is_not_chosen_by_the_test_text() -> None:
    """The run with the better test text has the worse validation text."""

    def searched(rate: float, *, validation: float, test: float) -> LifecycleRecord:
        scores = (
            make_scores(split="validation", window_nll_nats=(validation,) * 3),
            make_scores(window_nll_nats=(test,) * 3),
        )
        return make_run(f"qat-lords-b3-lr{rate:g}", learning_rate=rate, samples=make_training(scores=scores))

    records = [searched(1e-4, validation=100.0, test=200.0), searched(1e-3, validation=110.0, test=50.0)]

    group = select_lifecycle(records)[0].group("qat", "lords", 3)

    assert group is not None
    assert group.best_rate == 1e-4
    assert group.is_at_edge


def test_a_seed_at_another_rate_is_not_averaged_in() -> None:
    records = [
        changed_run(record, learning_rate=1e-3) if record.case_id == "qat-lords-b3-seed2" else record
        for record in study()
    ]

    group = select_lifecycle(records)[0].group("qat", "lords", 3)

    assert group is not None
    assert [run.training_seed for run in group.runs] == [0, 1]


def test_half_a_search_is_compared_with_nothing() -> None:
    blocks = lifecycle_page(study(without="peft-qlora-b4-lr0.1")).articles[0].sections[0].blocks

    group = select_lifecycle(study(without="peft-qlora-b4-lr0.1"))[0].group("peft", "qlora", 4)
    assert group is not None
    assert group.runs == ()
    texts = [str(block.text) for block in blocks if isinstance(block, Answer | Paragraph)]
    assert texts[1].startswith("Not measured")
    assert any("did not end, so compared with nothing: QLoRA" in text for text in texts)


def test_seeds_that_only_one_side_has_are_left_out_of_a_difference() -> None:
    evaluation = select_lifecycle(study(without="peft-qlora-b4-seed"))[0]
    lords, qlora = evaluation.group("peft", "lords", 4), evaluation.group("peft", "qlora", 4)

    assert lords is not None
    assert qlora is not None
    found = difference(lords.runs, qlora.runs, "shifted")

    assert found is not None
    assert found == difference(lords.runs[:1], qlora.runs, "shifted")


def test_a_made_up_effect_is_found_with_its_sign() -> None:
    evaluation = select_lifecycle(study())[0]

    found = answer(evaluation, QUESTIONS[0], 3)

    assert found is not None
    assert found.interval.estimate == pytest.approx(-0.006, abs=0.001)
    assert found.outcome is PairedVerdict.BETTER


def test_other_samples_give_another_page() -> None:
    first, second = (lifecycle_page(records).articles[0] for records in (study(), swapped("lords", "qlora")))

    assert first.sections[0].blocks[:2] != second.sections[0].blocks[:2]


def test_no_record_is_refused_with_the_remedy() -> None:
    with pytest.raises(RecordError, match="run 'lords-bench bench lifecycle' first"):
        lifecycle_page([])
