"""`LatencyRecord`: one way to compute one product, timed in one regime, with everything needed to trace and repeat it.

Records of one comparison share `comparison_id`: their samples were taken round by round together, so that ratios are
paired. Nothing is paired across comparisons. Keys are derived, never stored: `run_key` says what must be equal for a
killed run to go on from its records, `comparison_key` what must be equal for two records to stand in one section.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lords_bench.errors import RecordError, SpecError
from lords_bench.quant import BITS, GemmShape, parity_rank
from lords_bench.records.bench import Setting, digest
from lords_bench.records.environment import Environment
from lords_bench.records.measurement import Measurement, Peaks, Regime
from lords_bench.records.status import Status, require_created, require_outcome

SuiteSize = Literal["cpu", "quick", "full"]
Policy = Literal["quick", "full"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyCase:
    """One product y_MN = x_MK @ W_NKᵀ with W in a format of `bits` and storage parity with blocks of `block`.

    Attributes:
        model: name of the model the layer is of.
        layer: name of the layer.
        m: rows of the activation (tokens).
        n: out features.
        k: in features.
        bits: bits per code.
        block: inputs per block scale; the rank of LoRDS is at parity with it.

    Raises:
        SpecError: a size below 1, or bits that no format has.
    """

    model: str
    layer: str
    m: int
    n: int
    k: int
    bits: int
    block: int

    def __post_init__(self) -> None:
        GemmShape(m=self.m, n=self.n, k=self.k)
        if self.bits not in BITS:
            raise SpecError(f"case of layer {self.layer!r} has {self.bits} bits; choose of {', '.join(map(str, BITS))}")
        if self.block < 1:
            raise SpecError(f"case of layer {self.layer!r} has block {self.block}; give at least 1")

    @property
    def shape(self) -> GemmShape:
        """The product's size."""
        return GemmShape(m=self.m, n=self.n, k=self.k)

    @property
    def rank(self) -> int:
        """Rank of LoRDS at storage parity with the block."""
        return parity_rank(self.n, self.k, self.block)

    @property
    def case_id(self) -> str:
        """Unique within the suite: `llama-3-8b/o_proj-m16-b4-g64`."""
        return f"{self.model}/{self.layer}-m{self.m}-b{self.bits}-g{self.block}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyMethod:
    """A way to compute a product that the suite times.

    Attributes:
        name: as records have it.
        label: as pages have it.
        bits: numbers of bits that it exists for.
        needs: package that must be installed, None where the project itself suffices.
        is_subject: whether it is LoRDS, and not what LoRDS is compared with.
    """

    name: str
    label: str
    bits: tuple[int, ...]
    needs: str | None = None
    is_subject: bool = False


SUBJECT = "lords"
DENSE = "dense"
# The baseline's second samples of every round: the A/A comparison that gives the noise floor.
DENSE_AGAIN = "dense-again"
KERNEL_PREFIX = "lords-"

METHODS: tuple[LatencyMethod, ...] = (
    LatencyMethod(name=SUBJECT, label="LoRDS", bits=BITS, is_subject=True),
    LatencyMethod(name=DENSE, label="dense matmul", bits=BITS),
    LatencyMethod(name="nf-block", label="NF blocks (this project)", bits=BITS),
    LatencyMethod(name="nf-dequantize", label="NF blocks, dequantize + matmul", bits=BITS),
    LatencyMethod(name="int-block", label="int blocks (this project)", bits=BITS),
    LatencyMethod(name="bitsandbytes", label="bitsandbytes NF4", bits=(4,), needs="bitsandbytes"),
    LatencyMethod(
        name="bitsandbytes-dequantize", label="bitsandbytes NF4, dequantize + matmul", bits=(4,), needs="bitsandbytes"
    ),
    LatencyMethod(name="qlora-peft", label="QLoRA as PEFT runs it", bits=(4,), needs="peft"),
    LatencyMethod(name="qlora-fused", label="QLoRA, fused (this project)", bits=BITS),
    LatencyMethod(name="qlora-merged", label="QLoRA, merged and quantized again", bits=BITS),
    LatencyMethod(name="tinygemm", label="torch int4 (tinygemm)", bits=(4,)),
    LatencyMethod(name="gemlite", label="gemlite int4", bits=(4,), needs="gemlite"),
)


def method_label(name: str) -> str:
    """Label of a method, or of a LoRDS kernel that was timed by itself (`lords-scale_tile`)."""
    found = next((method.label for method in METHODS if method.name == name), None)
    if found is None and name.startswith(KERNEL_PREFIX):
        return f"LoRDS, kernel {name.removeprefix(KERNEL_PREFIX)}"
    return found or name


