"""`TuningTable`: every configuration of one problem with its time, for judging searches without the device.

One line of a file holds one table. What its times are stands in `evidence`: `measured` on the machine of its key,
`predicted` from machine code, or `fake`; a `predicted` table says how well a search finds its way in a landscape of
that shape, and nothing about speed.
"""

from dataclasses import dataclass
from math import isfinite

from lords_bench.errors import RecordError
from lords_bench.records.measurement import quantile
from lords_bench.records.status import Status
from lords_bench.records.trial import Evidence, Settings
from lords_bench.records.tuned import Setting, TunedKey


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One configuration.

    Attributes:
        values: of the configuration's fields, in the table's order.
        status, reason: how it ended.
        samples_ns: aligned over the rows of a table by round; one value where it is a prediction; empty unless ok.
    """

    values: tuple[int | bool | str, ...]
    status: Status
    reason: str | None = None
    samples_ns: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != bool(self.samples_ns) or (self.status is Status.OK) != (self.reason is None):
            raise RecordError(f"table row {self.values} is {self.status}; ok has samples, all others a reason")
        if any(not (isfinite(value) and value > 0) for value in self.samples_ns):
            raise RecordError(f"table row {self.values}: a time is positive and finite")

    @property
    def median_ns(self) -> float | None:
        """None where there is no time."""
        return quantile(self.samples_ns, 0.5) if self.samples_ns else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningTable:
    """Every configuration of a problem, the default first, in canonical order.

    Attributes:
        fields: names of a configuration's fields.
        regime, timer: of the samples; for predictions, what predicted.
        command: what made the table.

    Raises:
        RecordError: rows that do not fit the fields, or none that is ok.
    """

    key: TunedKey
    evidence: Evidence
    fields: tuple[str, ...]
    rows: tuple[TableRow, ...]
    regime: str
    timer: str
    command: str
    created_utc: str
    commit: str | None

    def __post_init__(self) -> None:
        if any(len(row.values) != len(self.fields) for row in self.rows):
            raise RecordError(f"tuning table of fields {self.fields} has a row of another length")
        if not any(row.status is Status.OK for row in self.rows):
            raise RecordError("tuning table has no row that is ok")

    @property
    def configs(self) -> tuple[Settings, ...]:
        """The configurations in order."""
        return tuple(self._settings(row) for row in self.rows)

    @property
    def best_ns(self) -> float:
        """Least median."""
        return min(row.median_ns for row in self.rows if row.median_ns is not None)

    @property
    def label(self) -> str:
        """For people: kernel, machine and problem."""
        problem, machine = self.key.problem, self.key.machine
        return f"{self.key.kernel} {machine.gpu} M{problem.m_bucket} {problem.n}×{problem.k} {problem.bits}b"

    def _settings(self, row: TableRow) -> Settings:
        pairs: list[Setting] = list(zip(self.fields, row.values, strict=True))
        return tuple(pairs)
