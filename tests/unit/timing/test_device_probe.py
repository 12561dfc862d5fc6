"""The device probes compile for the GPUs that matter, and read the registers they claim to."""

import pytest

from lords_bench.records.status import Status
from lords_bench.static.compile import CompiledKernel, compile_all
from lords_bench.static.request import CompileRequest
from lords_bench.static.target import named_target

MODULE = "lords_bench.kernels.device_probe.kernel"
TARGETS = ("sm_80", "sm_90")


def request(
    name: str, types: tuple[tuple[str, str], ...], constants: tuple[tuple[str, int], ...], target: str, warps: int = 1
) -> CompileRequest:
    return CompileRequest(
        function=f"{MODULE}:{name}",
        types=types,
        constants=constants,
        divisible_by_16=(),
        num_warps=warps,
        num_stages=3,
        weights_per_iteration=None,
        target=named_target(target),
    )


@pytest.fixture(scope="module")
def compiled() -> dict[tuple[str, str], CompiledKernel]:
    requests = [
        built
        for target in TARGETS
        for built in (
            request("stamp_kernel", (("stamps_ptr", "*i64"),), (("MULTIPROCESSORS", 256),), target),
            request("timer_steps_kernel", (("times_ptr", "*i64"),), (("COUNT", 2048),), target),
            request(
                "read_kernel",
                (("x_ptr", "*fp32"), ("sums_ptr", "*fp32"), ("tiles", "i32")),
                (("BLOCK", 4096),),
                target,
                8,
            ),
        )
    ]
    results = compile_all(requests)
    return {(r.request.function.partition(":")[2], r.request.target.name): r for r in results}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", ["stamp_kernel", "timer_steps_kernel", "read_kernel"])
def test_a_probe_compiles(compiled: dict[tuple[str, str], CompiledKernel], kernel: str, target: str) -> None:
    result = compiled[kernel, target]

    assert (result.status, result.reason) == (Status.OK, None)


@pytest.mark.parametrize("target", TARGETS)
def test_a_stamp_reads_the_multiprocessor_its_cycles_and_the_time(
    compiled: dict[tuple[str, str], CompiledKernel], target: str
) -> None:
    sass = compiled["stamp_kernel", target].assembly

    assert "SR_VIRTUALSMID" in sass or "SR_VIRTID" in sass
    assert "SR_CLOCKLO" in sass
    assert "SR_GLOBALTIMERLO" in sass


@pytest.mark.parametrize("target", TARGETS)
def test_the_reader_loads_sixteen_bytes_at_a_time(compiled: dict[tuple[str, str], CompiledKernel], target: str) -> None:
    assert "LDG.E.128" in compiled["read_kernel", target].assembly
