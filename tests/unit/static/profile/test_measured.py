"""A record counts for a prediction only if it is of that very launch, on that GPU."""

from typing import Any

import pytest

from latency_builders import make_case, make_latency, make_measurement, make_run
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.tuned import Choice
from lords_bench.static.profile.measure import Asked
from lords_bench.static.profile.measured import measured_us
from lords_bench.static.profile.predict import named_gpu
from record_builders import make_environment

H200 = named_gpu("H200", "sm_90")
ASKED = Asked(m=16, n=4096, k=4096, rank=32)
RUN = make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H200"))


def record(**changes: Any) -> LatencyRecord:
    fields: dict[str, Any] = {
        "run": RUN, "case": make_case(), "kernel": "scale_tile", "config": (), "config_origin": "formula",
        "measurement": make_measurement(*[12_000.0] * 12),
    }  # fmt: skip
    return make_latency(**{**fields, **changes})


def found(*records: LatencyRecord, asked: Asked = ASKED, choice: Choice | None = None) -> float | None:
    return measured_us(asked, choice or Choice(kernel="scale_tile"), H200, records)


def test_the_newest_record_of_the_launch_counts() -> None:
    older = record(created_utc="2026-01-01T00:00:00Z", measurement=make_measurement(*[15_000.0] * 12))

    assert found(record(created_utc="2026-02-01T00:00:00Z"), older) == 12.0
    assert found() is None


@pytest.mark.parametrize(
    "other",
    [
        record(kernel="scale_tile_gemm"),
        record(case=make_case(m=8)),
        record(case=make_case(bits=3)),
        record(case=make_case(block=256)),
        record(regime="hot", measurement=make_measurement(*[12_000.0] * 12, regime="hot")),
        record(run=make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H100"))),
        record(run=make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H200"), is_fake=True)),
        record(run=make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H200"), dtype="float16")),
        record(config=(("block_n", 64),), config_origin="exact"),
    ],
    ids=["kernel", "tokens", "bits", "rank", "hot", "gpu", "fake", "dtype", "tuned"],
)
def test_another_launch_is_none(other: LatencyRecord) -> None:
    assert found(other) is None


def test_a_tuned_launch_is_that_of_its_settings() -> None:
    tuned = record(config=(("block_n", 64),), config_origin="exact")

    assert found(tuned, choice=Choice(kernel="scale_tile", settings=(("block_n", 64),))) == 12.0
    assert found(tuned, choice=Choice(kernel="scale_tile", settings=(("block_n", 32),))) is None
