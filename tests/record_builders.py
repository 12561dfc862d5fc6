"""Valid records with defaults; a test overrides what it is about. `study` is a small made-up run with known effects."""

from typing import Any

import numpy as np

from lords_bench.quant import QuantSpec
from lords_bench.records import AccuracySamples, BenchRecord, Environment, EvaluationInputs, Status

LAYERS = tuple(
    (f"model.layers.{index}.{name}", shape)
    for index in range(2)
    for name, shape in (
        ("self_attn.q_proj", (512, 512)),
        ("self_attn.k_proj", (512, 512)),
        ("self_attn.v_proj", (512, 512)),
        ("self_attn.o_proj", (512, 512)),
        ("mlp.gate_proj", (1536, 512)),
        ("mlp.up_proj", (1536, 512)),
        ("mlp.down_proj", (512, 1536)),
    )
)


def make_environment(**changes: Any) -> Environment:
    """A clean CPU environment of a fictional machine."""
    fields: dict[str, Any] = {
        "device": "cpu",
        "lords_bench": "0.1.0",
        "source_sha256": "5" * 64,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "python": "3.11.7",
        "torch": "2.13.0+cpu",
        "triton": None,
        "transformers": "5.23.0",
        "numpy": "2.4.6",
        "platform": "Linux 6.1 x86_64",
        "cpu_model": "Example CPU 9000",
        "cpu_cores": 2,
        "torch_threads": 2,
        "memory_bytes": 16 * 2**30,
        "gpu_name": None,
        "hostname_sha256": "abcdef012345",
    }
    return Environment(**{**fields, **changes})


def make_inputs(**changes: Any) -> EvaluationInputs:
    """Inputs of the testbed with made-up hashes."""
    fields: dict[str, Any] = {
        "model_name": "testbed",
        "model_sha256": "a" * 64,
        "tokenizer_sha256": "b" * 64,
        "corpus_sha256": "c" * 64,
        "settings": (("choice_items", 60), ("window_tokens", 512)),
    }
    return EvaluationInputs(**{**fields, **changes})


def make_samples(**changes: Any) -> AccuracySamples:
    """Two layers of 4.25 bits, three windows, four choice items."""
    fields: dict[str, Any] = {
        "layer_names": ("a", "b"),
        "layer_shapes": ((64, 64), (64, 128)),
        "layer_squared_error": (1.0, 4.0),
        "layer_squared_norm": (100.0, 200.0),
        "layer_stored_bytes": (2176, 4352),
        "unquantized_weights": 4096,
        "unquantized_layers": ("lm_head",),
        "window_tokens": (100, 100, 50),
        "window_bytes": (300, 310, 140),
        "window_nll_nats": (150.0, 160.0, 80.0),
        "window_kl_nats": (1.0, 2.0, 0.5),
        "choice_correct": (True, False, True, True),
        "quantize_seconds": 1.5,
        "evaluate_seconds": 2.5,
        "peak_rss_bytes": 10**9,
    }
    return AccuracySamples(**{**fields, **changes})


def make_record(case_id: str = "lords-b4-g64", **changes: Any) -> BenchRecord:
    """A clean, complete record; a status other than ok drops the samples and gets a reason."""
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "suite": "accuracy",
        "case_id": case_id,
        "method": "lords",
        "bits": 4,
        "spec": QuantSpec(method="lords", bits=4),
        "status": Status.OK,
        "samples": make_samples(),
        "planned_case_ids": (case_id,),
        "inputs": make_inputs(),
        "environment": make_environment(),
        "created_utc": "2026-01-31T12:00:00Z",
        "command": "lords-bench bench accuracy",
        "seed": 0,
    }
    if changes.get("status", Status.OK) is not Status.OK:
        fields |= {"samples": None, "reason": "it did not work"}
    return BenchRecord(**{**fields, **changes})


# Method → specification, KL × 1000 and relative weight error at 4, 3 and 2 bits. Effects are made up, of a real order.
_STUDY: dict[str, tuple[dict[str, Any], tuple[float, float, float], tuple[float, float, float]]] = {
    "nf": ({"method": "nf"}, (5.0, 24.4, 262.0), (0.0087, 0.0418, 0.322)),
    "block-opt": ({"method": "block-opt"}, (4.3, 20.3, 113.0), (0.0075, 0.0340, 0.156)),
    "lords-paper": ({"method": "lords-paper"}, (4.7, 22.9, 190.0), (0.0080, 0.0371, 0.210)),
    "lords": ({"method": "lords"}, (4.3, 19.8, 108.0), (0.0073, 0.0326, 0.140)),
    "block-opt-learned": ({"method": "block-opt", "levels": "learned"}, (4.2, 18.8, 87.0), (0.0073, 0.0300, 0.125)),
    "lords-learned": ({"method": "lords", "levels": "learned"}, (4.2, 17.6, 78.0), (0.0072, 0.0285, 0.112)),
    "gptq": ({"method": "gptq"}, (1.8, 9.0, 79.0), (0.0110, 0.0520, 0.400)),
    "block-gptq": ({"method": "block-gptq"}, (1.6, 7.9, 44.0), (0.0095, 0.0440, 0.250)),
    "lords-gptq": ({"method": "lords-gptq"}, (1.6, 7.5, 38.0), (0.0094, 0.0430, 0.240)),
    "int-rtn": ({"method": "int-rtn"}, (5.6, 29.0, 310.0), (0.0095, 0.0460, 0.350)),
}


