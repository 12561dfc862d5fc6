"""Static reports to rows of text: the machine code of every kernel, predicted bounds, and AMD compiles."""

from collections.abc import Sequence
from dataclasses import dataclass

from lords_bench.records.status import Status
from lords_bench.static.report import StaticReport
from lords_bench.static.sass import Pipe


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """A table as text, for whoever prints it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_PIPES = (Pipe.ALU, Pipe.FMA, Pipe.SHARED, Pipe.GLOBAL, Pipe.TENSOR)


def machine_code_table(reports: Sequence[StaticReport]) -> TextTable:
    """NVIDIA: resources of every kernel, and warp instructions per 32 weights of its main loop, by pipe."""
    rows = [
        (
            report.label,
            report.target,
            str(report.resources.registers),
            str(report.warps_per_sm),
            f"{(report.shared_bytes or 0) / 1024:.0f}",
            *_loop_cells(report),
            "; ".join(report.violations) or "ok",
        )
        for report in reports
        if report.resources is not None
    ]
    columns = ("kernel", "target", "regs", "warps/SM", "KiB", "instr/32w", *_PIPES, "tensor opcode", "load B", "budget")
    return TextTable(title="Machine code (read from the cubin)", columns=columns, rows=tuple(rows))


def bounds_table(reports: Sequence[StaticReport]) -> TextTable:
    """Predicted cycles per 32 weights of every kernel on every GPU model of its target."""
    rows = [
        (
            report.label,
            bound.gpu,
            *(f"{cycles:.2f}" for cycles in bound.on_chip_cycles().values()),
            f"{bound.memory_cycles:.2f}",
            f"{bound.pipe_over_memory:.2f}",
            bound.bound_by,
        )
        for report in reports
        for bound in report.bounds
    ]
    columns = (
        "kernel",
        "GPU",
        "issue",
        "alu",
        "fma",
        "shared",
        "tensor",
        "convert",
        "memory",
        "pipe/memory",
        "bound by",
    )
    title = "PREDICTED bounds, cycles per 32 weights (from machine code and published rates; nothing here was measured)"
    return TextTable(title=title, columns=columns, rows=tuple(rows))


def amd_table(reports: Sequence[StaticReport]) -> TextTable:
    """AMD: what compiled, with spills and matrix instructions."""
    rows = [
        (
            report.label,
            report.target,
            str(report.amd.vector_registers),
            str(report.amd.spilled_registers),
            ", ".join(f"{opcode} ×{count}" for opcode, count in report.amd.matrix_opcodes.items()) or "none",
            "; ".join(report.violations) or "ok",
        )
        for report in reports
        if report.amd is not None
    ]
    columns = ("kernel", "target", "VGPRs", "spilled", "matrix instructions", "budget")
    return TextTable(title="AMD (compiled, not measured)", columns=columns, rows=tuple(rows))


def failures_table(reports: Sequence[StaticReport]) -> TextTable:
    """What did not compile, and why."""
    rows = [(r.label, r.target, str(r.status), r.reason or "") for r in reports if r.status is not Status.OK]
    return TextTable(title="Not compiled", columns=("kernel", "target", "status", "reason"), rows=tuple(rows))


def _loop_cells(report: StaticReport) -> tuple[str, ...]:
    if report.loop is None:
        return ("", *("" for _ in _PIPES), "", "")
    pipes = report.loop.pipe_per_32_weights()
    widths = report.loop.global_load_widths()
    return (
        f"{report.loop.instructions_per_32_weights:.2f}",
        *(f"{pipes.get(pipe, 0):.2f}" for pipe in _PIPES),
        " ".join(report.loop.tensor_opcodes[:2]),
        "/".join(f"{width}×{count}" for width, count in sorted(widths.items(), reverse=True)),
    )
