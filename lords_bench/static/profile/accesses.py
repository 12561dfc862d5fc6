"""One small launch per kernel and target, its use of memory counted in the emulator: for the gate.

`python -m lords_bench.static.profile.accesses sm_90` writes a record per line. The process that asks may have Triton's
interpreter switched on; this one must not. Results are kept under a hash of everything here that could change them: of
the kernels, of what prepares and launches them, of the emulator, and of Triton's version.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lords_bench.emulator import Launch
from lords_bench.errors import DeviceError, RecordError, kind_and_ends
from lords_bench.files import write_whole
from lords_bench.isolate import python_environment, run, side_by_side
from lords_bench.records.accesses import AccessKind, KernelAccesses, MemoryUse, Space
from lords_bench.records.codec import decode_noun, encode_line
from lords_bench.records.status import Status
from lords_bench.source import files, sha256_of
from lords_bench.text import one_line
from lords_bench.version import PACKAGE_FOLDER

if TYPE_CHECKING:
    from lords_bench.emulator.counters import AccessCount

# Every mechanism of the kernels is there: products of integers and of 16-bit floats on sm_80, wgmma on sm_90.
TARGETS = ("sm_80", "sm_90")
# The most tokens of these that a kernel takes, times a layer of two tiles and two K chunks.
TOKENS = (64, 16, 1)
ROWS, COLUMNS, BITS, RANK = 256, 512, 4, 16
_LONGEST_S = 600.0
_SOURCES = ("emulator", "kernels", "products", "kernel_check", "reference", "static/profile")


def kernel_accesses(
    targets: Sequence[str], *, cache_dir: Path, only: str = "", workers: int | None = None
) -> tuple[KernelAccesses, ...]:
    """Accesses of every kernel whose name contains `only`, counted here or read from the cache.

    Args:
        targets: of `TARGETS`.
        cache_dir: folder.
        only: part of kernels' names.
        workers: processes at a time; None is one per target.

    Raises:
        DeviceError: a process ended without its results.
        StoreError: the folder refuses.
    """
    found = side_by_side(
        lambda target: _cached(target, cache_dir), targets, threads=max(1, min(len(targets), workers or len(targets)))
    )
    return tuple(accesses for results in found for accesses in results if only in accesses.kernel)


def _cached(target: str, cache_dir: Path) -> tuple[KernelAccesses, ...]:
    path = cache_dir / f"accesses-{target}-{_source_digest()}.jsonl"
    try:
        return _decoded(path.read_text("utf-8"))
    except (OSError, ValueError):
        pass
    environment = python_environment()
    environment.pop("TRITON_INTERPRET", None)
    environment.setdefault("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-m", __name__, target]
    try:
        done = run(
            command, seconds=_LONGEST_S, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        found = _decoded(done.stdout)
    except (OSError, subprocess.TimeoutExpired, RecordError) as error:
        raise DeviceError(f"counting accesses for {target} gave nothing: {kind_and_ends(error)}") from None
    if done.returncode:
        said = one_line(done.stderr[-300:])
        raise DeviceError(f"counting accesses for {target} ended with exit code {done.returncode}: {said}")
    cache_dir.mkdir(parents=True, exist_ok=True)
    write_whole(path, done.stdout, remedy="give another --cache")
    return found


def _decoded(text: str) -> tuple[KernelAccesses, ...]:
    """The records of a worker, or of a file.

    Raises:
        RecordError: a line that is none, or no line at all.
    """
    found = tuple(decode_noun(line, KernelAccesses) for line in text.splitlines())
    if not found:
        raise RecordError("no accesses were counted")
    return found


def _source_digest() -> str:
    return sha256_of({"triton": version("triton"), **files(PACKAGE_FOLDER, *_SOURCES, suffix=".py")})[:24]


def uses_of(launches: Iterable[Launch]) -> tuple[MemoryUse, ...]:
    """What launches did with memory, by function, tensor and kind of access."""
    counts: dict[tuple[str, Space, str | None, AccessKind], Counter[str]] = {}
    for launch in launches:
        spaces: Mapping[Space, tuple[AccessCount, ...]] = {
            "global": launch.counts.global_accesses,
            "shared": launch.counts.shared_accesses,
        }
        for space, accesses in spaces.items():
            for access in accesses:
                tensor = None if space == "shared" else access.tensor or "no tensor"
                counts.setdefault((launch.kernel, space, tensor, access.kind), Counter()).update(
                    requests=access.requests, units=access.units, fewest_units=access.fewest_units
                )
    found = [
        MemoryUse(function=function, space=space, tensor=tensor, kind=kind, **total)
        for (function, space, tensor, kind), total in counts.items()
    ]
    return tuple(sorted(found, key=lambda use: use.what))


def counted(target: str) -> Iterator[KernelAccesses]:
    """Check every kernel on its problem in the emulator, and count."""
    import torch

    from lords_bench.kernel_check.cases import make_case
    from lords_bench.kernel_check.check import CHECKED
    from lords_bench.kernel_check.emulated import check_emulated, emulated_target

    cases = [
        make_case(m, ROWS, COLUMNS, bits=BITS, rank=RANK, dtype=torch.bfloat16, device=torch.device("cpu"))
        for m in TOKENS
    ]
    with emulated_target(target) as device:
        for kernel in CHECKED:
            tried = (check_emulated(kernel, case, device) for case in cases)
            result = next((found for found in tried if found.status is not Status.UNSUPPORTED), None)
            if result is None or (result.status is Status.OK and not device.launches):
                continue
            yield KernelAccesses(
                kernel=kernel, problem=result.case, target=target, triton=version("triton"), status=result.status,
                reason=result.reason, uses=uses_of(device.launches) if result.status is Status.OK else (),
            )  # fmt: skip


def main(target: str) -> None:
    """Write a line per kernel on a private copy of standard output: compilers print to the real one."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for found in counted(target):
        answers.write(encode_line(found) + "\n")
    answers.close()


if __name__ == "__main__":
    main(sys.argv[1])
