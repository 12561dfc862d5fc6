"""The accuracy gate believes nothing impossible: the committed records, corrupted in every way, are never green.

First a table of corruptions that were seen or thought of; then every field of a record, scaled, negated, zeroed or
renamed by machine. A field that may change freely stands in `FREE` with the reason.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from architecture.import_map import ROOT
from gate_builders import with_samples
from lords_bench.gate.accuracy import compare_accuracy
from lords_bench.gate.finding import LayerResult, Level, Located, exit_code
from lords_bench.records import AccuracySamples, BenchRecord
from lords_bench.records.store import read_nouns
from mutants import mutants

COMMITTED = Path("reports/records/cpu/accuracy.jsonl")
Records = list[BenchRecord]


@pytest.fixture(scope="module")
def committed() -> Records:
    return list(read_nouns(ROOT / COMMITTED, BenchRecord).records)


def judged(baseline: Sequence[BenchRecord], head: Sequence[BenchRecord], **options: Any) -> LayerResult:
    placed = [Located(record=record, place=f"{COMMITTED}#L{line}") for line, record in enumerate(baseline, start=1)]
    return compare_accuracy(placed, head, **options)


def samples_of(record: BenchRecord) -> AccuracySamples:
    assert record.samples is not None
    return record.samples


def plain_of(records: Records) -> AccuracySamples:
    return samples_of(next(record for record in records if record.bits is None))


def of_quantized(change: Callable[[BenchRecord, AccuracySamples], dict[str, Any]]) -> Callable[[Records], Records]:
    """Change the samples of every quantized record, given the unquantized model's."""

    def changed(records: Records) -> Records:
        plain = plain_of(records)
        return [record if record.bits is None else with_samples(record, **change(record, plain)) for record in records]

    return changed


def of_case(case_id: str, change: Callable[[BenchRecord, Records], BenchRecord]) -> Callable[[Records], Records]:
    """Change one record."""
    return lambda records: [change(record, records) if record.case_id == case_id else record for record in records]


def with_bits(extra: float) -> Callable[[Records], Records]:
    """So many bits per weight more in every layer."""

    def change(record: BenchRecord, _plain: AccuracySamples) -> dict[str, Any]:
        samples = samples_of(record)
        pairs = zip(samples.layer_stored_bytes, samples.layer_shapes, strict=True)
        return {"layer_stored_bytes": tuple(counted + round(extra * n * k / 8) for counted, (n, k) in pairs)}

    return of_quantized(change)


def never_swapped_in(record: BenchRecord, plain: AccuracySamples) -> dict[str, Any]:
    return {
        "window_kl_nats": tuple(0.0 for _ in samples_of(record).window_kl_nats),
        "window_nll_nats": plain.window_nll_nats,
        "choice_correct": plain.choice_correct,
    }


def nearer(share: float, *, weights: float = 1.0) -> Callable[[BenchRecord, AccuracySamples], dict[str, Any]]:
    """Divergence and loss of likelihood are `share` of what they were, weight errors `weights` of it."""

    def change(record: BenchRecord, plain: AccuracySamples) -> dict[str, Any]:
        samples = samples_of(record)
        pairs = zip(samples.window_nll_nats, plain.window_nll_nats, strict=True)
        return {
            "window_kl_nats": tuple(share * value for value in samples.window_kl_nats),
            "window_nll_nats": tuple(own + share * (ours - own) for ours, own in pairs),
            "layer_squared_error": tuple(weights * value for value in samples.layer_squared_error),
        }

    return change


def two_bad_windows(record: BenchRecord, _records: Records) -> BenchRecord:
    """The mean of KL doubles by two windows, which the likelihood shows too; error and answers move a little."""
    samples = samples_of(record)
    kl, nll = list(samples.window_kl_nats), list(samples.window_nll_nats)
    extra = sum(kl) / 2
    for index in (0, 7):
        kl[index] += extra
        nll[index] += extra
    error = tuple(1.001 * value for value in samples.layer_squared_error)
    return with_samples(
        record, window_kl_nats=tuple(kl), window_nll_nats=tuple(nll), layer_squared_error=error
    )  # fmt: skip


def choices(answer: Callable[[bool], bool]) -> Callable[[BenchRecord, Records], BenchRecord]:
    def change(record: BenchRecord, _records: Records) -> BenchRecord:
        return with_samples(record, choice_correct=tuple(map(answer, samples_of(record).choice_correct)))

    return change


