"""Pinned machine code to predicted times on GPUs nobody has here, and their error where somebody measured.

A prediction is the slower of two things for one layer of 4096 columns: reading its weights from device memory, and the
busiest pipe of the main loop, of the whole program where each has a single tile (`bounds.py`). It knows no launch, no
tail and no imperfect overlap: a lower bound.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lords_bench.kernels.common.static_case import LAYER, MANY_ROWS
from lords_bench.markdown import line, row
from lords_bench.records.fingerprint import Fingerprint, MachineCode
from lords_bench.records.latency import LatencyRecord
from lords_bench.static.bounds import GPU_MODELS, GpuModel, PredictedBound, predict
from lords_bench.static.measured import errors_in_words, measured_us, rows_of
from lords_bench.static.sass import Instruction, LoopCounts

_PARTITIONS = 4
_COLUMNS = ("kernel", "predicted µs", "pipe/memory", "bound by", "measured µs", "measured over predicted")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedTime:
    """One pinned kernel on one GPU; `measured_us` is None where no record of that product exists."""

    fingerprint: Fingerprint
    gpu: GpuModel
    bound: PredictedBound
    measured_us: float | None

    @property
    def predicted_us(self) -> float:
        """Predicted time of the layer that the kernel was launched for, microseconds."""
        cycles = max(self.bound.memory_cycles, *self.bound.on_chip_cycles().values())
        groups = rows_of(self.fingerprint) * LAYER / 32
        return cycles * groups / (self.gpu.sm_count * _PARTITIONS * self.gpu.sm_clock_ghz) / 1000

    @property
    def error(self) -> float | None:
        """How much longer the measured time is, as a share of the prediction."""
        return None if self.measured_us is None else self.measured_us / self.predicted_us - 1


def predicted_times(
    fingerprints: Sequence[Fingerprint], records: Sequence[LatencyRecord] = ()
) -> tuple[PredictedTime, ...]:
    """Every pinned kernel whose memory traffic and loop are known, on every GPU model of its target."""
    return tuple(
        PredictedTime(
            fingerprint=fingerprint,
            gpu=gpu,
            bound=predict(loop, gpu, bits_per_weight=fingerprint.bits_per_weight),
            measured_us=measured_us(fingerprint, gpu, records),
        )
        for fingerprint in fingerprints
        if fingerprint.code is not None and fingerprint.bits_per_weight is not None
        for loop in _loops(fingerprint.code)
        for gpu in GPU_MODELS
        if gpu.arch == fingerprint.target
    )


def predicted_page(times: Sequence[PredictedTime]) -> str:
    """The table as Markdown, by GPU."""
    lines = [
        "# Predicted times of one layer",
        "",
        f"**Predictions, not measurements:** lower bounds of a {LAYER}×{LAYER} layer, or one of {MANY_ROWS} rows,",
        "from the pinned machine code and published figures of each GPU: the slower of memory and the busiest pipe of",
        "the main loop, with no launch, no tail and perfect overlap. `pipe/memory` below 1 means that memory is what",
        "bounds the kernel. Where a layer leaves each program one tile there is no loop, and the whole program counts.",
        "",
        "Written by `lords-bench gate --static --pin`.",
    ]
    off = errors_in_words((t.gpu.name, t.fingerprint.kernel, t.error) for t in times if t.error is not None)
    lines += ["", *(line("- {}", sentence) for sentence in off)] if off else []
    for gpu in GPU_MODELS:
        members = [time for time in times if time.gpu is gpu]
        if not members:
            continue
        lines += ["", f"## {gpu.name} ({gpu.arch})", ""]
        lines += [row(_COLUMNS), "|---|--:|--:|---|--:|--:|"]
        for time in members:
            measured = "" if time.measured_us is None else f"{time.measured_us:.2f}"
            error = "" if time.error is None else f"{time.error:+.0%}"
            name = f"{time.fingerprint.kernel} {time.fingerprint.variant}"
            bound = time.bound
            shown = f"{time.predicted_us:.2f}", f"{bound.pipe_over_memory:.2f}"
            lines.append(row((name, *shown, bound.bound_by, measured, error)))
    return "\n".join([*lines, ""])


def _loops(code: MachineCode) -> Iterator[LoopCounts]:
    """The main loop again, as far as a prediction needs it: opcodes without operands."""
    if code.loop_units is not None and code.loop_opcodes:
        instructions = tuple(
            Instruction(address=0, opcode=opcode, operands="")
            for opcode, count in code.loop_opcodes
            for _ in range(count)
        )
        yield LoopCounts(instructions=instructions, units=code.loop_units)
