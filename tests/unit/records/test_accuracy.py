"""AccuracySamples: what cannot be built, and what is read from the samples."""

from math import log

import pytest

from lords_bench.errors import RecordError
from record_builders import make_samples


def test_lengths_that_disagree_are_refused_with_each_length() -> None:
    with pytest.raises(RecordError, match=r"window_tokens 3, window_bytes 3, window_nll_nats 3, window_kl_nats 2"):
        make_samples(window_kl_nats=(1.0, 2.0))


def test_samples_without_a_window_are_refused() -> None:
    with pytest.raises(RecordError, match="hold no window"):
        make_samples(window_tokens=(), window_bytes=(), window_nll_nats=(), window_kl_nats=())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_by_name_and_place(value: float) -> None:
    with pytest.raises(RecordError, match=r"window_kl_nats\[1\] is (nan|inf)"):
        make_samples(window_kl_nats=(1.0, value, 0.5))


def test_a_negative_divergence_beyond_rounding_is_refused() -> None:
    make_samples(window_kl_nats=(1.0, -1e-6, 0.5))

    with pytest.raises(RecordError, match=r"window_kl_nats\[1\] is -0.1"):
        make_samples(window_kl_nats=(1.0, -0.1, 0.5))


def test_text_without_bytes_is_refused_and_a_window_without_is_not() -> None:
    make_samples(window_bytes=(300, 0, 140), window_documents=(0, 0, 1))

    with pytest.raises(RecordError, match="window_bytes of document 1 are 0"):
        make_samples(window_bytes=(300, 310, 0), window_documents=(0, 0, 1))
    with pytest.raises(RecordError, match="window_bytes of all windows together are 0"):
        make_samples(window_bytes=(0, 0, 0))


@pytest.mark.parametrize("shape", [(0, 64), (64, -1)])
def test_a_layer_without_weights_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(RecordError, match=rf"layer 'a' has shape \({shape[0]}, {shape[1]}\)"):
        make_samples(layer_shapes=(shape, (64, 128)))


def test_error_of_a_layer_that_is_zero_is_refused() -> None:
    with pytest.raises(RecordError, match="layer 'b' has squared norm 0 but squared error 4"):
        make_samples(layer_squared_norm=(100.0, 0.0))


def test_bits_per_weight_counts_every_stored_byte() -> None:
    samples = make_samples(layer_shapes=((64, 64), (64, 128)), layer_stored_bytes=(2176, 4352))

    assert samples.bits_per_weight == 4.25


def test_bits_per_weight_is_unknown_where_nothing_was_quantized() -> None:
    samples = make_samples(
        layer_names=(), layer_shapes=(), layer_squared_error=(), layer_squared_norm=(), layer_stored_bytes=()
    )

    assert samples.bits_per_weight is None
    assert samples.relative_weight_error is None


def test_weight_error_is_the_mean_over_layers_of_relative_errors() -> None:
    samples = make_samples(layer_squared_error=(1.0, 4.0), layer_squared_norm=(100.0, 200.0))

    assert samples.relative_weight_error == pytest.approx((0.01 + 0.02) / 2)


def test_kl_and_bits_per_byte_are_ratios_of_sums() -> None:
    samples = make_samples(
        window_tokens=(100, 50), window_bytes=(300, 100), window_nll_nats=(150.0, 90.0), window_kl_nats=(1.0, 2.0)
    )

    assert samples.kl_nats_per_token == pytest.approx(3.0 / 150)
    assert samples.bits_per_byte == pytest.approx(240.0 / log(2) / 400)


def test_share_left_unquantized_is_of_all_linear_like_weights() -> None:
    samples = make_samples(layer_shapes=((64, 64), (64, 128)), unquantized_weights=4096)

    assert samples.unquantized_share == 0.25


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"window_tokens": (100, 100, 51)}, "windows"),
        ({"window_documents": (0, 0, 1)}, "windows"),
        ({"choice_correct": (True,)}, "choice items"),
        ({"layer_names": ("a", "c")}, "layers"),
    ],
)
def test_samples_of_different_items_cannot_be_paired(changes: dict[str, object], problem: str) -> None:
    assert (
        make_samples().pairing_problem(make_samples(**changes))
        == f"their {problem} {'of text ' * (problem == 'windows')}differ"
    )


def test_samples_of_equal_items_can_be_paired() -> None:
    assert make_samples().pairing_problem(make_samples(window_kl_nats=(9.0, 9.0, 9.0))) is None
