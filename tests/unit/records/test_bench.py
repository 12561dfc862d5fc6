"""BenchRecord: contradictions cannot be built; keys change with what they stand for and with nothing else."""

from typing import Any

import pytest

from lords_bench.errors import RecordError
from lords_bench.quant import QuantSpec
from lords_bench.records import Status
from record_builders import make_environment, make_inputs, make_record, make_samples


def test_samples_without_status_ok_are_refused() -> None:
    with pytest.raises(RecordError, match="status is crash; samples belong to status ok"):
        make_record(status=Status.CRASH, samples=make_samples())


def test_status_ok_without_samples_is_refused() -> None:
    with pytest.raises(RecordError, match="status is ok; samples belong"):
        make_record(samples=None)


@pytest.mark.parametrize("reason", [None, "", "two\nlines"])
def test_a_failure_needs_one_line_of_reason(reason: str | None) -> None:
    with pytest.raises(RecordError, match="reason"):
        make_record(status=Status.TIMEOUT, reason=reason)


def test_spec_and_mixed_precision_together_are_refused() -> None:
    with pytest.raises(RecordError, match="both spec and mixed"):
        make_record(mixed=(("a", QuantSpec(method="nf4")),))


def test_only_the_unquantized_model_has_no_bits() -> None:
    make_record(bits=None, spec=None)

    with pytest.raises(RecordError, match="only the unquantized model has none"):
        make_record(bits=None)


def test_a_case_outside_its_run_s_plan_is_refused() -> None:
    with pytest.raises(RecordError, match="'lords-b4-g64' is not among"):
        make_record(planned_case_ids=("nf4-b4-g64",))


@pytest.mark.parametrize("created", ["2026-01-31", "2026-01-31T12:00:00+00:00", "yesterday"])
def test_a_date_in_another_form_is_refused_with_the_right_form(created: str) -> None:
    with pytest.raises(RecordError, match="write it as 2026-01-31T12:00:00Z"):
        make_record(created_utc=created)


def test_settings_out_of_order_are_refused() -> None:
    with pytest.raises(RecordError, match="sorted by name"):
        make_inputs(settings=(("b", 1), ("a", 2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"inputs": make_inputs(model_sha256="d" * 64)},
        {"inputs": make_inputs(settings=(("choice_items", 61),))},
        {"environment": make_environment(source_sha256="6" * 64)},
        {"environment": make_environment(torch="2.11.0")},
        {"environment": make_environment(cpu_model="Another CPU")},
    ],
)
def test_run_key_changes_with_everything_that_can_move_a_number(changes: dict[str, Any]) -> None:
    assert make_record(**changes).run_key != make_record().run_key


def test_run_key_is_the_same_for_other_cases_of_a_run() -> None:
    first = make_record("lords-b4-g64")
    second = make_record("nf4-b4-g64", method="nf4", spec=QuantSpec(method="nf4"), run_id="run-2")

    assert first.run_key == second.run_key


def test_comparison_key_ignores_source_and_versions_but_not_device() -> None:
    record = make_record()
    newer = make_record(environment=make_environment(source_sha256="6" * 64, torch="2.11.0"), seed=3)
    elsewhere = make_record(environment=make_environment(device="cuda", gpu_name="NVIDIA H200"))

    assert newer.comparison_key == record.comparison_key
    assert elsewhere.comparison_key != record.comparison_key


@pytest.mark.parametrize(
    ("changes", "is_clean"),
    [
        ({}, True),
        ({"complete": False}, False),
        ({"status": Status.CRASH}, False),
        ({"environment": make_environment(git_dirty=True)}, False),
        ({"environment": make_environment(git_dirty=None, git_commit=None)}, False),
    ],
)
def test_only_complete_records_of_a_known_commit_are_clean(changes: dict[str, Any], is_clean: bool) -> None:
    assert make_record(**changes).is_clean is is_clean


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"spec": QuantSpec(method="lords")}, False),
        ({"spec": QuantSpec(method="gptq")}, True),
        ({"spec": QuantSpec(method="lords"), "input_weighted": True}, True),
        ({"spec": None, "mixed": (("a", QuantSpec(method="nf4")), ("b", QuantSpec(method="gptq")))}, True),
    ],
)
def test_calibration_is_needed_for_hessians_and_input_weights(changes: dict[str, Any], needed: bool) -> None:
    assert make_record(**changes).needs_calibration is needed


def test_a_cuda_environment_without_a_gpu_name_is_refused() -> None:
    with pytest.raises(RecordError, match="gpu_name is None"):
        make_environment(device="cuda")


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({}, "cpu"),
        ({"gpu_name": "NVIDIA H200"}, "cpu"),
        ({"device": "cuda", "gpu_name": "NVIDIA GeForce RTX 4090"}, "nvidia-geforce-rtx-4090"),
    ],
)
def test_device_folder_names_the_processor_that_computed(changes: dict[str, Any], slug: str) -> None:
    assert make_environment(**changes).device_slug == slug
