"""Which measured time belongs to a pinned kernel, and how far its prediction was off, in words.

A prediction is of the machine code that the kernel's own rule gives for one layer at one rank. A record counts for it
only if it is of that layer, rank, number of bits and tokens, in the same number type, cold, on that GPU, and ran by
that rule: a tuned configuration is other machine code.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from lords_bench.kernels.common.static_case import BLOCK, LAYER, RANK
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.status import Status
from lords_bench.static.bounds import GpuModel

_LORDS = re.compile(r"(?P<bits>\d) bit M(?P<sign>[=≤])(?P<m>\d+)(?P<more>.*)")
_BLOCKS = re.compile(r"(?P<kind>nf|int)(?P<bits>\d) G=\d+ M≤(?P<m>\d+)")
_ROWS = re.compile(r" N=(\d+)$")
# Kernels pad a rank to a multiple of this.
_RANK_UNIT = 16


def measured_us(fingerprint: Fingerprint, gpu: GpuModel, records: Sequence[LatencyRecord]) -> float | None:
    """Median time of the newest record of that kernel, product and GPU, microseconds; None without one.

    Where a kernel's tile takes up to so many tokens, the record with the most of them counts.
    """
    found = [record for record in records if _is_of(record, gpu) and _is_same(fingerprint, record)]
    if not found:
        return None
    newest = max(found, key=lambda record: (record.case.m, record.created_utc))
    assert newest.measurement is not None
    return newest.measurement.median_ns / 1000


def errors_in_words(errors: Iterable[tuple[str, str, float]]) -> list[str]:
    """A sentence per GPU and kernel from (GPU, kernel, measured over predicted less 1); none where nothing is measured.

    A bound that was undercut is said as such: the model behind it, or the measurement, is wrong there.
    """
    sentences = []
    for (gpu, kernel), members in groupby(sorted(errors), key=lambda item: item[:2]):
        factors = sorted(1 + error for _, _, error in members)
        span = f"{factors[0]:.2f}" if len(factors) == 1 else f"{factors[0]:.2f} to {factors[-1]:.2f}"
        plural = "product" if len(factors) == 1 else "products"
        below = sum(factor < 1 for factor in factors)
        said = f"On the {gpu}, {kernel} took {span} times its lower bound ({len(factors)} {plural})"
        sentences.append(f"{said}; {below} below it, which a true bound excludes." if below else f"{said}.")
    return sentences


def _is_of(record: LatencyRecord, gpu: GpuModel) -> bool:
    return (
        record.status is Status.OK
        and not record.run.is_fake
        and record.regime == "cold"
        and record.config_origin in (None, "formula")
        and gpu.name.lower() in record.run.environment.device_name.lower()
        and record.case.k == LAYER
    )


def rows_of(fingerprint: Fingerprint) -> int:
    """Rows of the layer that a pinned kernel was launched for: of `LAYER` columns, and as many unless it says so."""
    named = _ROWS.search(fingerprint.variant)
    return int(named[1]) if named else LAYER


def _is_same(fingerprint: Fingerprint, record: LatencyRecord) -> bool:
    case = record.case
    if case.n != rows_of(fingerprint):
        return False
    if record.kernel is None or record.kernel.split()[0] != fingerprint.kernel:
        return False
    blocks = _BLOCKS.match(fingerprint.variant)
    if blocks is not None:
        method = f"{blocks['kind']}-block"
        few = case.m <= int(blocks["m"])
        return record.method == method and few and (case.bits, case.block) == (int(blocks["bits"]), BLOCK)
    lords = _LORDS.match(fingerprint.variant)
    if lords is None:
        return False
    tokens = int(lords["m"])
    # A tile of up to 16 tokens is another kernel than one of up to 8.
    fits = case.m == tokens if lords["sign"] == "=" else tokens // 2 < case.m <= tokens
    in_fp16 = bool(dict(record.config).get("scale_in_fp16", False)) or record.run.dtype == "float16"
    padded = -(-case.rank // _RANK_UNIT) * _RANK_UNIT
    return fits and case.bits == int(lords["bits"]) and padded == RANK and in_fp16 == ("fp16" in lords["more"])
