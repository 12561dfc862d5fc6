"""Why a kernel and configuration serve a problem, in words: pure functions of tables and a question."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version

from lords_bench.errors import UsageError
from lords_bench.products.lookup import Entries, Found, closest, differences
from lords_bench.products.tables import TableFile
from lords_bench.records.environment import slug
from lords_bench.records.tuned import ROUTE, Choice, Machine, Problem, Setting, Summary, TunedKey
from lords_bench.static.bounds import GPU_MODELS, GpuModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    label: str
    text: str


def explanation(
    found: Found,
    *,
    entries: Entries,
    problem: Problem,
    machine: Machine,
    key_of: Callable[[str], TunedKey],
    rule: Callable[[str], tuple[Setting, ...]],
) -> tuple[Line, ...]:
    """What serves a problem, where it comes from, how it was measured, and why nothing closer does.

    Args:
        found: the answer of `lookup.choose`.
        entries: that it was found among.
        problem: asked about.
        machine: asked about.
        key_of: a kernel's name, or `ROUTE`, to its key for problem and machine.
        rule: a kernel's name to the settings of its own rule; () where it has none.
    """
    choice = found.choice
    own_rule = not choice.settings
    settings = choice.settings or rule(choice.kernel)
    lines = [
        Line(label="problem", text=_problem(problem)),
        Line(label="machine", text=_machine(machine)),
        Line(label="kernel", text=choice.kernel),
        Line(label="configuration", text=_settings(settings) + (" (the kernel's own rule)" if own_rule else "")),
        Line(label="origin", text=_origin(found)),
    ]
    if found.entry is not None:
        entry = found.entry
        lines += [
            Line(label="measured", text=f"{_time(entry.measured)}, {entry.regime}, timer {entry.timer}"),
            Line(label="default", text=f"{_choice(entry.default)}: {_time(entry.default_measured)}"),
            Line(label="margin", text=_margin(found)),
            Line(label="measured on", text=_when(found)),
        ]
    lines += [Line(label="not exact", text=text) for text in _misses(found, entries, key_of)]
    return tuple(lines)


def set_aside(tables: Iterable[TableFile]) -> tuple[Line, ...]:
    return tuple(
        Line(label="set aside", text=f"{table.path} line {line.line}: {line.reason}")
        for table in tables
        for line in table.rejected
    )


def named_machine(entries: Entries, name: str) -> Machine:
    """The machine of the newest entry of a GPU, by its name or a part of it, or else a GPU whose figures are published.

    What is served on the latter is the formula's, or the nearest entry's of its architecture.

    Raises:
        UsageError: neither a table nor a published figure is for such a GPU, or several tables are.
    """
    dated = sorted(entries.all(), key=lambda entry: (entry.measured_on, repr(entry.key)))
    machines = {entry.key.machine.gpu: entry.key.machine for entry in dated}
    exact = [gpu for gpu in machines if slug(gpu) == slug(name)]
    matching = exact or [gpu for gpu in machines if slug(name) in slug(gpu)]
    if len(matching) > 1:
        raise UsageError(f"more than one table is for a GPU called {name!r}; known: {', '.join(sorted(machines))}")
    if matching:
        return machines[matching[0]]
    wanted = slug(name).removeprefix("nvidia-")
    model = next((model for model in GPU_MODELS if slug(model.name) == wanted), None)
    if model is None:
        known = ", ".join(sorted({*machines, *(model.name for model in GPU_MODELS)}))
        raise UsageError(f"no table is for a GPU called {name!r}; known: {known}")
    return _published_machine(model)


def _published_machine(model: GpuModel) -> Machine:
    major, minor = divmod(int(model.arch.removeprefix("sm_")), 10)
    return Machine(
        gpu=model.name,
        capability=(major, minor),
        multiprocessors=model.sm_count,
        driver=None,
        triton=version("triton"),
    )


def _misses(found: Found, entries: Entries, key_of: Callable[[str], TunedKey]) -> list[str]:
    if found.origin == "exact":
        return []
    if found.origin == "nearest":
        return [", ".join(map(str, found.differences))]
    texts = []
    for kernel in (ROUTE, found.choice.kernel):
        near = closest(entries, key_of(kernel))
        if near is None:
            texts.append(f"{_called(kernel)}: no entry")
            continue
        fields = ", ".join(map(str, differences(near.key, key_of(kernel))))
        texts.append(f"{_called(kernel)}: the closest entry differs in {fields}" if fields else f"{_called(kernel)}: "
                     f"{near.choice.kernel} does not take this weight")  # fmt: skip
    return texts


def _called(kernel: str) -> str:
    return "choice between kernels" if kernel == ROUTE else f"configuration of {kernel}"


def _origin(found: Found) -> str:
    if found.entry is None:
        return "formula: no tuned entry holds"
    about = "choice between kernels" if found.entry.key.kernel == ROUTE else "configuration of the formula's kernel"
    if found.origin == "exact":
        return f"exact: {about}, tuned for this problem on this machine"
    return f"nearest: {about}, tuned for a similar problem or machine of this architecture"


def _margin(found: Found) -> str:
    assert found.entry is not None
    speedup = found.entry.speedup
    if speedup is None:
        return "none: the default itself was the best"
    return f"{speedup.median:.3f}× the default's speed ({speedup.low:.3f} … {speedup.high:.3f})"


def _when(found: Found) -> str:
    assert found.entry is not None
    parts = [found.entry.measured_on]
    if found.entry.commit:
        parts.append(f"commit {found.entry.commit[:12]}")
    if found.entry.run:
        parts.append(f"run {found.entry.run}")
    return ", ".join(parts)


def _problem(problem: Problem) -> str:
    scale = f"rank {problem.rank}" if problem.block is None else f"block {problem.block}"
    scale += " with zero points" if problem.zero_points else ""
    bucket = "2049 and more" if problem.m_bucket == 4096 else f"up to {problem.m_bucket}"
    return (
        f"M {bucket}, N {problem.n}, K {problem.k}, {problem.bits} bit, {scale}, x {problem.x_dtype}, "
        f"scale {problem.scale_dtype}, decoder {problem.decoder}"
    )


def _machine(machine: Machine) -> str:
    return (
        f"{machine.gpu} (sm_{''.join(map(str, machine.capability))}, {machine.multiprocessors} multiprocessors), "
        f"driver {machine.driver or 'unknown'}, triton {machine.triton}"
    )


def _settings(settings: tuple[Setting, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings) or "none"


def _choice(choice: Choice) -> str:
    return f"{choice.kernel}" + (f" with {_settings(choice.settings)}" if choice.settings else "")


def _time(summary: Summary) -> str:
    return (
        f"{summary.median_ns / 1000:.2f} µs ({summary.low_ns / 1000:.2f} … {summary.high_ns / 1000:.2f}), "
        f"{summary.samples} samples"
    )
