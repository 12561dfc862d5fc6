"""What the tuner compiles is what a try launches: one description, and Triton's own key agrees."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lords_bench.errors import UsageError
from lords_bench.kernel_check import make_case, prepared_for
from lords_bench.kernels.common.gpu import Gpu, pretended_gpu
from lords_bench.products.registry import config_of, named_kernel
from lords_bench.records.status import Status
from lords_bench.records.trial import Settings
from lords_bench.records.tuned import Problem
from lords_bench.static.pretended import Launch, pretended_target
from lords_bench.static.target import named_target
from lords_bench.static.worker import launches_of
from lords_bench.tuning.code import compile_configs, request_of
from lords_bench.tuning.kernel_candidates import candidate_maker
from lords_bench.tuning.kernel_spaces import kernel_space
from lords_bench.tuning.plan import DEFAULT_KERNELS, FAKE_MACHINE

TARGET = named_target("sm_90")
GPU = Gpu(arch="sm_90", sm_count=FAKE_MACHINE.multiprocessors)


def problem_for(kernel: str, **changes: Any) -> Problem:
    """Few tokens, ragged N, K off the K blocks."""
    problem = Problem(
        m_bucket=1, n=600, k=1100, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7"
    )
    if kernel.startswith("blockwise"):
        problem = replace(problem, rank=None, block=64)
    return replace(problem, **changes)


def recorded(run: Callable[[], Any]) -> list[Launch]:
    found: list[Launch] = []
    with pretended_gpu(GPU), pretended_target(TARGET, found.append, until="nothing"):
        run()
    return found


def keys(launches: list[Launch]) -> list[tuple[Any, ...]]:
    integers = [{name: value for name, value in at.args.items() if isinstance(value, int)} for at in launches]
    return [(at.hash, at.grid, values) for at, values in zip(launches, integers, strict=True)]


def settings_of(kernel: str, problem: Problem) -> list[Settings]:
    """The first, the last and the default of its space."""
    space = kernel_space(kernel, problem, FAKE_MACHINE)
    return [space.configs[0], space.configs[-1], space.default]


@pytest.mark.parametrize("m", [1, 8, 16])
@pytest.mark.parametrize("kernel", DEFAULT_KERNELS["cuda"])
def test_what_is_compiled_for_a_configuration_is_what_a_real_weight_launches(kernel: str, m: int) -> None:
    problem = problem_for(kernel, m_bucket=m)
    dtype = torch.bfloat16
    case = make_case(
        m, problem.n, problem.k, bits=4, rank=16, dtype=dtype, device=torch.device("cpu"), block=problem.block
    )
    chosen = named_kernel(kernel)
    weight = prepared_for(chosen, case, "grid7")
    if not chosen.supports(m, weight, dtype).ok:
        pytest.skip(chosen.supports(m, weight, dtype).reason)

    for settings in settings_of(kernel, problem):
        real = recorded(lambda at=settings: chosen.launch(case.x_MK, weight, None, config_of(kernel, at)))
        compiled = launches_of(request_of(kernel, settings, problem, TARGET), until="nothing")

        assert keys(compiled) == keys(real)


@pytest.mark.parametrize("kernel", [name for name in DEFAULT_KERNELS["cuda"] if name.startswith("blockwise")])
def test_what_a_try_times_and_checks_is_what_was_compiled_for_it(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_for(kernel, m_bucket=8)
    monkeypatch.setattr(torch, "equal", lambda *_tensors: True)
    for settings in settings_of(kernel, problem):
        candidate = candidate_maker(
            kernel, problem, cache_bytes=None, regime="hot", device=torch.device("cpu")
        )(settings, "0")  # fmt: skip

        timed = recorded(lambda at=candidate: at.launch(0))
        checked = recorded(lambda at=candidate: at.check())
        compiled = launches_of(request_of(kernel, settings, problem, TARGET), until="nothing")

        assert keys(timed) == keys(compiled)
        assert keys(checked) == 2 * keys(compiled)


@pytest.mark.parametrize("m", [1, 8, 64])
@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("kernel", DEFAULT_KERNELS["cuda"])
def test_the_default_of_a_search_space_is_what_the_kernel_launches_without_a_configuration(
    kernel: str, bits: int, m: int
) -> None:
    for dtype in ("bfloat16", "float32"):
        decoder = "table" if dtype == "float32" else "grid7"
        problem = problem_for(kernel, m_bucket=m, bits=bits, x_dtype=dtype, decoder=decoder)
        default = kernel_space(kernel, problem, FAKE_MACHINE).default
        try:
            ruled = launches_of(request_of(kernel, (), problem, TARGET), until="nothing")
        except UsageError as refused:
            assert "float32" in str(refused) or "M = " in str(refused)  # noqa: PT017  (a problem that is not taken)
            continue

        assert keys(launches_of(request_of(kernel, default, problem, TARGET), until="nothing")) == keys(ruled)


def test_configurations_that_differ_in_the_launch_alone_are_compiled_once_and_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    problem = problem_for("rank_expanded", n=4096, k=1024)
    rule = dict(kernel_space("rank_expanded", problem, FAKE_MACHINE).default)
    configs = [tuple({**rule, "tiles_per_program": tiles, "last_sums": True}.items()) for tiles in (1, 2, 4)]
    spilling = tuple({**rule, "block_n": 128, "num_warps": 1}.items())

    one, two, four, spilled = compile_configs(
        "rank_expanded", [*configs, spilling], problem, TARGET, cache_dir=tmp_path / "static"
    )

    assert one.code is not None
    assert two.code is not None
    # Triton compiles one tile per program without a loop.
    assert one.code != two.code == four.code
    assert len({one.launch, two.launch, four.launch}) == 3
    assert len(list((tmp_path / "static").glob("*.gz"))) == 3
    assert spilled.status is Status.UNSUPPORTED
    assert spilled.reason is not None
    assert spilled.reason.startswith("spills registers: ")
