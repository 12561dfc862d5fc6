"""The pages of costs and checks say what the records say: totals, goals kept and missed, what is missing."""

from dataclasses import replace

import pytest

from cost_builders import make_check, make_cost_run, make_ptq, make_step
from lords_bench.errors import RecordError
from lords_bench.records.check import check_folder, check_key
from lords_bench.records.status import Status
from lords_bench.records.store import RejectedLine
from lords_bench.report.checks import checks_page
from lords_bench.report.render import markdown
from lords_bench.suites.cost.page import cost_page
from record_builders import make_environment


def cost_text(*records: object, rejected: tuple[RejectedLine, ...] = ()) -> str:
    return markdown(cost_page(records, rejected))  # type: ignore[arg-type]


def checks_text(*records: object, rejected: tuple[RejectedLine, ...] = ()) -> str:
    return markdown(checks_page(records, rejected))  # type: ignore[arg-type]


def test_a_whole_model_within_the_goal_says_so() -> None:
    text = cost_text(make_ptq("a", seconds=100.0), make_ptq("b", seconds=70.0))

    assert "**lords: 2 layers in 2 min 50 s, at most 1.00 GiB beside a weight. Within the goal of 3 min 0 s.**" in text
    assert "| 4096 × 4096 | 2 | 32 | 85000 ms | 100000 ms | 2 min 50 s | 1.00 GiB | 0.00700 | 4.250 |" in text


def test_a_missed_goal_is_said_as_plainly() -> None:
    assert "The goal of 3 min 0 s is missed." in cost_text(make_ptq("a", seconds=100.0), make_ptq("b", seconds=90.0))


@pytest.mark.parametrize(
    "run",
    [
        make_cost_run(scale=2),
        make_cost_run(settings=(("bits", 4), ("blocks", 1))),
        make_cost_run(environment=make_environment()),
    ],
    ids=["smaller", "fewer blocks", "cpu"],
)
def test_a_goal_is_spoken_of_only_for_the_whole_model_on_a_gpu(run: object) -> None:
    assert "goal" not in cost_text(make_ptq("a", run=run), make_ptq("b", run=run))


def test_layers_that_were_not_reached_or_failed_are_counted_and_named() -> None:
    failed = make_ptq("b", status=Status.OUT_OF_MEMORY, seconds=None, reason="no memory")

    text = cost_text(make_ptq("a"), failed)

    assert "lords: 1 layers (of 2 planned; the others were not reached or failed) in 0.5 s" in text
    assert r"- b: out\_of\_memory: no memory" in text


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (90.0, "is faster than QLoRA's: 0.90 times as long (0.90 … 0.90); the goal of at most 1.3 times is kept"),
        (120.0, "is slower than QLoRA's: 1.20 times as long (1.20 … 1.20); the goal of at most 1.3 times is kept"),
        (150.0, "is slower than QLoRA's: 1.50 times as long (1.50 … 1.50); the goal of at most 1.3 times is missed"),
        (100.0, "takes as long as QLoRA's"),
    ],
)
def test_a_step_is_judged_in_words(milliseconds: float, words: str) -> None:
    assert words in cost_text(make_step("lords", milliseconds), make_step("qlora-peft", 100.0))


@pytest.mark.parametrize(("held", "word"), [(1, "less"), (2**31, "more"), (2**30, "as much")])
def test_peak_memory_is_compared_in_words(held: int, word: str) -> None:
    text = cost_text(make_step("lords", 100.0, held_bytes=held), make_step("qlora-peft", 100.0))

    assert f"Its peak memory is {word}: " in text


def test_a_record_that_is_there_twice_is_one_and_no_older_one() -> None:
    records = make_step("lords", 90.0), make_step("qlora-peft", 100.0)

    assert cost_text(*records, *records) == cost_text(*records)


def test_steps_of_different_runs_are_not_compared() -> None:
    run = make_cost_run(run_id="earlier", model="llama-3.2-1b")
    earlier = make_step("qlora-peft", 100.0, run=run, created_utc="2026-01-30T12:00:00Z")

    text = cost_text(earlier, make_step("lords", 90.0))

    assert "No verdict: lords and qlora-peft have no samples taken together." in text
    assert "1 older records of the file are not shown" in text


