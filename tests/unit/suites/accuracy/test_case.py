import pytest
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.errors import SpecError
from lords_bench.quant import QuantSpec
from lords_bench.suites.accuracy.cases import Case, Suite

NF4, NF2 = QuantSpec(method="nf4"), QuantSpec(method="nf2")


def make_case(*specs: QuantSpec, case_id: str = "c", bits: int | None = 3, input_weighted: bool = False) -> Case:
    return Case(case_id=case_id, method="m", bits=bits, specs=specs, input_weighted=input_weighted)


def test_half_of_the_weights_get_the_first_spec() -> None:
    assert make_case(NF4, NF2).spec_of_layers([4, 4, 6, 2]) == (NF4, NF4, NF2, NF2)


def test_one_spec_is_every_layers() -> None:
    assert make_case(NF4).spec_of_layers([1, 2, 3]) == (NF4, NF4, NF4)
    assert make_case(NF4).spec == NF4
    assert make_case(NF4, NF2).spec is None


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_shares_are_in_order_and_as_equal_as_layers_allow(counts: list[int]) -> None:
    specs = make_case(NF4, NF2).spec_of_layers(counts)

    first = sum(count for count, spec in zip(counts, specs, strict=True) if spec is NF4)
    assert list(specs) == sorted(specs, key=lambda spec: spec is NF2)
    assert abs(first - sum(counts) / 2) <= max(counts) / 2


def test_the_unquantized_model_has_no_layer_specs() -> None:
    with pytest.raises(SpecError, match="case 'u' is the unquantized model"):
        make_case(case_id="u", bits=None).spec_of_layers([1])


def test_bits_without_specs_are_refused() -> None:
    with pytest.raises(SpecError, match="bits is 3; only the unquantized model has none"):
        make_case()


def test_error_feedback_and_input_weights_need_calibration() -> None:
    assert make_case(QuantSpec(method="gptq")).needs_calibration
    assert make_case(NF4, input_weighted=True).needs_calibration
    assert not make_case(NF4).needs_calibration


def test_a_suite_refuses_two_cases_of_one_id_and_no_case() -> None:
    with pytest.raises(SpecError, match="suite 's' has case 'c' twice"):
        Suite(name="s", cases=(make_case(NF4), make_case(NF2)))
    with pytest.raises(SpecError, match="suite 's' has no case"):
        Suite(name="s", cases=())
