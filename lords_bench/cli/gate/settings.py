"""What `lords-bench gate` takes: which layers, against what, and where the answer goes."""

from dataclasses import dataclass
from pathlib import Path

from lords_bench.options import BIT_COUNTS, WORKERS, Whole, any_names, option

# A process is one sample, and takes a minute.
_PROCESSES = Whole(least=3, most=1000)
_RETRIES = Whole(least=0, most=1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class GateSettings:
    """Compares this tree with its baseline. Without a layer: static and accuracy, which need no GPU.

    Exit code 0: nothing is worse; 1: a regression; 2: it cannot be judged; 3: there is no baseline.
    """

    static: bool = option("machine code of every kernel, against the pins", group="layers", default=False)
    accuracy: bool = option("the quick accuracy suite, against committed records or a commit", default=False)
    latency: bool = option("fresh processes of this tree and of a baseline, on this machine", default=False)

    markdown: Path | None = option("write the comment for a pull request", group="output", default=None)
    junit: Path | None = option("write JUnit XML, a test case per benchmark", default=None)
    link_base: str = option("what links in the comment begin with", str, metavar="URL", default="")
    strict: bool = option("warnings fail as well", default=False)
    out: Path = option("folder of pins and records", metavar="DIR", default=Path("reports"))

    pin: bool = option(
        "pin what this tree compiles to, and print what that changes", group="static layer", default=False
    )
    only: str = option("kernels whose name contains TEXT", str, metavar="TEXT", default="")
    targets: tuple[str, ...] | None = option(
        "architectures, as sm_90 or gfx942", metavar="NAME", nargs="+", default=None
    )
    workers: int | None = option("compile processes at a time (default: one per core)", WORKERS, default=None)
    cache: Path | None = option("where compiled results are kept", metavar="DIR", default=None)

    device_name: str = option("folder of the baseline's records", metavar="NAME", group="accuracy layer", default="cpu")
    head: Path | None = option("records of this tree, instead of measuring now", default=None)
    methods: tuple[str, ...] = option("cases of these methods only", any_names, default=())
    bits: tuple[int, ...] | None = option("cases of these numbers of bits only", BIT_COUNTS, default=None)

    baseline: str | None = option(
        "commit to measure here, or a file of records (default: committed records for accuracy, main for latency)",
        metavar="REF|FILE",
        group="baseline of accuracy and latency",
        default=None,
    )
    believe: tuple[str, ...] = option(
        "cases whose gain is too large to be believed, and that you have measured again",
        any_names,
        metavar="ID,…",
        default=(),
    )
    measure_anyway: bool = option("also what is proven from the source to be the same", default=False)

    processes: int = option("fresh processes a side", _PROCESSES, group="latency layer", default=3)
    retries: int = option("times to time again what is not settled", _RETRIES, default=1)
    cases: tuple[str, ...] = option("cases of the latency suite (default: all)", any_names, metavar="ID,…", default=())
    fake: bool = option("a fake GPU's made-up numbers, to try the software", default=False)
    save: Path | None = option("append this tree's records, to pin them", default=None)
