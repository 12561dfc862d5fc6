"""The static layer on made-up fingerprints: every way to be worse is named, and nothing else turns it red."""

from typing import Any

import pytest

from gate_builders import CHAIN, make_fingerprint, pinned, uncompiled
from lords_bench.gate.finding import Finding, Level, exit_code
from lords_bench.gate.static import compare_static, pin_changes
from lords_bench.records.fingerprint import Fingerprint, Toolchain


def findings(pin: Fingerprint, head: Fingerprint) -> tuple[Finding, ...]:
    return compare_static(pinned(pin), [head]).findings


def test_an_unchanged_tree_is_the_same_and_green() -> None:
    result = compare_static(pinned(make_fingerprint()), [make_fingerprint()])

    assert (result.same, result.findings, exit_code([result], strict=True)) == (1, (), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spills": 6, "stack_bytes": 24}, "spills appeared: 0 → 6 accesses of local memory, 0 → 24 B of stack"),
        ({"stack_bytes": 8}, "spills appeared: 0 → 0 accesses of local memory, 0 → 8 B of stack"),
        ({"matrix_opcodes": (("HMMA.16816.F32", 4),)}, "tensor-core instruction gone: IMMA"),
        ({"matrix_opcodes": ()}, "tensor-core instruction gone: HMMA, IMMA"),
        (
            {"matrix_opcodes": (("HMMA.16816.F32", 4), ("IMMA.16832.S8.S8.SAT", 32))},
            "tensor-core work lost: -48% multiply-adds per weight",
        ),
        ({"load_bytes": ((4, 40),)}, "global loads narrowed: 10 of 16 B → 40 of 4 B"),
        ({"load_bytes": ((16, 5), (2, 40))}, "global loads narrowed: 10 of 16 B → 5 of 16 B, 40 of 2 B"),
        ({"resident_warps": 12, "registers": 168}, "occupancy stepped down: 16 → 12 warps per multiprocessor"),
    ],
)
def test_what_is_worse_is_a_regression_that_says_what_and_where(changes: dict[str, Any], message: str) -> None:
    result = compare_static(pinned(make_fingerprint()), [make_fingerprint(**changes)])

    (finding,) = result.findings
    assert finding.level is Level.REGRESSION
    assert message in finding.what
    assert finding.benchmark == "rank_expanded 4 bit M=1 on sm_90"
    assert finding.source == "kernels/rank_expanded/kernel.py"
    assert finding.record == "reports/static/sm_90.jsonl#L1"
    assert exit_code([result]) == 1


def test_five_percent_more_instructions_per_weight_warn_and_fail_only_if_strict() -> None:
    more = make_fingerprint(decode=238)

    result = compare_static(pinned(make_fingerprint()), [more])

    (finding,) = result.findings
    assert finding.level is Level.WARNING
    assert "instructions per 32 weights 3.000 → 3.160 (+5.3%), by pipe: alu 2.22 → 2.38" in finding.what
    assert (exit_code([result]), exit_code([result], strict=True)) == (0, 1)


def test_other_code_that_is_no_worse_is_only_noted() -> None:
    (finding,) = findings(make_fingerprint(), make_fingerprint(registers=126))

    assert (finding.level, finding.what.split(";")[0]) == (Level.NOTE, "registers 128 → 126")


def test_fewer_spills_are_an_improvement() -> None:
    (finding,) = findings(make_fingerprint(spills=4), make_fingerprint(sha256="c" * 64))

    assert finding.level is Level.IMPROVEMENT


def test_larger_tiles_per_turn_do_not_look_like_more_work_per_weight() -> None:
    twice = make_fingerprint(
        loop_units=200.0,
        matrix_opcodes=(("HMMA.16816.F32", 8), ("IMMA.16832.S8.S8.SAT", 128)),
        decode=454,
        config=(("BLOCK_N", "128"), ("num_warps", "4")),
    )

    assert [finding.level for finding in findings(make_fingerprint(), twice)] == [Level.NOTE]


def test_a_vanished_kernel_fails() -> None:
    other = make_fingerprint(variant="2 bit M=1")

    result = compare_static(pinned(make_fingerprint(), other), [make_fingerprint()])

    (finding,) = result.findings
    assert (finding.level, finding.benchmark) == (Level.REGRESSION, other.name)
    assert "vanished" in finding.what


def test_a_kernel_that_no_longer_compiles_fails_with_the_compiler_s_reason() -> None:
    (finding,) = findings(make_fingerprint(), uncompiled())

    assert finding.level is Level.REGRESSION
    assert "does not compile any more: compile_error: CompilationError: no such name" in finding.what


def test_an_unpinned_kernel_has_no_baseline() -> None:
    result = compare_static([], [make_fingerprint()])

    assert exit_code([result]) == 3
    assert "lords-bench gate --static --pin" in result.findings[0].what


def test_pins_of_another_toolchain_are_invalid_with_the_remedy_and_hide_no_kernel() -> None:
    other = Toolchain(triton="3.6.0", assembler=CHAIN.assembler, disassembler=CHAIN.disassembler)
    pins = pinned(make_fingerprint(toolchain=other), make_fingerprint(toolchain=other, variant="2 bit M=1"))

    result = compare_static(pins, [make_fingerprint(spills=9)])

    assert exit_code([result]) == 1
    invalid = result.of(Level.INVALID)
    assert [finding.benchmark for finding in invalid] == ["all of sm_90"]
    assert "install triton==3.6.0, or re-pin on purpose with lords-bench gate --static --pin" in invalid[0].what
    assert ["vanished" in finding.what for finding in result.of(Level.REGRESSION)] == [True]


def test_comparing_nothing_is_never_green() -> None:
    result = compare_static([], [])

    assert exit_code([result]) == 2
    assert result.findings[0].what == "nothing was compared"


def test_what_pinning_changes_can_be_read() -> None:
    gone, new = make_fingerprint(variant="3 bit M=1"), make_fingerprint(variant="2 bit M=1")
    moved = make_fingerprint(registers=126, config=(("BLOCK_N", "128"), ("num_warps", "4")), decode=230)

    lines = pin_changes([make_fingerprint(), gone], [moved, new])

    assert lines == (
        "~ rank_expanded 4 bit M=1 on sm_90",
        "    config: BLOCK_N 64 → 128",
        "    registers 128 → 126",
        "    instructions per 32 weights 3.000 → 3.080 (+2.7%)",
        "    main loop: PRMT 222 → 230",
        "+ rank_expanded 2 bit M=1 on sm_90: new",
        "- rank_expanded 3 bit M=1 on sm_90: gone",
    )


def test_pins_as_they_were_give_no_lines() -> None:
    assert pin_changes([make_fingerprint()], [make_fingerprint()]) == ()
