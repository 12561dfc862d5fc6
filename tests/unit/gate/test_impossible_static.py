"""The static gate believes nothing impossible: committed pins, corrupted in every way, are never green.

First a table of corruptions, then every field of a fingerprint, changed by machine. A field that may change freely
stands in `FREE` with the reason.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from architecture.import_map import ROOT
from lords_bench.cli.gate import static_layer
from lords_bench.cli.parser import build_parser
from lords_bench.errors import RecordError, StoreError, UsageError
from lords_bench.gate.finding import LayerResult, Level, Located, exit_code
from lords_bench.gate.static import compare_static
from lords_bench.records.fingerprint import Fingerprint, MachineCode
from lords_bench.records.lines import folder_lock
from lords_bench.records.status import Status
from lords_bench.records.store import read_nouns
from mutants import mutants

NVIDIA, AMD = "scale_tile 4 bit M≤8 bfloat16 on sm_90", "scale_tile 4 bit M≤8 bfloat16 on gfx942"


def pins(target: str) -> tuple[Fingerprint, ...]:
    return read_nouns(ROOT / "reports" / "static" / f"{target}.jsonl", Fingerprint).records


def pin(name: str) -> Fingerprint:
    return next(found for found in pins(name.rpartition(" ")[2]) if found.name == name)


def judged(pinned: Fingerprint, *head: Fingerprint) -> LayerResult:
    return compare_static([Located(record=pinned, place="reports/static/sm_90.jsonl#L1")], head)


def code_of(fingerprint: Fingerprint) -> MachineCode:
    assert fingerprint.code is not None
    return fingerprint.code


def other_code(**changes: Any) -> Callable[[Fingerprint], Fingerprint]:
    """Other instructions with these facts."""
    return lambda found: replace(found, code=replace(code_of(found), **{"sha256": "f" * 64, **changes}))


def same_code(**changes: Any) -> Callable[[Fingerprint], Fingerprint]:
    """The very same instructions with these facts."""
    return lambda found: replace(found, code=replace(code_of(found), **changes))


def fewer_instructions(found: Fingerprint) -> Fingerprint:
    """Half of what is not a tensor-core instruction is gone, from opcodes and pipes alike."""
    code = code_of(found)
    matrix = dict(code.matrix_opcodes)
    opcodes = tuple((name, count if name in matrix else (count + 1) // 2) for name, count in code.loop_opcodes)
    total = sum(count for _, count in opcodes)
    pipes = (("alu", total - sum(matrix.values())), ("tensor", sum(matrix.values())))
    return other_code(loop_opcodes=opcodes, pipes=pipes)(found)


LISTED: dict[str, tuple[Callable[[Fingerprint], Fingerprint], int, str]] = {
    "no registers": (other_code(registers=0), 2, "0 registers per thread are too few for any kernel"),
    "no instructions": (other_code(loop_opcodes=(), pipes=(), matrix_opcodes=()), 1, "its loop has no instruction"),
    "half of the instructions": (fewer_instructions, 2, "a gain of more than 33%"),
    "no tensor cores": (other_code(matrix_opcodes=()), 1, "tensor-core instruction gone"),
    "no loads": (other_code(load_bytes=()), 1, "global loads gone"),
    "one load": (other_code(load_bytes=((16, 1),)), 2, "a thread reads 16 bytes in a turn and decodes "),
    "twice the weights per turn": (
        lambda found: other_code(loop_units=2 * (code_of(found).loop_units or 0))(found), 1,
        "× 32 weights with the same block sizes",
    ),
    "unknown weights per turn": (other_code(loop_units=None), 2, "weights per turn were "),
    "unknown occupancy": (other_code(resident_warps=None), 2, "resident warps were "),
    "twice the occupancy": (
        lambda found: other_code(resident_warps=2 * (code_of(found).resident_warps or 0))(found), 2,
        "registers a thread are more than 65536",
    ),
    "fewer warps than it was launched with": (other_code(warps=1), 2, "a block has 1 warps and was launched with"),
    "the same instructions with half of the registers": (
        same_code(registers=40), 2, "the same instructions with other facts: registers ",
    ),
    "the same instructions with spills": (same_code(spills=4), 1, "spills appeared: 0 → 4"),
    "fewer bits under the same name": (
        lambda found: replace(found, bits_per_weight=2.25), 2, "→ 2.25 under one name",
    ),
    "another compiler for one kernel": (
        lambda found: replace(found, toolchain=replace(found.toolchain, triton="9.9.9")), 2, "install triton==3.9.0",
    ),
    "it does not compile": (
        lambda found: replace(found, code=None, status=Status.COMPILE_ERROR, reason="no"), 1,
        "does not compile any more",
    ),
}  # fmt: skip


def said(result: LayerResult) -> str:
    return "\n".join(f"{finding.level}: {finding.benchmark}: {finding.what}" for finding in result.findings)


@pytest.mark.parametrize(
    "target", ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950", "gfx1100"]
)
def test_the_committed_pins_are_green_against_themselves(target: str) -> None:
    found = pins(target)

    result = compare_static([Located(record=record, place=None) for record in found], found)

    assert (exit_code([result], strict=True), result.findings, result.same) == (0, (), len(found))


@pytest.mark.parametrize("name", LISTED)
def test_what_cannot_be_is_never_green(name: str) -> None:
    corrupt, code, message = LISTED[name]

    result = judged(pin(NVIDIA), corrupt(pin(NVIDIA)))

    assert message in said(result)
    assert exit_code([result]) == code, said(result)
    assert result.of(Level.IMPROVEMENT) == ()


def test_an_opcode_stands_in_the_counts_once_and_is_counted_from_one() -> None:
    counts = code_of(pin(NVIDIA)).matrix_opcodes

    for wrong in ((*counts, counts[0]), (*counts, ("HMMA", 0))):
        with pytest.raises(RecordError, match=r"machine code: matrix_opcodes is .*each stands there once"):
            other_code(matrix_opcodes=wrong)(pin(NVIDIA))


def test_neither_side_compiling_is_not_the_same() -> None:
    broken = replace(pin(NVIDIA), code=None, status=Status.COMPILE_ERROR, reason="no")

    result = judged(broken, broken)

    assert exit_code([result]) == 2
    assert "neither the pin nor this tree compiles: no" in said(result)


def test_a_kernel_that_is_pinned_twice_differently_is_invalid() -> None:
    first = pin(NVIDIA)
    places = [Located(record=record, place=f"pins#L{line}") for line, record in enumerate((first, other_code()(first)))]

    result = compare_static(places, [first])

    assert exit_code([result]) == 2
    assert "is pinned twice, differently; the other is pins#L0" in said(result)


def test_what_cannot_be_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_layer, "collect", lambda _arguments: (other_code(registers=0)(pin(NVIDIA)),))

    with pytest.raises(UsageError, match=r"nothing was pinned: .* on sm_90 cannot be true: 0 registers per thread"):
        static_layer.pin(build_parser().parse_args(["gate", "--static", "--pin", "--targets", "sm_90"]))


def test_a_folder_of_pins_that_another_process_renews_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "static").mkdir()
    monkeypatch.setattr(static_layer, "collect", lambda _arguments: (pin(NVIDIA),))
    command = ["gate", "--static", "--pin", "--targets", "sm_90", "--out", str(tmp_path)]

    with folder_lock(tmp_path / "static"), pytest.raises(StoreError, match="is being written by process"):
        static_layer.pin(build_parser().parse_args(command))

    assert not (tmp_path / "static" / "sm_90.jsonl").exists()
    assert static_layer.pin(build_parser().parse_args(command)) == 0
    assert (tmp_path / "static" / "sm_90.jsonl").exists()


# Fields that other code may change without anything but a note or a warning.
FREE = {
    "code.sha256": "what a change of code is",
    "code.registers": "the compiler's choice; what it costs shows in spills and in occupancy",
    "code.shared_bytes": "the compiler's choice; what it costs shows in occupancy",
    "code.load_bytes": "wider or more loads than are needed cost instructions, which are counted",
    "code.loop_opcodes": "other instructions; their number must agree with that by pipe, and be in reason",
    "code.pipes": "other instructions; their number must agree with that by opcode, and be in reason",
    "config": "a change of tiles is a change of code; its machine code is compared",
    "reason": "belongs to what does not compile",
}
FREE_ON_AMD = FREE | {
    "code.resident_warps": "no rule of ours says how many fit; fewer are a regression",
    "code.matrix_opcodes": "counted over the whole program, with what is peeled off the loop",
}


@pytest.mark.parametrize(("name", "free"), [(NVIDIA, FREE), (AMD, FREE_ON_AMD)])
def test_no_field_changes_unnoticed_unless_there_is_a_reason(name: str, free: dict[str, str]) -> None:
    pinned = pin(name)
    green: dict[str, str] = {}
    seen: set[str] = set()

    for path, mutant in mutants(pinned):
        # Of other code everything may differ but what a rule says.
        changed = mutant
        if mutant.code is not None and not path.endswith("sha256") and path.startswith("code."):
            changed = replace(mutant, code=replace(mutant.code, sha256="f" * 64))
        seen.add(path)
        result = judged(pinned, changed)
        if exit_code([result]) == 0:
            green.setdefault(path, said(result))

    assert {path: what for path, what in green.items() if path not in free} == {}
    assert len(seen) > 15


def test_the_same_instructions_have_the_same_facts() -> None:
    """Where the hash and the configuration are the pin's, no other fact may change."""
    pinned = pin(NVIDIA)

    green = {
        path
        for path, mutant in mutants(pinned)
        if path.startswith("code.") and path != "code.sha256" and exit_code([judged(pinned, mutant)]) == 0
    }

    assert green == set()
