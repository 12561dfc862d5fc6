from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lords_bench.errors import LordsBenchError, ModelError, SpecError, StoreError, UsageError, WeightError
from lords_bench.quant import QuantSpec
from lords_bench.records import AccuracySamples, RecordStore, Status, read_records
from lords_bench.suites.accuracy.cases import Case, Suite
from lords_bench.suites.accuracy.run import Run, run_suite
from lords_bench.terminal import Watcher
from record_builders import make_environment, make_inputs, make_samples


def make_case(case_id: str, *specs: QuantSpec) -> Case:
    return Case(case_id=case_id, method=case_id, bits=4 if specs else None, specs=specs)


SUITE = Suite(
    name="accuracy",
    cases=(
        make_case("unquantized"),
        make_case("nf4", QuantSpec(method="nf4")),
        make_case("lords", QuantSpec(method="lords")),
    ),
)
RUN = Run(run_id="r1", inputs=make_inputs(), environment=make_environment(), command="lords-bench bench", seed=0)


class Measuring:
    """A `measure` that notes its cases and raises what it is told to."""

    def __init__(self, errors: dict[str, BaseException] | None = None) -> None:
        self.seen: list[str] = []
        self._errors = errors or {}

    def __call__(self, case: Case, advance: Callable[[float], None]) -> AccuracySamples:
        self.seen.append(case.case_id)
        advance(0.5)
        if case.case_id in self._errors:
            raise self._errors[case.case_id]
        return make_samples()


class Watching(Watcher):
    """A watcher that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def begin(self, name: str) -> None:
        self.told.append(("begin", name))

    def advance(self, fraction: float) -> None:
        self.told.append(("advance", fraction))

    def end(self, name: str, failures: Sequence[str] | None) -> None:
        self.told.append(("end", None if failures is None else (name, *failures)))


def run(folder: Path, measure: Measuring, *, run: Run = RUN, suite: Suite = SUITE, resume: bool = True) -> list[str]:
    """Runs the suite and returns the statuses of its records."""
    with RecordStore(folder / "accuracy.jsonl") as store:
        records = run_suite(suite, run, measure=measure, store=store, watcher=Watching(), resume=resume)
    return [record.status for record in records]


def stored(folder: Path) -> list[tuple[str, Status]]:
    return [(record.case_id, record.status) for record in read_records(folder / "accuracy.jsonl").records]


def test_every_case_leaves_one_record_with_its_provenance(tmp_path: Path) -> None:
    run(tmp_path, Measuring())

    records = read_records(tmp_path / "accuracy.jsonl").records
    assert [record.case_id for record in records] == ["unquantized", "nf4", "lords"]
    assert records[0].spec is None
    assert records[1].spec == QuantSpec(method="nf4")
    assert {record.planned_case_ids for record in records} == {("unquantized", "nf4", "lords")}
    assert {record.inputs for record in records} == {RUN.inputs}


def test_a_second_run_measures_nothing_and_returns_the_same_records(tmp_path: Path) -> None:
    run(tmp_path, Measuring())
    again = Measuring()

    statuses = run(tmp_path, again, run=replace(RUN, run_id="r2"))

    assert again.seen == []
    assert statuses == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    "changed",
    [
        replace(RUN, inputs=make_inputs(corpus_sha256="d" * 64)),
        replace(RUN, inputs=make_inputs(model_sha256="d" * 64)),
        replace(RUN, environment=make_environment(source_sha256="d" * 64)),
        replace(RUN, environment=make_environment(torch="2.11.0")),
    ],
    ids=["corpus", "model", "source", "torch"],
)
def test_other_inputs_source_or_versions_are_measured_again(tmp_path: Path, changed: Run) -> None:
    run(tmp_path, Measuring())
    again = Measuring()

    run(tmp_path, again, run=changed)

    assert again.seen == ["unquantized", "nf4", "lords"]


def test_a_fresh_run_measures_what_is_complete(tmp_path: Path) -> None:
    run(tmp_path, Measuring())
    again = Measuring()

    run(tmp_path, again, resume=False)

    assert again.seen == ["unquantized", "nf4", "lords"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ZeroDivisionError("a defect"), RuntimeError("another"), StoreError("disk full")]
)
def test_what_was_complete_survives_the_end_of_a_run(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(tmp_path, Measuring({"lords": error}))
    again = Measuring()

    run(tmp_path, again)

    assert again.seen == ["lords"]
    assert stored(tmp_path) == [("unquantized", "ok"), ("nf4", "ok"), ("lords", "ok")]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (WeightError("layer x: block 48 does not divide K = 64"), Status.UNSUPPORTED),
        (SpecError("layer x: rank 9 is too high"), Status.UNSUPPORTED),
        (ModelError("probabilities are not finite"), Status.INCORRECT),
        (MemoryError("not enough"), Status.OUT_OF_MEMORY),
    ],
)
def test_a_case_that_cannot_be_done_is_recorded_with_its_reason_and_the_run_goes_on(
    tmp_path: Path, error: Exception, status: Status
) -> None:
    statuses = run(tmp_path, Measuring({"nf4": error}))

    assert statuses == ["ok", status, "ok"]
    assert read_records(tmp_path / "accuracy.jsonl").records[1].reason == str(error)


def test_a_case_that_failed_is_tried_again(tmp_path: Path) -> None:
    run(tmp_path, Measuring({"nf4": WeightError("no")}))
    again = Measuring()

    statuses = run(tmp_path, again)

    assert again.seen == ["nf4"]
    assert statuses == ["ok", "ok", "ok"]


def test_an_error_that_is_not_about_the_case_ends_the_run(tmp_path: Path) -> None:
    error: LordsBenchError = UsageError("lm-eval is not installed")

    with pytest.raises(UsageError, match="lm-eval is not installed"):
        run(tmp_path, Measuring({"nf4": error}))

    assert stored(tmp_path) == [("unquantized", "ok")]


def test_the_watcher_is_told_of_every_case_in_order(tmp_path: Path) -> None:
    watcher = Watching()
    with RecordStore(tmp_path / "accuracy.jsonl") as store:
        only_first = Suite(name="accuracy", cases=SUITE.cases[:1])
        run_suite(only_first, RUN, measure=Measuring(), store=store, watcher=Watching())

        measuring = Measuring({"lords": SpecError("rank 7")})
        run_suite(SUITE, RUN, measure=measuring, store=store, watcher=watcher)

    assert watcher.told == [
        ("end", None),
        ("begin", "nf4"),
        ("advance", 0.5),
        ("end", ("nf4",)),
        ("begin", "lords"),
        ("advance", 0.5),
        ("end", ("lords", "lords: unsupported: rank 7")),
    ]


def test_mixed_precision_is_recorded_layer_by_layer(tmp_path: Path) -> None:
    specs = (QuantSpec(method="nf4"), QuantSpec(method="nf2"))
    suite = Suite(name="accuracy", cases=(Case(case_id="mixed", method="mixed", bits=3, specs=specs),))

    run(tmp_path, Measuring(), suite=suite)

    record = read_records(tmp_path / "accuracy.jsonl").records[0]
    assert record.spec is None
    assert record.mixed == (("a", specs[0]), ("b", specs[1]))
