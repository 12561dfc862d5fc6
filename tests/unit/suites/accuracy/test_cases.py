import subprocess
import sys

import pytest

from lords_bench.errors import UsageError
from lords_bench.quant import BITS, PRESETS
from lords_bench.suites.accuracy.cases import ACCURACY_FULL, ACCURACY_QUICK, select


def case_ids(*, methods: tuple[str, ...] | None = None, bits: tuple[int, ...] | None = None) -> list[str]:
    return [case.case_id for case in select(ACCURACY_QUICK, methods=methods, bits=bits).cases]


def test_every_method_is_measured_at_every_number_of_bits_it_has() -> None:
    measured = {(case.spec.method, case.bits) for case in ACCURACY_QUICK.cases if case.spec}

    expected = {(name, bits) for name, preset in PRESETS.items() for bits in BITS if preset.bits in (None, bits)}
    assert measured >= expected


def test_the_full_suite_measures_learned_levels_for_both_scale_fields() -> None:
    full = {case.case_id for case in ACCURACY_FULL.cases}

    assert {f"{method}-learned-b{bits}-g64" for method in ("block-opt", "lords") for bits in BITS} <= full


def test_the_unquantized_model_and_mixed_precision_are_cases() -> None:
    assert {"unquantized", "nf4+nf2-b3-g64", "nf4-double-quant-b4-g64"} <= set(case_ids())


def test_the_full_suite_has_every_quick_case_and_other_blocks() -> None:
    full = {case.case_id for case in ACCURACY_FULL.cases}

    assert full > set(case_ids())
    assert {"lords-b4-g32", "lords-b4-g128", "lords-8-bit-b3-g64", "block-opt-8-bit-b3-g32"} <= full


def test_method_bits_and_block_name_a_case() -> None:
    keys = [(case.method, case.bits, {spec.block for spec in case.specs}.__repr__()) for case in ACCURACY_FULL.cases]

    assert len(set(keys)) == len(keys)


def test_selection_keeps_the_unquantized_model() -> None:
    assert case_ids(methods=("nf3", "lords"), bits=(3,)) == [
        "unquantized",
        "nf3-b3-g64",
        "lords-b3-g64",
    ]


def test_an_unknown_method_is_refused_with_what_exists() -> None:
    with pytest.raises(UsageError, match="unknown method 'nf5'; known: nf4, nf3, nf2, block-opt"):
        case_ids(methods=("nf5",))


def test_five_bits_are_refused_with_what_exists() -> None:
    with pytest.raises(UsageError, match="bits 5 are not offered; choose of 4, 3, 2"):
        case_ids(bits=(5,))


def test_a_combination_without_a_case_is_refused() -> None:
    with pytest.raises(UsageError, match="no case of suite 'accuracy' has methods nf4 with bits 3"):
        case_ids(methods=("nf4",), bits=(3,))


def test_listing_the_cases_loads_no_torch() -> None:
    code = "import sys, lords_bench.suites.accuracy.cases; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