def scaled_at(name: str, factor: float, index: int) -> Callable[[BenchRecord, Records], BenchRecord]:
    def change(record: BenchRecord, _records: Records) -> BenchRecord:
        values = list(getattr(samples_of(record), name))
        values[index] *= factor
        return with_samples(record, **{name: tuple(values)})

    return change


def without_last_window(record: BenchRecord, _plain: AccuracySamples) -> dict[str, Any]:
    samples = samples_of(record)
    return {
        name: getattr(samples, name)[:-1]
        for name in (f.name for f in fields(samples))
        if name.startswith("window_") and getattr(samples, name)
    }


def asked(**changes: Any) -> Callable[[BenchRecord, Records], BenchRecord]:
    def change(record: BenchRecord, _records: Records) -> BenchRecord:
        assert record.spec is not None
        return replace(record, spec=replace(record.spec, **changes))

    return change


def copied_from(case_id: str) -> Callable[[BenchRecord, Records], BenchRecord]:
    def change(record: BenchRecord, records: Records) -> BenchRecord:
        return replace(record, samples=next(other.samples for other in records if other.case_id == case_id))

    return change


def inputs(name: str) -> Callable[[Records], Records]:
    """Only the last digit of a hash differs."""

    def changed(records: Records) -> Records:
        old = getattr(records[0].inputs, name)
        new = old[:-1] + ("0" if old[-1] != "0" else "1")
        return [replace(record, inputs=replace(record.inputs, **{name: new})) for record in records]

    return changed


# Name: (corruption of this tree's records, exit code, what is said).
LISTED: dict[str, tuple[Callable[[Records], Records], int, str]] = {
    "quantized weights were never swapped in": (
        of_quantized(never_swapped_in), 2, "the model that was scored is not the one that was quantized",
    ),
    "KL is exactly 0 in one case": (
        of_case("lords-b3-g64", lambda record, _: with_samples(record, window_kl_nats=(0.0,) * 55)), 2,
        "KL of 0 nats per token at a weight error of 0.0286",
    ),
    "KL is exactly 0 in one window": (
        of_case("lords-b3-g64", scaled_at("window_kl_nats", 0.0, 3)), 2, "KL of 0 nats over the ",
    ),
    "norms of the weights doubled": (
        of_quantized(lambda record, _: {
            "layer_squared_norm": tuple(2 * value for value in samples_of(record).layer_squared_norm)
        }), 2, "the norms of their layers' own weights differ",
    ),
    "one norm doubled in one case": (
        of_case("lords-b3-g64", scaled_at("layer_squared_norm", 2.0, 0)), 2,
        "norms of their layers' own weights differ",
    ),
    "bits undercounted by 0.19": (with_bits(-0.19), 2, "its spec and shape 512×512 need 139264"),
    "0.0049 bits more everywhere": (with_bits(0.0049), 1, "bits per weight 4.250 → 4.255 (+0.005), +4"),
    "one byte less in one layer": (
        of_case("lords-b3-g64", lambda record, _: with_samples(
            record, layer_stored_bytes=(106495, *samples_of(record).layer_stored_bytes[1:])
        )), 2, "stores 106495 bytes",
    ),
    "another block under the same name": (
        of_case("lords-b3-g64", asked(block=128)), 2, "spec.block 128 here, 64 there",
    ),
    "another rank under the same name": (of_case("lords-b3-g64", asked(rank=4)), 2, "spec.rank 4 here, None there"),
    "another seed of the fit": (of_case("lords-b3-g64", asked(seed=1)), 2, "spec.seed 1 here, 0 there"),
    "another dtype of the scales": (
        of_case("lords-b3-g64", asked(scale_dtype="bfloat16")), 2, "spec.scale_dtype bfloat16 here, float16 there",
    ),
    "other levels": (of_case("nf3-b3-g64", asked(levels="int")), 2, "spec.levels int here, nf there"),
    "another text": (inputs("corpus_sha256"), 2, "corpus hash "),
    "another model": (inputs("model_sha256"), 2, "model hash "),
    "another tokenizer": (inputs("tokenizer_sha256"), 2, "tokenizer hash "),
    "mean KL doubled by two bad windows": (
        of_case("lords-b3-g64", two_bad_windows), 1, "KL 0.016707 → 0.033415, +100.00%",
    ),
    "half of the layers swapped in": (of_quantized(nearer(0.5)), 2, "a gain of more than 20.0%, is not believed"),
    "weight errors halved": (of_quantized(nearer(0.85, weights=0.5)), 2, "a gain of more than 10.0%, is not believed"),
    "only the divergence moved": (
        of_case("lords-b3-g64", scaled_at("window_kl_nats", 1.1, 3)), 2, "KL moved, and no layer's error did",
    ),
    "one layer is exact": (
        of_case("lords-b3-g64", scaled_at("layer_squared_error", 0.0, 5)), 2,
        "weight error 0 in layer model.layers.0.mlp.up_proj",
    ),
    "likelihood of one window doubled": (
        of_case("lords-b3-g64", scaled_at("window_nll_nats", 2.0, 3)), 1, "which its KL of ",
    ),
    "every item answered rightly": (of_case("lords-b4-g64", choices(lambda _: True)), 2, "choice items are answered"),
    "every item answered wrongly": (of_case("lords-b4-g64", choices(lambda _: False)), 1, "choice accuracy 0.5 → 0"),
    "answers inverted": (
        of_case("lords-b4-g64", choices(lambda right: not right)), 2, "answered otherwise than by the unquantized",
    ),
    "results copied from another case": (
        of_case("lords-b3-g64", copied_from("block-opt-b3-g64")), 1, "to the last digit",
    ),
    "results copied from another number of bits": (
        of_case("lords-b3-g64", copied_from("lords-b2-g64")), 1, "its spec and shape 512×512 need 106496",
    ),
    "a window less in all cases": (
        lambda records: [with_samples(record, **without_last_window(record, plain_of(records))) for record in records],
        2, "their windows of text differ",
    ),
    "a window less in one case": (
        lambda records: [
            with_samples(record, **without_last_window(record, plain_of(records)))
            if record.case_id == "lords-b3-g64" else record for record in records
        ], 2, "their windows of text differ from those of unquantized in the same run",
    ),
    "two records of a case that disagree": (
        lambda records: [*of_case("lords-b3-g64", two_bad_windows)(records), records[-1], *records[13:14]], 2,
        "the run has two records of it, with different results",
    ),
    "the unquantized model scored otherwise": (
        of_case("unquantized", scaled_at("window_nll_nats", 1.0001, 3)), 2,
        "the unquantized model's own likelihoods differ",
    ),
    "the unquantized model diverges from itself": (
        of_case("unquantized", lambda record, _: with_samples(record, window_kl_nats=(0.01,) * 55)), 1,
        "the unquantized model has a KL of ",
    ),
}  # fmt: skip


