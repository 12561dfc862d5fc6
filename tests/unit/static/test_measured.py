"""A measured time belongs to a pinned kernel only where the very same product ran by the kernel's own rule."""

from dataclasses import replace
from typing import Any

import pytest

from gate_builders import make_fingerprint
from latency_builders import make_case, make_latency, make_measurement, make_run, steady
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.records.latency import LatencyRecord
from lords_bench.static.bounds import GPU_MODELS
from lords_bench.static.measured import errors_in_words, measured_us
from record_builders import make_environment

GPU = next(gpu for gpu in GPU_MODELS if gpu.name == "H200")
RUN = make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H200"))


def record(kernel: str, *, us: float = 5.0, case: dict[str, Any] | None = None, **changes: Any) -> LatencyRecord:
    fields: dict[str, Any] = {"m": 1, "block": 128, **(case or {})}
    given: dict[str, Any] = {"run": RUN, "config": (), "config_origin": "formula", **changes}
    return make_latency(
        kernel=kernel, case=make_case(**fields), measurement=make_measurement(*steady(us * 1e3)), **given
    )


def pin(kernel: str, variant: str) -> Fingerprint:
    return replace(make_fingerprint(), kernel=kernel, variant=variant)


def found(fingerprint: Fingerprint, *records: LatencyRecord) -> float | None:
    return measured_us(fingerprint, GPU, records)


DECODE = pin("rank_expanded", "4 bit M=1")


def test_a_layer_of_more_rows_is_measured_by_itself() -> None:
    many = pin("rank_expanded", "4 bit M=1 N=14336")
    record_of_many = record("rank_expanded", case={"n": 14336, "block": 256}, us=11.0)

    assert found(many, record("rank_expanded"), record_of_many) == pytest.approx(11.0, rel=0.002)
    assert found(DECODE, record_of_many) is None


def test_the_same_product_by_the_kernel_s_own_rule_counts() -> None:
    assert found(DECODE, record("rank_expanded")) == pytest.approx(5.0, rel=0.002)


@pytest.mark.parametrize(
    "other",
    [
        record("scale_tile"),
        record("rank_expanded", case={"m": 2}),
        record("rank_expanded", case={"bits": 3}),
        record("rank_expanded", case={"n": 14336}),
        record("rank_expanded", case={"block": 64}),
        record("rank_expanded", config_origin="exact"),
        record("rank_expanded", run=replace(RUN, is_fake=True)),
        record("rank_expanded", run=replace(RUN, dtype="float16")),
        record("rank_expanded", run=make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA A100"))),
    ],
    ids=["kernel", "tokens", "bits", "layer", "rank", "tuned", "made up", "number type", "gpu"],
)
def test_another_product_does_not(other: LatencyRecord) -> None:
    assert found(DECODE, other) is None


@pytest.mark.parametrize(("variant", "m", "counts"), [("≤8", 5, True), ("≤8", 4, False), ("≤16", 16, True)])
def test_a_tile_of_several_tokens_is_that_of_more_than_half_of_them(variant: str, m: int, *, counts: bool) -> None:
    fingerprint = pin("scale_tile", f"4 bit M{variant} bfloat16")

    assert (found(fingerprint, record("scale_tile", case={"m": m})) is not None) is counts


def test_scales_summed_in_half_precision_are_another_variant() -> None:
    half = record("scale_tile", case={"m": 8}, config=(("scale_in_fp16", True),))

    assert found(pin("scale_tile", "4 bit M≤8 fp16 scale"), half) is not None
    assert found(pin("scale_tile", "4 bit M≤8 bfloat16"), half) is None


def test_block_formats_are_told_apart_by_their_method() -> None:
    normal = record("blockwise", case={"m": 4, "block": 64}, method="nf-block", methods=("nf-block",))

    assert found(pin("blockwise", "nf4 G=64 M≤8"), normal) is not None
    assert found(pin("blockwise", "int4 G=64 M≤8"), normal) is None
    assert found(pin("blockwise", "nf3 G=64 M≤8"), normal) is None


def test_the_record_of_most_tokens_counts_and_of_those_the_newest() -> None:
    fingerprint = pin("scale_tile", "4 bit M≤8 bfloat16")
    records = (
        record("scale_tile", us=1.0, case={"m": 6}, created_utc="2026-01-31T14:00:00Z"),
        record("scale_tile", us=2.0, case={"m": 8}, created_utc="2026-01-31T12:00:00Z"),
        record("scale_tile", us=3.0, case={"m": 8}, created_utc="2026-01-31T13:00:00Z"),
    )

    assert found(fingerprint, *records) == pytest.approx(3.0, rel=0.002)


def test_errors_are_said_per_gpu_and_kernel_and_an_undercut_bound_is_named() -> None:
    errors = [("H200", "scale_tile", 0.5), ("H200", "scale_tile", -0.1), ("A100", "scale_tile", 0.2)]

    first, second = errors_in_words(errors)
    assert first == "On the A100, scale_tile took 1.20 times its lower bound (1 product)."
    assert second.startswith("On the H200, scale_tile took 0.90 to 1.50 times its lower bound (2 products); 1 below it")
    assert errors_in_words([]) == []