def test_a_baseline_that_failed_is_named() -> None:
    failed = make_step(
        "qlora-peft", 1.0, status=Status.UNSUPPORTED, seconds=None, measurement=None, reason="bitsandbytes is absent"
    )

    assert "- `qlora-peft`: unsupported: bitsandbytes is absent" in cost_text(make_step("lords", 90.0), failed)


def test_an_older_result_of_a_layer_gives_way() -> None:
    text = cost_text(
        make_ptq("a", seconds=100.0, created_utc="2026-01-30T12:00:00Z"), make_ptq("a", seconds=1.0), make_ptq("b")
    )

    assert "lords: 2 layers in 1.5 s" in text


def test_no_records_are_refused_and_damaged_lines_are_named() -> None:
    with pytest.raises(RecordError, match="no cost record"):
        cost_page(())
    with pytest.raises(RecordError, match="no check record"):
        checks_page(())
    rejected = (RejectedLine(line=3, reason="torn"),)
    assert "Line 3 of the record file is not used: torn." in cost_text(make_ptq(), rejected=rejected)
    assert "Line 3 of the record file is not used: torn." in checks_text(make_check(), rejected=rejected)


def test_checks_are_counted_by_kernel_and_every_wrong_one_is_named() -> None:
    wrong = make_check(case="b", status=Status.INCORRECT, reason="error is 2 times its bound", worst=2.0)
    refused = make_check(case="c", status=Status.UNSUPPORTED, reason="too many tokens", worst=None)

    text = checks_text(make_check(case="a"), wrong, refused)

    assert (
        "**Against float64: 1 of 2 right, 1 refused. 3 were made; how many were planned is not recorded. "
        "compute-sanitizer memcheck: not run."
    ) in text
    assert "| `scale_tile` | 1 | 1 | 1 | 2.000 |" in text
    assert "- `scale_tile` b: incorrect: error is 2 times its bound" in text
    assert "too many tokens" not in text


def test_a_tool_that_does_not_work_is_said_in_its_own_words() -> None:
    absent = make_check(tool="memcheck", status=Status.UNSUPPORTED, reason="Device not supported", worst=None)

    text = checks_text(make_check(), absent, make_check(tool="racecheck", worst=None))

    assert "compute-sanitizer memcheck: could not run here (Device not supported)." in text
    assert "compute-sanitizer racecheck: 1 of 1 right." in text


def test_a_check_that_was_cut_short_says_how_many_were_not_reached() -> None:
    short = checks_text(make_check(case="a", planned=990), make_check(case="b", planned=990))
    whole = checks_text(make_check(case="a", planned=2), make_check(case="b", planned=2))

    assert "2 of 2 right. 988 of 990 planned were not reached. compute-sanitizer" in short
    assert "2 of 2 right. compute-sanitizer" in whole


def test_an_emulated_check_says_so_and_what_it_does_not_count() -> None:
    emulated = make_check(
        environment=make_environment(), emulated="sm_90", not_counted=("a fence: left out by Triton",)
    )

    text = checks_text(emulated)

    assert text.startswith(
        "# Are the kernels right, compiled for sm\\_90 and executed in an emulator, not run on a GPU?"
    )
    assert "- Not counted: a fence: left out by Triton" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tool": "racecheck", "worst": None, "emulated": "sm_90"}, "racecheck does not run on the emulated sm_90"),
        ({"not_counted": ("a fence",)}, "name what is emulated"),
    ],
)
def test_an_emulated_check_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        make_check(**changes)


def test_checks_on_a_gpu_and_emulated_ones_never_stand_for_each_other() -> None:
    environment = make_environment()

    assert len({check_key(environment), *(check_key(environment, name) for name in ("sm_80", "sm_90"))}) == 3
    assert check_folder(replace(environment, triton="3.6.0"), "sm_90") == "emulated-sm_90-triton-3.6.0"


def test_a_check_of_other_source_is_not_shown() -> None:
    old = make_check(environment=replace(make_check().environment, source_sha256="6" * 64), status=Status.CRASH,
                     reason="no", worst=None, created_utc="2026-01-30T12:00:00Z")  # fmt: skip

    text = checks_text(old, make_check())

    assert "Against float64: 1 of 1 right." in text
    assert "1 checks of other source or versions" in text
