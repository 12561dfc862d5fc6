"""Predicted times: computed by hand for one loop, named predictions, and held against records where there are any."""

import pytest

from gate_builders import make_fingerprint
from latency_builders import make_case, make_latency, make_measurement, make_run, steady
from lords_bench.static.bounds import GPU_MODELS
from lords_bench.static.predicted import predicted_page, predicted_times
from record_builders import make_environment

GPU = next(gpu for gpu in GPU_MODELS if gpu.name == "H200")


def test_a_light_loop_takes_as_long_as_reading_its_weights() -> None:
    light = make_fingerprint(loop_opcodes=(("LOP3.LUT", 10),), matrix_opcodes=())

    time = next(t for t in predicted_times([light]) if t.gpu is GPU)

    stored_bytes = 4096 * 4096 * 4.125 / 8
    assert time.predicted_us == pytest.approx(stored_bytes / GPU.bandwidth_gbps / 1000, rel=1e-12)
    assert time.error is None


def test_a_heavy_loop_takes_as_long_as_its_busiest_pipe() -> None:
    """3000 instructions per 100 groups of 32 weights: 30 issue cycles a group, 60 of the ALU at 2 cycles each."""
    heavy = make_fingerprint(loop_opcodes=(("LOP3.LUT", 3000),), matrix_opcodes=())

    time = next(t for t in predicted_times([heavy]) if t.gpu is GPU)

    groups = 4096 * 4096 / 32
    assert time.predicted_us == pytest.approx(60 * groups / (GPU.sm_count * 4 * GPU.sm_clock_ghz) / 1000, rel=1e-12)
    assert time.bound.bound_by == "alu"


def test_a_measured_product_gives_the_error_of_its_prediction() -> None:
    run = make_run(environment=make_environment(device="cuda", gpu_name="NVIDIA H200"))
    measured = make_latency(
        run=run, case=make_case(m=1, block=128), kernel="rank_expanded", config_origin="formula",
        measurement=make_measurement(*steady(5_000)),
    )  # fmt: skip

    (time,) = [t for t in predicted_times([make_fingerprint()], [measured]) if t.gpu is GPU]

    assert time.measured_us == pytest.approx(5.0, rel=0.002)
    assert time.error == pytest.approx(5.0 / time.predicted_us - 1, rel=0.01)
    assert "measured over predicted" in predicted_page([time])
    assert r"- On the H200, rank\_expanded took 1.83 times its lower bound (1 product)." in predicted_page([time])


def test_the_page_says_that_nothing_on_it_was_measured() -> None:
    page = predicted_page(predicted_times([make_fingerprint()]))

    assert "**Predictions, not measurements:**" in page
    assert r"| rank\_expanded 4 bit M=1 |" in page


def test_a_kernel_without_a_known_loop_or_traffic_has_no_prediction() -> None:
    assert predicted_times([make_fingerprint(bits_per_weight=None), make_fingerprint(loop_units=None)]) == ()
