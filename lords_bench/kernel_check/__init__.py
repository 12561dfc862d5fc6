"""Every kernel against float64 on a device: what has to hold before any of them is timed.

Read `cases.py` (what is computed), then `check.py` (when a product is right) and `training.py` (gradients and fake
quantization), then `isolated.py` (all of it in processes of their own, so that no failure hides another).
"""

from lords_bench.kernel_check.cases import all_cases, case_grid, make_case, prepared_for
from lords_bench.kernel_check.check import (
    CHECKED,
    CheckResult,
    check,
    check_case,
    check_kernels,
    check_named,
    expected_and_bound,
)
from lords_bench.kernels.common.check_case import CheckCase

__all__ = [
    "CHECKED",
    "CheckCase",
    "CheckResult",
    "all_cases",
    "case_grid",
    "check",
    "check_case",
    "check_kernels",
    "check_named",
    "expected_and_bound",
    "make_case",
    "prepared_for",
]