def said(result: LayerResult) -> str:
    return "\n".join(f"{finding.level}: {finding.benchmark}: {finding.what}" for finding in result.findings)


def test_the_committed_records_are_green_against_themselves(committed: Records) -> None:
    result = judged(committed, committed)

    assert (exit_code([result], strict=True), result.findings) == (0, ())
    assert result.same == len(committed)


@pytest.mark.parametrize("name", LISTED)
def test_what_cannot_be_is_never_green(name: str, committed: Records) -> None:
    corrupt, code, message = LISTED[name]

    result = judged(committed, corrupt(committed))

    assert message in said(result)
    assert exit_code([result]) == code, said(result)


@pytest.mark.parametrize("name", LISTED)
def test_a_corrupt_baseline_is_never_green_either(name: str, committed: Records) -> None:
    corrupt, _, _ = LISTED[name]
    if name == "0.0049 bits more everywhere":
        corrupt = with_bits(0.0049)

    assert exit_code([judged(corrupt(committed), committed)]) != 0


# What both sides share is seen only where a record or a run contradicts itself.
SHARED = (
    "quantized weights were never swapped in",
    "KL is exactly 0 in one case",
    "KL is exactly 0 in one window",
    "one norm doubled in one case",
    "bits undercounted by 0.19",
    "0.0049 bits more everywhere",
    "one byte less in one layer",
    "another block under the same name",
    "another rank under the same name",
    "one layer is exact",
    "likelihood of one window doubled",
    "every item answered rightly",
    "answers inverted",
    "results copied from another case",
    "results copied from another number of bits",
    "a window less in one case",
    "two records of a case that disagree",
    "the unquantized model diverges from itself",
)


