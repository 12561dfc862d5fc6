"""Fingerprints, pins and believable records with defaults; a test overrides what it is about."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from latency_builders import BRIEF, make_latency, make_run
from lords_bench.gate.finding import Located
from lords_bench.records import AccuracySamples, BenchRecord
from lords_bench.records.accesses import KernelAccesses, MemoryUse
from lords_bench.records.codec import encode_line
from lords_bench.records.fingerprint import Fingerprint, MachineCode, Toolchain
from lords_bench.records.latency import DENSE, DENSE_AGAIN, LatencyCase, LatencyRecord
from lords_bench.records.plausible import stored_bytes
from lords_bench.records.status import Status
from lords_bench.timing.fake import QUIET, FakeDevice, FakeNoise, fake_candidate
from lords_bench.timing.protocol import compare
from record_builders import LAYERS, changed, make_environment, make_record, make_samples, study

CHAIN = Toolchain(triton="3.9.0", assembler="12.9.86", disassembler="13.1.80")


def make_code(**changes: Any) -> MachineCode:
    """A loop of 300 instructions for 100 × 32 weights, with 16-byte loads and two kinds of MMA.

    Opcodes and pipes of the loop follow from the tensor-core instructions and from `decode`, what the rest is.
    """
    matrix = changes.get("matrix_opcodes", (("HMMA.16816.F32", 4), ("IMMA.16832.S8.S8.SAT", 64)))
    rest = (("LDG.E.128", 10), ("PRMT", changes.pop("decode", 222)))
    pipes = (("alu", rest[1][1]), ("global", 10), ("tensor", sum(count for _, count in matrix)))
    fields: dict[str, Any] = {
        "sha256": "a" * 64,
        "registers": 128,
        "spills": 0,
        "stack_bytes": 0,
        "shared_bytes": 32768,
        "warps": 4,
        "resident_warps": 16,
        "matrix_opcodes": matrix,
        "load_bytes": ((16, 10),),
        "loop_opcodes": tuple(sorted((*matrix, *rest))),
        "pipes": tuple(pair for pair in pipes if pair[1]),
        "loop_units": 100.0,
    }
    return MachineCode(**{**fields, **changes})


def make_fingerprint(**changes: Any) -> Fingerprint:
    """`rank_expanded 4 bit M=1` on sm_90; fields of its code may be given as well, and change its hash."""
    names = {*MachineCode.__dataclass_fields__, "decode"}
    of_code = {name: value for name, value in changes.items() if name in names}
    if of_code:
        of_code.setdefault("sha256", "b" * 64)
    fields: dict[str, Any] = {
        "kernel": "rank_expanded",
        "variant": "4 bit M=1",
        "target": "sm_90",
        "toolchain": CHAIN,
        "config": (("BLOCK_N", "64"), ("num_warps", "4")),
        "bits_per_weight": 4.125,
        "status": Status.OK,
        "reason": None,
        "code": make_code(**of_code),
    }
    return Fingerprint(**{**fields, **{name: value for name, value in changes.items() if name not in names}})


def uncompiled(**changes: Any) -> Fingerprint:
    """One that the compiler refused."""
    return replace(
        make_fingerprint(**changes), status=Status.COMPILE_ERROR, reason="CompilationError: no such name", code=None
    )


def make_accesses(**changes: Any) -> KernelAccesses:
    """Of one kernel: a load from global memory, and one from shared memory with a conflict."""
    use = {"function": "scale_tile_kernel", "kind": "load"}
    shared = MemoryUse(**use, space="shared", tensor=None, requests=8, units=16, fewest_units=8)
    codes = MemoryUse(**use, space="global", tensor="packed_ptr", requests=8, units=128, fewest_units=128)
    fields: dict[str, Any] = {
        "kernel": "scale_tile", "problem": "m16-n256-k512-b4-r16-bfloat16", "target": "sm_90", "triton": "3.9.0",
        "status": Status.OK, "reason": None, "uses": (codes, shared),
    }  # fmt: skip
    return KernelAccesses(**{**fields, **changes})


def pinned(*fingerprints: Fingerprint) -> list[Located[Fingerprint]]:
    """As they would stand in a pin file."""
    return [
        Located(record=fingerprint, place=f"reports/static/{fingerprint.target}.jsonl#L{line}")
        for line, fingerprint in enumerate(fingerprints, start=1)
    ]


def write_pins(folder: Path, *fingerprints: Fingerprint) -> Path:
    """Pin files below `folder`/static; returns `folder`."""
    for target in {fingerprint.target for fingerprint in fingerprints}:
        path = folder / "static" / f"{target}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{encode_line(f)}\n" for f in fingerprints if f.target == target))
    return folder


def true_samples(**changes: Any) -> AccuracySamples:
    """Samples that can be of 4-bit LoRDS at block 64: two square layers that store what the format needs."""
    fields = {"layer_shapes": ((128, 128), (256, 256)), "layer_stored_bytes": (8704, 34816)}
    return make_samples(**{**fields, **changes})


def true_record(case_id: str = "lords-b4-g64", **changes: Any) -> BenchRecord:
    """A record that does not contradict itself."""
    is_ok = changes.get("status", Status.OK) is Status.OK
    return make_record(case_id, **({"samples": true_samples(), **changes} if is_ok else changes))


def true_study(**changes: Any) -> list[BenchRecord]:
    """The made-up study as a run would have left it: bytes by the format, and no layer of the unquantized model."""
    return [_as_stored(record) for record in study(**changes)]


def with_samples(record: BenchRecord, **changes: Any) -> BenchRecord:
    """The record with some fields of its samples replaced."""
    assert record.samples is not None
    return changed(record, samples=replace(record.samples, **changes))


def _as_stored(record: BenchRecord) -> BenchRecord:
    of_layer = dict(record.mixed or ())
    if record.bits is None:
        names = ("names", "shapes", "squared_error", "squared_norm", "stored_bytes")
        return with_samples(record, **{f"layer_{name}": () for name in names})
    specs = [record.spec or of_layer[name] for name, _ in LAYERS]
    counted = tuple(stored_bytes(spec, n, k) for spec, (_, (n, k)) in zip(specs, LAYERS, strict=True))
    return with_samples(record, layer_stored_bytes=counted)


def latency_process(
    cases: tuple[LatencyCase, ...],
    *,
    slower: float = 0.0,
    seed: int,
    run_id: str | None = None,
    clock: float = 1.0,
    noise: FakeNoise = QUIET,
    **environment: Any,
) -> list[LatencyRecord]:
    """Records of one fresh process on a fake device: LoRDS, `slower` than 10 µs, beside a dense product of 20 µs."""
    environment.pop("processes", None)
    run = make_run(
        run_id=run_id or f"run-{seed}",
        environment=make_environment(**{"device": "cuda", "gpu_name": "Example GPU", **environment}),
    )
    records = []
    for index, case in enumerate(cases):
        truth = {"lords": clock * 10_000 * (1 + slower), DENSE: clock * 20_000}
        device = FakeDevice(truth_ns=truth, noise=noise, seed=100 * seed + index)
        comparison = compare(
            device, [fake_candidate("lords"), fake_candidate(DENSE)], baseline=DENSE, regime="cold", policy=BRIEF
        )
        found = {name: comparison.outcome(name).measurement for name in truth}
        found[DENSE_AGAIN] = comparison.baseline_again
        records += [
            make_latency(
                method,
                run=run,
                case=case,
                flops=case.shape.flops,
                comparison_id=f"{run.run_id}/{case.case_id}",
                measurement=measurement,
                methods=tuple(found),
            )
            for method, measurement in found.items()
        ]
    return records