def study(*, windows: int = 24, items: int = 60, seed: int = 0, **changes: Any) -> list[BenchRecord]:
    """Records of ten methods at 4, 3 and 2 bits, the unquantized model, double quantization and mixed precision."""
    stream = np.random.RandomState(seed)
    common = {
        "tokens": stream.randint(300, 512, windows),
        "difficulty": np.exp(stream.normal(0, 0.35, windows)),
        "nll": stream.normal(2.9, 0.25, windows),
        "ease": stream.normal(0.4, 1.0, items),
        "norm": stream.uniform(200, 900, len(LAYERS)),
    }
    plain = {"case_id": "unquantized", "method": "unquantized", "bits": None}
    records = [_case(plain, {}, (0.0, 0.0, 16.0), common, stream)]
    for index, bits in enumerate((4, 3, 2)):
        for name, (fields, kl, error) in _STUDY.items():
            spec = {**fields, "bits": bits, "method": f"nf{bits}" if name == "nf" else fields["method"]}
            method = spec["method"] if name == "nf" else name
            stored = bits + (0.3125 if name == "int-rtn" else 0.25)
            identity = {"case_id": f"{method}-b{bits}-g64", "method": method, "bits": bits}
            records.append(_case(identity, spec, (kl[index], error[index], stored), common, stream))
    double = {"case_id": "nf4-double-quant-b4-g64", "method": "nf4-double-quant", "bits": 4}
    spec = {"method": "nf4", "bits": 4, "double_quant": True}
    records.append(_case(double, spec, (5.1, 0.0088, 4.129), common, stream))
    mixed = {"case_id": "nf4+nf2-b3-g64", "method": "nf4+nf2", "bits": 3}
    records.append(_case(mixed, {"mixed": True}, (60.0, 0.1, 3.25), common, stream))
    planned = tuple(record.case_id for record in records)
    return [changed(record, planned_case_ids=planned, **changes) for record in records]


def _case(
    identity: dict[str, Any],
    fields: dict[str, Any],
    effect: tuple[float, float, float],
    common: dict[str, Any],
    stream: np.random.RandomState,
) -> BenchRecord:
    kl, error, stored = effect
    windows, items = len(common["tokens"]), len(common["ease"])
    noise = np.exp(stream.normal(0, 0.04, windows))
    window_kl = kl / 1000 * common["tokens"] * common["difficulty"] * noise
    window_nll = common["nll"] * common["tokens"] + 0.9 * window_kl + stream.normal(0, 0.05, windows)
    ability = common["ease"] - kl / 200 + stream.normal(0, 0.08, items)
    layer_error = common["norm"] * error * np.exp(stream.normal(0, 0.03, len(LAYERS)))
    mixed = fields.get("mixed")
    samples = AccuracySamples(
        layer_names=tuple(name for name, _ in LAYERS),
        layer_shapes=tuple(shape for _, shape in LAYERS),
        layer_squared_error=tuple(round(float(value), 6) for value in layer_error),
        layer_squared_norm=tuple(round(float(value), 6) for value in common["norm"]),
        layer_stored_bytes=tuple(round(n * k * stored / 8) for _, (n, k) in LAYERS),
        unquantized_weights=2048 * 512,
        unquantized_layers=("lm_head (tied to the embedding)",),
        window_tokens=tuple(int(value) for value in common["tokens"]),
        window_bytes=tuple(int(value) * 3 for value in common["tokens"]),
        window_nll_nats=tuple(round(float(value), 4) for value in window_nll),
        window_kl_nats=tuple(round(float(value), 6) for value in window_kl),
        choice_correct=tuple(bool(value > 0) for value in ability),
        quantize_seconds=2.0,
        evaluate_seconds=5.0,
        peak_rss_bytes=10**9,
    )
    pairs = tuple((name, QuantSpec(method="nf4" if i < 7 else "nf2")) for i, (name, _) in enumerate(LAYERS))
    return make_record(
        **identity,
        spec=QuantSpec(**fields) if fields and not mixed else None,
        mixed=pairs if mixed else None,
        samples=samples,
    )


def changed(record: BenchRecord, **changes: Any) -> BenchRecord:
    """The record with some fields replaced."""
    return BenchRecord(**{**{name: getattr(record, name) for name in BenchRecord.__dataclass_fields__}, **changes})
