"""Valid lifecycle records with defaults; a test overrides what it is about."""

from math import log
from typing import Any

import numpy as np

from lords_bench.quant import QuantSpec
from lords_bench.records import LifecycleRecord, LifecycleSamples, Status, TextScores
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


# Stage, method, bits → bits per byte of the own domain after training, and its change there and on the other domain.
# Effects are made up, of a real order.
_EFFECTS: dict[tuple[str, str, int], tuple[float, float, float]] = {
    ("qat", "lords", 3): (1.500, -0.010, 0.001),
    ("qat", "block", 3): (1.506, -0.012, 0.001),
    ("qat", "int", 3): (1.512, -0.011, 0.002),
    ("qat", "lords", 2): (1.531, -0.051, 0.003),
    ("qat", "block", 2): (1.531, -0.052, 0.004),
    ("peft", "lords", 4): (1.830, -0.140, 0.030),
    ("peft", "qlora", 4): (1.810, -0.160, 0.050),
    ("peft", "qpissa", 4): (1.822, -0.150, 0.040),
}
_RATES = {"qat": (1e-5, 1e-4, 1e-3), "peft": (1e-3, 1e-2, 1e-1)}
_SPECS = {
    "lords": {"method": "lords"},
    "block": {"method": "block-opt"},
    "int": {"method": "block-opt", "levels": "int"},
    "qlora": {"method": "nf4", "double_quant": True},
    "qpissa": {"method": "nf4", "double_quant": True},
}
_WINDOWS = 8


def lifecycle_study(*, seed: int = 0) -> list[LifecycleRecord]:
    """Records of eight groups with three rates and three seeds each, and of the unquantized model."""
    stream = np.random.RandomState(seed)
    difficulty = {domain: stream.normal(0, 0.15, _WINDOWS) for domain in ("base", "shifted")}
    batches = stream.normal(0, 0.2, 24)

    def scores(domain: Any, split: Any, bits_per_byte: float, spread: float) -> TextScores:
        values = bits_per_byte + difficulty[domain] + stream.normal(0, spread, _WINDOWS)
        return make_scores(
            domain=domain,
            split=split,
            window_tokens=(500,) * _WINDOWS,
            window_bytes=(1400,) * _WINDOWS,
            window_nll_nats=tuple(round(float(value) * 1400 * log(2), 3) for value in values),
            window_documents=tuple(index // 2 for index in range(_WINDOWS)),
        )

    untrained = {"trainable_numbers": 0, "step_loss_nats": (), "step_wall_ns": (), "step_cpu_ns": (), "step_tokens": 0}
    plain = make_training(
        **untrained,
        layer_names=(),
        layer_shapes=(),
        layer_stored_bytes=(),
        scores=(scores("base", "test", 1.49, 0.0), scores("shifted", "test", 1.98, 0.0)),
    )
    records = [
        make_run("unquantized", stage="reference", method="unquantized", bits=None, spec=None, learning_rate=None,
                 is_search=False, samples=plain)
    ]  # fmt: skip
    for (stage, method, bits), (after, learned, forgotten) in _EFFECTS.items():
        own, other = ("base", "shifted") if stage == "qat" else ("shifted", "base")
        outside = 1.98 if other == "shifted" else 1.49
        rates = _RATES[stage]
        identity = {
            "stage": stage,
            "method": method,
            "bits": bits,
            "spec": QuantSpec(**{"bits": bits} | _SPECS[method]),
        }
        start = (scores(own, "test", after - learned, 0.002), scores(other, "test", outside, 0.002))
        name = f"{stage}-{method}-b{bits}"
        records.append(
            make_run(f"{name}-start", **identity, learning_rate=None, is_search=False,
                     samples=make_training(**untrained, scores=start))
        )  # fmt: skip
        runs = [(f"{name}-lr{rate:g}", rate, 0, True) for rate in rates]
        runs += [(f"{name}-seed{number}", rates[1], number, False) for number in (1, 2)]
        for case_id, rate, number, is_search in runs:
            penalty = 0.0 if rate == rates[1] else 0.02
            found = (
                scores(own, "test", after + penalty, 0.001),
                scores(other, "test", outside + forgotten, 0.001),
                scores(own, "validation", after + penalty, 0.001),
            )
            losses = 3.2 + (after - 1.5) + batches + stream.normal(0, 0.01, 24) - 0.01 * np.arange(24)
            samples = make_training(
                scores=found,
                step_loss_nats=tuple(round(float(value), 4) for value in losses),
                step_wall_ns=(700_000_000,) * 24,
                step_cpu_ns=(600_000_000,) * 24,
                step_tokens=2044,
            )
            records.append(
                make_run(case_id, **identity, learning_rate=rate, is_search=is_search, training_seed=number,
                         samples=samples)
            )  # fmt: skip
    planned = tuple(record.case_id for record in records)
    return [changed_run(record, planned_case_ids=planned) for record in records]
