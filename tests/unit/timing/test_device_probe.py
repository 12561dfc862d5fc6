"""The device probes compile for the GPUs that matter, and read the registers they claim to."""

from pathlib import Path

import pytest

from lords_bench.records.status import Status
from lords_bench.static.compile import CompileResult, compile_all
from lords_bench.static.launches import SM_COUNTS
from lords_bench.static.request import request_for
from lords_bench.static.sass import parse_resources
from lords_bench.static.target import NVIDIA_TARGETS, named_target, warps_per_sm
from lords_bench.timing.peaks import COPY_BYTES

TARGETS = NVIDIA_TARGETS
# Warps that a multiprocessor holds: 64, or 48 (CUDA C++ Programming Guide, compute capabilities).
WARPS = {"sm_86": 48, "sm_89": 48, "sm_120": 48}
PROBES = ("stamp", "timer_steps", "read_all")


@pytest.fixture(scope="module")
def compiled() -> dict[tuple[str, str], CompileResult]:
    requests = {
        (probe, target): request_for("probe_launches:launch", named_target(target), probe=probe)
        for target in TARGETS
        for probe in PROBES
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        return dict(zip(requests, compile_all(list(requests.values())), strict=True))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_compiles(compiled: dict[tuple[str, str], CompileResult], probe: str, target: str) -> None:
    result = compiled[probe, target]

    assert (result.status, result.reason) == (Status.OK, None)


@pytest.mark.parametrize("target", TARGETS)
def test_a_stamp_reads_the_multiprocessor_its_cycles_and_the_time(
    compiled: dict[tuple[str, str], CompileResult], target: str
) -> None:
    sass = compiled["stamp", target].main.code.assembly

    assert "SR_VIRTUALSMID" in sass or "SR_VIRTID" in sass
    assert "SR_CLOCKLO" in sass
    assert "SR_GLOBALTIMERLO" in sass


@pytest.mark.parametrize("target", TARGETS)
def test_the_reader_loads_sixteen_bytes_at_a_time(compiled: dict[tuple[str, str], CompileResult], target: str) -> None:
    assert "LDG.E.128" in compiled["read_all", target].main.code.assembly


@pytest.mark.parametrize("target", TARGETS)
def test_the_reader_s_programs_are_one_wave_of_the_whole_gpu(
    compiled: dict[tuple[str, str], CompileResult], target: str
) -> None:
    reader = compiled["read_all", target].main
    warps = warps_per_sm(parse_resources(reader.code.resources).registers, reader.num_warps)
    resident = min(warps, WARPS.get(target, 64)) // reader.num_warps

    programs, *_ = reader.grid

    assert programs % SM_COUNTS[target] == 0
    assert programs <= SM_COUNTS[target] * resident


@pytest.mark.parametrize("multiprocessors", [16, 84, 108, 132, 170])
def test_the_reader_leaves_less_than_a_hundredth_of_the_vector_out(multiprocessors: int) -> None:
    from lords_bench.kernels.device_probe import launch

    per_turn = launch.read_programs(multiprocessors) * launch.READ_BLOCK

    assert (COPY_BYTES // 4) % per_turn < 0.01 * (COPY_BYTES // 4)
