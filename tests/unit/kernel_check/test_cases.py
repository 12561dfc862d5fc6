"""The grid of the check leaves no combination out that a kernel could be wrong on."""

from itertools import product

import torch

from lords_bench.kernel_check import CheckResult, case_grid
from lords_bench.kernel_check.cases import DTYPES, RANKS, WIDE_RANK
from lords_bench.kernel_cli import check_rows
from lords_bench.records.status import Status


def combinations(*, at_most: int) -> set[tuple[int, int, torch.dtype]]:
    return {(case["bits"], case["rank"], case["dtype"]) for case in case_grid() if case["m"] <= at_most}


def test_every_width_meets_every_rank_and_dtype_for_few_tokens_and_for_many() -> None:
    wanted = set(product((4, 3, 2), (*RANKS, WIDE_RANK), DTYPES))

    assert combinations(at_most=4) == wanted
    assert wanted <= {(c["bits"], c["rank"], c["dtype"]) for c in case_grid() if c["m"] > 4}


def test_every_width_and_dtype_meets_levels_on_and_off_the_grid() -> None:
    found = {(case["bits"], case["dtype"], case["seed"] % 2) for case in case_grid() if case["m"] <= 4}

    assert found == set(product((4, 3, 2), DTYPES, (0, 1)))


def test_the_table_counts_by_kernel_bits_and_dtype_and_names_the_worst_error() -> None:
    def result(case: str, status: Status, worst: float | None) -> CheckResult:
        return CheckResult(kernel="one", case=case, status=status, reason=None, worst=worst)

    rows = check_rows(
        (
            result("m1-n2-k3-b4-r16-float16", Status.OK, 0.25),
            result("m1-n2-k3-b4-r5-float16", Status.INCORRECT, 3.0),
            result("m1-n2-k3-b4-r64-float16", Status.UNSUPPORTED, None),
            result("m1-n2-k3-b2-r5-float16", Status.CRASH, None),
            result("before a case", Status.CRASH, None),
        )
    )

    assert rows == (
        ("one", "b4", "float16", "1", "1", "1", "3.000"),
        ("one", "b2", "float16", "0", "0", "1", ""),
        ("one", "", "before a case", "0", "0", "1", ""),
    )
