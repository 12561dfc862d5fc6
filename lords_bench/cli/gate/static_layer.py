"""The static layer's records: what this tree compiles to, and the pins in `<out>/static/<target>.jsonl`."""

from collections.abc import Sequence
from pathlib import Path

from lords_bench.cli.gate import accesses_layer
from lords_bench.cli.gate.settings import GateSettings
from lords_bench.errors import UsageError
from lords_bench.files import write_whole
from lords_bench.gate.finding import Finding, LayerResult, Located, located, rejected_findings
from lords_bench.gate.static import LAYER, PIN_COMMAND, compare_static, pin_changes
from lords_bench.gate.static_belief import contradictions
from lords_bench.records.codec import encode_line
from lords_bench.records.fingerprint import Fingerprint
from lords_bench.records.lines import folder_lock, store_error
from lords_bench.records.store import read_nouns

FOLDER = "static"


def results(settings: GateSettings) -> list[LayerResult]:
    """Compile the selection and compare it with the pins, then the accesses of its kernels.

    Raises:
        UsageError: no kernel and no pin is selected, or there is no Triton.
        DeviceError: a process that counts accesses was lost.
    """
    return [result(settings), *accesses_layer.results(settings)]


def result(settings: GateSettings) -> LayerResult:
    """Compile the selection and compare it with the pins.

    Raises:
        UsageError: no kernel and no pin is selected, or there is no Triton.
    """
    names = _targets(settings)
    pins, unusable = _pins(settings.out / FOLDER, names)
    pins = [pin for pin in pins if settings.only in f"{pin.record.kernel} {pin.record.variant}"]
    head = collect(settings)
    _refuse_nothing(settings, pins, head)
    return compare_static(pins, head, unusable=unusable)


def pin(settings: GateSettings) -> int:
    """Write the pins of the selection and print what changes; returns exit code 0.

    Raises:
        UsageError: a kernel does not compile or its facts contradict each other, or no kernel and no pin is selected.
        StoreError: the disk refuses.
    """
    from lords_bench.terminal import Console

    console = Console(soft_wrap=True, highlight=False)
    head = collect(settings)
    failed = next((fingerprint for fingerprint in head if fingerprint.code is None), None)
    if failed is not None:
        raise UsageError(f"nothing was pinned: {failed.name} gives {failed.status}: {failed.reason}")
    for fingerprint in head:
        for what in contradictions(fingerprint):
            raise UsageError(f"nothing was pinned: {fingerprint.name} cannot be true: {what}; mend lords_bench/static")
    accesses = accesses_layer.collect(settings)
    folder = settings.out / FOLDER
    if not folder.is_dir():
        _refuse_nothing(settings, (), head)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error("write", folder, error) from None
    # From reading to writing: another command's new pins lie between them, or would.
    with folder_lock(folder):
        changes = [*_renew(folder, settings, head), *accesses_layer.renew(settings, accesses)]
    console.print("\n".join(changes))
    write_predictions(settings.out)
    return 0


def _renew(folder: Path, settings: GateSettings, head: Sequence[Fingerprint]) -> list[str]:
    """Put the head's fingerprints in the place of the selection's pins; gives what that changes, in words."""
    names = _targets(settings)
    pins, unusable = _pins(folder, names)
    old = [pin.record for pin in pins if settings.only in f"{pin.record.kernel} {pin.record.variant}"]
    _refuse_nothing(settings, old, head)
    kept = [pin.record for pin in pins if settings.only not in f"{pin.record.kernel} {pin.record.variant}"]
    for name in names:
        members = [fingerprint for fingerprint in (*kept, *head) if fingerprint.target == name]
        lines = [encode_line(member) for member in sorted(members, key=lambda member: (member.kernel, member.variant))]
        text = "".join(f"{line}\n" for line in lines)
        write_whole(folder / f"{name}.jsonl", text, remedy="give another path")
    changes = pin_changes(old, head) or ["the pins are as they were"]
    return [*(f"replaced: {finding.what}" for finding in unusable), *changes]


def write_predictions(out: Path) -> Path:
    """Write the page of predicted times from all pins and all latency records of the folder; returns its path.

    Raises:
        StoreError: the disk refuses.
    """
    path = out / FOLDER / "predicted.md"
    write_whole(path, predicted_text(out), remedy="give another path")
    return path


def predicted_text(out: Path) -> str:
    """The page of predicted times of the folder's pins, beside what its latency records measured."""
    from lords_bench.records.latency import LatencyRecord
    from lords_bench.static.predicted import predicted_page, predicted_times
    from lords_bench.static.target import TARGETS

    pins, _ = _pins(out / FOLDER, tuple(TARGETS))
    paths = sorted((out / "records").glob("*/latency.jsonl"))
    records = [record for path in paths for record in read_nouns(path, LatencyRecord).records]
    return predicted_page(predicted_times([pin.record for pin in pins], records))


def collect(settings: GateSettings) -> tuple[Fingerprint, ...]:
    """Fingerprints of the selection, compiled or from the cache.

    Raises:
        UsageError: there is no Triton.
    """
    from lords_bench.cli.progress import steps
    from lords_bench.static.cases import shipped_cases
    from lords_bench.static.fingerprint import fingerprints
    from lords_bench.terminal import Console

    chosen = [case for case in shipped_cases(_targets(settings)) if settings.only in case.label]
    with steps("compiling", len(chosen), console=Console(stderr=True)) as on_result:
        return fingerprints(chosen, workers=settings.workers, cache_dir=settings.cache, on_result=on_result)


def _refuse_nothing(settings: GateSettings, pins: Sequence[object], head: Sequence[object]) -> None:
    """A selection of nothing is a mistyped one; one of pins alone is of kernels that are gone."""
    if not pins and not head:
        names = ", ".join(_targets(settings))
        raise UsageError(f"no kernel contains {settings.only!r} on {names}; leave --only and --targets out")


def _targets(settings: GateSettings) -> tuple[str, ...]:
    from lords_bench.static.target import TARGETS, named_target

    return tuple(named_target(name).name for name in settings.targets or TARGETS)


def _pins(folder: Path, names: Sequence[str]) -> tuple[list[Located[Fingerprint]], list[Finding]]:
    pins: list[Located[Fingerprint]] = []
    unusable: list[Finding] = []
    for name in names:
        path = folder / f"{name}.jsonl"
        if path.exists():
            file = read_nouns(path, Fingerprint)
            pins += located(file)
            unusable += rejected_findings(LAYER, file, f"restore the file from git, or re-pin with {PIN_COMMAND}")
    return pins, unusable
