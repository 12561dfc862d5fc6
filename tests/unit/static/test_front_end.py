"""Triton's front end takes every configuration of every search space on every target, or the kernel refuses it.

As far as the GPU dialect, with shared memory laid out: what the assembler makes of it, the static cases and the tuner
see. One launch of each kernel on two of three targets by default; with `--slow` all, which takes days of one core: name
a target and a kernel with -k to run a part.
"""

import random
from collections.abc import Iterable, Iterator

import pytest

from every_launch import KERNELS, configurations, every_problem, launch_of, launches
from lords_bench.errors import UsageError
from lords_bench.kernels.common.static_case import Launched
from lords_bench.static.launches import compile_request
from lords_bench.static.target import TARGETS, Target, named_target
from lords_bench.static.worker import launches_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))


def distinct(asked: Iterable[Launched], target: Target) -> Iterator[Launched]:
    """Those that a kernel takes and that differ in what Triton compiles."""
    seen: set[tuple[str, ...]] = set()
    for launched in asked:
        try:
            keys = tuple(launch.hash for launch in launches_of(compile_request(launched, target), until="nothing"))
        except UsageError:
            continue
        if keys not in seen:
            seen.add(keys)
            yield launched


def faults_of(launched: Launched, target: Target) -> Iterator[str]:
    """What keeps a launch from running."""
    try:
        compiled = launches_of(compile_request(launched, target), until="ttgir")
    # A compiler can fail with any exception; the test tells of which launch.
    except Exception as error:  # noqa: BLE001
        yield f"{launched}: {type(error).__name__}: {error}"
        return
    # A configuration that the search space has for larger GPUs is refused by the tuner, which compiles it first.
    if launched.settings is None:
        for launch in compiled:
            if launch.metadata.shared > target.max_shared_bytes:
                yield f"{launched}: {launch.name} needs {launch.metadata.shared} B of shared memory"


def sampled(kernel: str, target: Target) -> Iterator[Launched]:
    """One launch that the kernel takes, always the same: by its own rule or, of every other kernel, of its space."""
    choose = random.Random(f"{target.name} {kernel}")
    by_rule = _number(target.name, kernel) % 2 == 0
    problems = list(every_problem(kernel, target))
    while True:
        problem = choose.choice(problems)
        settings = None if by_rule else choose.choice(configurations(kernel, problem, target))
        found = list(distinct([launch_of(kernel, problem, settings)], target))
        if found:
            yield from found
            return


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every kernel on every target with `--slow`, else on two of three."""
    if metafunc.function is test_every_configuration_is_compiled_or_refused_by_the_kernel:
        whole = metafunc.config.getoption("--slow")
        pairs = [(target, kernel) for target in TARGETS for kernel in KERNELS if whole or _number(target, kernel) % 3]
        metafunc.parametrize(("target_name", "kernel"), pairs)


def _number(target: str, kernel: str) -> int:
    return KERNELS.index(kernel) + list(TARGETS).index(target)


def test_every_configuration_is_compiled_or_refused_by_the_kernel(
    target_name: str, kernel: str, request: pytest.FixtureRequest
) -> None:
    target = named_target(target_name)
    whole = request.config.getoption("--slow")
    chosen = distinct(launches(kernel, target), target) if whole else sampled(kernel, target)

    faults = [fault for launched in chosen for fault in faults_of(launched, target)]

    assert faults == []


def largest(kernel: str, target: Target, dtype: str) -> Iterator[Launched]:
    """A kernel's own launches that hold most: at 3 bits, of its greatest rank, and of the most tokens of each tile."""
    rank = 64 if kernel == "rank_expanded" else 128
    for problem in every_problem(kernel, target):
        if (problem.bits, problem.x_dtype, problem.n) != (3, dtype, 4096) or problem.zero_points:
            continue
        if problem.decoder not in ("grid7", "table") or problem.m_bucket not in (1, 32, 128):
            continue
        if problem.block in (None, 32) and problem.rank in (None, rank):
            yield launch_of(kernel, problem, None)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "least", ["sm_89", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sm_80", "gfx942", "gfx1100"))]
)
def test_what_a_kernel_chooses_by_itself_fits_the_least_shared_memory(least: str, kernel: str, dtype: str) -> None:
    target = named_target(least)

    chosen = list(distinct(largest(kernel, target, dtype), target))

    assert [fault for launched in chosen for fault in faults_of(launched, target)] == []


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [("rank_expanded", "rank above 128"), ("scale_tile_gemm", "rank above 128"), ("factor_gradients", "rank 256")],
)
def test_a_rank_that_no_kernel_takes_is_refused_with_its_reason(kernel: str, reason: str) -> None:
    target = named_target("sm_90")
    asked = next(launched for launched in launches(kernel, target) if launched.problem.rank == 256)

    with pytest.raises(UsageError, match=reason):
        launches_of(compile_request(asked, target), until="nothing")
