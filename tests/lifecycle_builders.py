"""Valid lifecycle records with defaults; a test overrides what it is about."""

from typing import Any

from lords_bench.records import LifecycleRecord, LifecycleSamples, Status, TextScores
from lords_bench.spec import QuantSpec
from record_builders import make_environment, make_inputs


def make_scores(**changes: Any) -> TextScores:
    """Three windows of two documents."""
    fields: dict[str, Any] = {
        "domain": "base",
        "split": "test",
        "window_tokens": (100, 100, 50),
        "window_bytes": (300, 310, 140),
        "window_nll_nats": (150.0, 160.0, 80.0),
        "window_documents": (0, 0, 1),
    }
    return TextScores(**{**fields, **changes})


def make_training(**changes: Any) -> LifecycleSamples:
    """Two layers of 4.25 bits, two steps."""
    fields: dict[str, Any] = {
        "scores": (make_scores(), make_scores(domain="shifted")),
        "layer_names": ("a", "b"),
        "layer_shapes": ((64, 64), (64, 128)),
        "layer_stored_bytes": (2176, 4352),
        "trainable_numbers": 1000,
        "step_loss_nats": (3.0, 2.5),
        "step_wall_ns": (2_000_000, 2_100_000),
        "step_cpu_ns": (1_900_000, 1_900_000),
        "step_tokens": 1024,
        "start_rss_bytes": 400 * 2**20,
        "peak_rss_bytes": 600 * 2**20,
        "prepare_seconds": 1.0,
        "evaluate_seconds": 2.0,
    }
    return LifecycleSamples(**{**fields, **changes})


def make_run(case_id: str = "qat-lords-b3-lr0.001", **changes: Any) -> LifecycleRecord:
    """A clean, complete QAT record; a status other than ok drops the samples and gets a reason."""
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "suite": "lifecycle",
        "case_id": case_id,
        "stage": "qat",
        "method": "lords",
        "bits": 3,
        "spec": QuantSpec(method="lords", bits=3),
        "learning_rate": 1e-3,
        "is_search": True,
        "training_seed": 0,
        "status": Status.OK,
        "samples": make_training(),
        "planned_case_ids": (case_id,),
        "inputs": make_inputs(),
        "environment": make_environment(),
        "created_utc": "2026-01-31T12:00:00Z",
        "command": "lords-bench bench lifecycle",
    }
    if changes.get("status", Status.OK) is not Status.OK:
        fields |= {"samples": None, "reason": "it did not work"}
    return LifecycleRecord(**{**fields, **changes})


def changed_run(record: LifecycleRecord, **changes: Any) -> LifecycleRecord:
    """The record with some fields replaced."""
    return LifecycleRecord(
        **{**{name: getattr(record, name) for name in LifecycleRecord.__dataclass_fields__}, **changes}
    )
