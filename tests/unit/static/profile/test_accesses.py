"""An uncoalesced load and a bank conflict are regressions, in kernels written for that and by name of the tensor."""

from dataclasses import replace

import pytest
import torch

from lords_bench.emulator import Launch, emulated
from lords_bench.gate.accesses import access_changes, compare_accesses
from lords_bench.gate.finding import Finding, Level, Located
from lords_bench.records import Status
from lords_bench.records.accesses import KernelAccesses
from lords_bench.static.profile.accesses import uses_of
from ptx_texts import run

triton = pytest.importorskip("triton")

import plain_kernels as plain  # noqa: E402  (needs Triton)

# Each thread stores its number, and reads it again: `step` bytes from lane to lane.
SHARED = """
	mov.b32 %r8, global_smem;
	mul.lo.u32 %r7, %r0, {step};
	add.s32 %r9, %r8, %r7;
	st.shared.b32 [%r9], %r0;
	ld.shared.b32 %r6, [%r9];
"""


def accesses(*launches: Launch) -> KernelAccesses:
    return KernelAccesses(
        kernel="scratch", problem="32×32", target="sm_90", triton="3.9.0", status=Status.OK, reason=None,
        uses=uses_of(launches),
    )  # fmt: skip


def copied(*, transposed: bool = False) -> KernelAccesses:
    x, y = torch.randn(32, 32), torch.zeros(32, 32)
    with emulated("sm_90") as device:
        plain.copy_square[1,](x, y, TRANSPOSED=transposed, N=32, num_warps=4)
    return accesses(device.launches[0])


def through_shared(step: int) -> KernelAccesses:
    return accesses(run(SHARED.format(step=step), torch.zeros(32), shared_bytes=32 * 128))


def findings(pin: KernelAccesses, head: KernelAccesses) -> tuple[Finding, ...]:
    return compare_accesses([Located(record=pin, place="pins.jsonl#L1")], [head]).findings


def test_a_load_whose_pointers_are_transposed_is_a_regression_of_that_tensor() -> None:
    pin = copied()

    (finding,) = findings(pin, copied(transposed=True))

    assert finding.level is Level.REGRESSION
    assert finding.benchmark == "scratch on sm_90"
    assert finding.what.startswith(
        "uncoalesced: load of x_ptr in copy_square: 128 sectors where 128 would do (1.00) → 256"
    )
    assert findings(pin, copied()) == ()


def test_a_bank_conflict_that_appears_is_a_regression() -> None:
    pin = through_shared(4)

    found = findings(pin, through_shared(128))

    assert [finding.level for finding in found] == [Level.REGRESSION] * 2
    assert "bank conflicts: load of shared memory in sample: 1 passes" in found[0].what
    assert "→ 32 passes" in found[0].what


def test_a_conflict_that_was_pinned_is_no_news_and_one_that_went_is_an_improvement() -> None:
    assert findings(through_shared(128), through_shared(128)) == ()
    assert {finding.level for finding in findings(through_shared(128), through_shared(8))} == {Level.IMPROVEMENT}


def test_a_tensor_that_nobody_pinned_must_be_read_without_waste() -> None:
    pin = replace(copied(), uses=())

    assert findings(pin, copied()) == ()
    assert [finding.level for finding in findings(pin, copied(transposed=True))] == [Level.REGRESSION]


def test_a_kernel_that_is_wrong_in_the_emulator_or_gone_is_a_regression() -> None:
    pin = copied()
    wrong = replace(pin, status=Status.INCORRECT, reason="shared race", uses=())

    assert [finding.level for finding in findings(pin, wrong)] == [Level.REGRESSION]
    assert "vanished" in compare_accesses([Located(record=pin, place=None)], []).findings[0].what


def test_another_compiler_is_not_judged_and_no_pin_is_no_baseline() -> None:
    pin = copied()

    assert [finding.level for finding in findings(replace(pin, triton="3.6.0"), copied(transposed=True))] == [
        Level.INVALID
    ]
    assert [finding.level for finding in compare_accesses([], [pin]).findings] == [Level.NO_BASELINE]


def test_what_pinning_would_change_is_said() -> None:
    changes = access_changes([copied()], [copied(transposed=True)])

    assert changes[0] == "~ accesses of scratch on sm_90"
    assert "uncoalesced" in changes[1]
    assert access_changes([], [copied()]) == ("+ accesses of scratch on sm_90: new",)