@pytest.mark.parametrize("name", SHARED)
def test_a_fault_that_both_sides_share_is_found_in_the_records_alone(name: str, committed: Records) -> None:
    corrupt, _, message = LISTED[name]
    both = corrupt(committed)

    result = judged(both, both)

    assert exit_code([result]) == 2
    assert "cannot be true: " in said(result)
    assert not result.of(Level.IMPROVEMENT)
    assert message


def test_never_swapped_in_is_no_improvement_of_anything(committed: Records) -> None:
    result = judged(committed, of_quantized(never_swapped_in)(committed))

    assert result.of(Level.IMPROVEMENT) == ()
    assert {finding.benchmark for finding in result.of(Level.INVALID)} == {r.case_id for r in committed if r.bits}


def test_a_gain_that_is_too_large_is_believed_where_somebody_says_that_he_measured_again(committed: Records) -> None:
    head = of_case("lords-b3-g64", lambda r, rs: with_samples(r, **nearer(0.7, weights=0.8)(r, plain_of(rs))))(
        committed
    )

    refused, believed = judged(committed, head), judged(committed, head, believed=("lords-b3-g64",))

    assert exit_code([refused]) == 2
    assert "say so with --believe lords-b3-g64, or measure a new baseline on a clean commit with" in said(refused)
    assert exit_code([believed], strict=True) == 0
    assert "believed because --believe says that it was measured again" in said(believed)


def test_what_is_impossible_cannot_be_believed_by_asking(committed: Records) -> None:
    cases = tuple(record.case_id for record in committed)

    assert exit_code([judged(committed, of_quantized(never_swapped_in)(committed), believed=cases)]) == 2


# Fields that may change without the gate being anything but green, on both sides unless said otherwise.
FREE = {
    "run_id": "names the invocation",
    "created_utc": "a date",
    "command": "how it was called; what it measured stands in other fields",
    "planned_case_ids": "the records themselves are counted; one that is missing is noticed by the others' plan",
    "inputs.model_name": "for the reader: the hash decides",
    "samples.quantize_seconds": "how busy the machine was",
    "samples.evaluate_seconds": "how busy the machine was",
    "samples.peak_rss_bytes": "how busy the machine was",
    "environment.lords_bench": "the sides are different code by design",
    "environment.source_sha256": "the sides are different code by design",
    "environment.git_commit": "the sides are different code by design",
    "environment.git_dirty": "a change is judged before it is committed; a baseline must be clean",
    "environment.triton": "no kernel runs on a CPU",
    "environment.gpu_name": "the run did not use it",
    "environment.platform": "versions and processor decide",
    "environment.cpu_cores": "any number of threads gives the same numbers",
    "environment.torch_threads": "any number of threads gives the same numbers",
    "environment.memory_bytes": "a case that did not fit has no samples",
    "environment.hostname_sha256": "machines with one model of processor give the same numbers",
}

# One of every kind of record, and the ladder of bits that one of them stands on.
MUTATED = ("unquantized", "lords-b4-g64", "lords-gptq-b2-g64", "nf4-double-quant-b4-g64", "nf4+nf2-b3-g64")


@pytest.mark.parametrize(
    ("side", "case_id"), [*(("head", case_id) for case_id in MUTATED), *(("baseline", c) for c in MUTATED[:2])]
)
def test_no_field_changes_unnoticed_unless_there_is_a_reason(side: str, case_id: str, committed: Records) -> None:
    small = [record for record in committed if record.case_id in (*MUTATED, "lords-b3-g64")]
    records = [replace(record, planned_case_ids=tuple(r.case_id for r in small)) for record in small]
    place = next(index for index, record in enumerate(records) if record.case_id == case_id)
    green: dict[str, str] = {}
    seen: set[str] = set()

    for path, mutant in mutants(records[place]):
        changed = [*records[:place], mutant, *records[place + 1 :]]
        result = judged(records, changed) if side == "head" else judged(changed, records)
        seen.add(path)
        if exit_code([result]) == 0:
            green.setdefault(path, said(result))

    assert {path: what for path, what in green.items() if path not in FREE} == {}
    assert len(seen) > 40


def test_every_field_that_may_change_is_one_that_does(committed: Records) -> None:
    """A reason for a field that is noticed all the same, or that is gone, is a wrong reason."""
    green = {
        path
        for path, mutant in mutants(committed[1])
        if path in FREE and exit_code([judged(committed, [committed[0], mutant, *committed[2:]])]) == 0
    }

    assert green == set(FREE)