# Where a kernel's configuration comes from: a tuned row for this very problem, one for a near problem, the kernel's
# own rule, or a library that decides by itself.
ConfigOrigin = Literal["exact", "nearest", "formula", "library"]
Facts = tuple[tuple[str, Setting], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyRun:
    """What all records of one invocation share.

    Attributes:
        run_id: names the invocation.
        size: which set of cases was run.
        is_fake: whether a fake device made the numbers up; such a record is good for nothing but trying the software.
        policy: name of the sampling rules, such as `quick`.
        libraries: (name, version) of what a baseline may need, sorted by name; version None = not installed.
        facts: what the device said about itself (driver, clocks, power limit, load, …), sorted by name.
        peaks: what the device reached when it was asked for nothing else.
        dtype: of activations and of the dense weight.
        tables_sha256: hash of the tuned tables that configurations were looked up in; None where there were none.
        planned_comparisons: comparisons the run set out to make, so that missing ones are noticed.
        environment: machine, versions and source.
        command: the command line.
        seed: seed of weights and activations.

    Raises:
        RecordError: lists that are not sorted by name, or nothing planned.
    """

    run_id: str
    size: SuiteSize
    is_fake: bool
    policy: str
    libraries: tuple[tuple[str, str | None], ...]
    facts: Facts
    peaks: Peaks
    dtype: Literal["bfloat16", "float16", "float32"]
    tables_sha256: str | None
    planned_comparisons: int
    environment: Environment
    command: str
    seed: int

    def __post_init__(self) -> None:
        for what, names in (
            ("libraries", [name for name, _ in self.libraries]),
            ("facts", [name for name, _ in self.facts]),
        ):
            if names != sorted(set(names)):
                raise RecordError(f"latency run: {what} {names} must be sorted by name, each once")
        if self.planned_comparisons < 1:
            raise RecordError(f"latency run: planned_comparisons is {self.planned_comparisons}; it is at least 1")

    @property
    def run_key(self) -> str:
        """Key under which a killed run finds its completed comparisons."""
        environment = self.environment
        source = [environment.lords_bench, environment.source_sha256]
        versions = [environment.python, environment.torch, environment.triton, [list(item) for item in self.libraries]]
        device = [environment.device, environment.device_name, self.is_fake, self.tables_sha256]
        return digest(["latency", self.policy, self.dtype, self.seed, *source, *versions, *device])

    @property
    def comparison_key(self) -> str:
        """What must be equal for two records to stand in one section: device, real or fake, and dtype."""
        environment = self.environment
        return digest(["latency", environment.device, environment.device_name, self.is_fake, self.dtype])


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyRecord:
    """One method on one case in one regime.

    Attributes:
        run: what it shares with the other records of its invocation.
        case: the product.
        regime: state of the caches and what the clock was around.
        comparison_id: equal for records whose samples are paired round by round.
        methods: every method of the comparison, so that a missing one is noticed.
        method: what was timed, such as `lords`, `bf16` or `bitsandbytes`.
        kernel: what ran, in words that name the code; None where nothing ran.
        config: its configuration as (name, value) pairs; empty where it has none, or a library's is not known.
        config_origin: where the configuration comes from; None where there is none.
        bits_per_weight: of the stored tensors, padding and tables included; None where nothing was built.
        status: how it ended.
        reason: why it did not end well, one line; None exactly when the status is ok.
        worst_error: largest error of the check in units of its bound, at most 1 if the status is ok; None without one.
        bytes_moved: bytes that a cold launch cannot avoid moving; None = unknown.
        flops: operations, a multiply-add being two; None = unknown.
        measurement: samples; present exactly when the status is ok.
        notes: what a reader should know about the device during the comparison, in words.
        created_utc: when the comparison ended, as `2026-01-31T12:00:00Z`.

    Raises:
        RecordError: fields that contradict each other.
    """

    run: LatencyRun
    case: LatencyCase
    regime: Regime
    comparison_id: str
    methods: tuple[str, ...]
    method: str
    kernel: str | None = None
    config: Facts = ()
    config_origin: ConfigOrigin | None = None
    bits_per_weight: float | None = None
    status: Status
    reason: str | None = None
    worst_error: float | None = None
    bytes_moved: int | None = None
    flops: int | None = None
    measurement: Measurement | None = None
    notes: tuple[str, ...] = ()
    created_utc: str

    def __post_init__(self) -> None:
        where = f"{self.case.case_id} {self.method!r} {self.regime}"
        require_outcome(where, self.status, self.reason, ("a measurement belongs", self.measurement))
        if self.measurement is not None and self.measurement.regime != self.regime:
            raise RecordError(f"{where}: the measurement is of regime {self.measurement.regime!r}")
        if self.method not in self.methods:
            raise RecordError(f"{where}: method is not among its comparison's methods {self.methods}; add it")
        if self.status is Status.OK and self.worst_error is not None and not 0 <= self.worst_error <= 1:
            raise RecordError(f"{where}: worst_error is {self.worst_error}; above its bound the status is incorrect")
        require_created(self.created_utc)

    @property
    def is_clean(self) -> bool:
        """Whether it may serve as a stored baseline: ok, real, and from an unchanged commit."""
        return self.status is Status.OK and not self.run.is_fake and self.run.environment.git_dirty is False


def completed_comparisons(records: Iterable[LatencyRecord], run_key: str) -> frozenset[tuple[str, Regime]]:
    """(case id, regime) of the comparisons of that run that need not be made again.

    Those with a record of every method, none of which ran out of time or memory: what a method cannot do it cannot do
    the next time either. Without the dense product nothing was compared, and it is made again, unless a method
    brought the device down: that would only happen again.
    """
    again = (Status.TIMEOUT, Status.OUT_OF_MEMORY)
    found: dict[str, list[LatencyRecord]] = {}
    for record in records:
        if record.run.run_key == run_key:
            found.setdefault(record.comparison_id, []).append(record)
    return frozenset(
        (members[0].case.case_id, members[0].regime)
        for members in found.values()
        if {record.method for record in members} == set(members[0].methods)
        and all(record.status not in again for record in members)
        and any(record.status is Status.CRASH or _is_timed_dense(record) for record in members)
    )


def _is_timed_dense(record: LatencyRecord) -> bool:
    return record.method == DENSE and record.status is Status.OK
