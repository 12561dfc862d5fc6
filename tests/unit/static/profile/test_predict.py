"""A launch's profile: counts and machine code of one launch, scaled samples, and the parts of a predicted time."""

from dataclasses import replace

import pytest

from lords_bench.errors import UsageError
from lords_bench.records.tuned import Choice
from lords_bench.static.profile.measure import Asked, Product, profiled_product
from lords_bench.static.profile.page import tables
from lords_bench.static.profile.predict import LAUNCH_US, LaunchProfile, Residency, launch_profiles, named_gpu
from lords_bench.static.sass import Pipe

pytest.importorskip("triton")

H200 = named_gpu(None, "sm_90")
ASKED = Asked(m=4, n=512, k=1024)


def product(kernel: str, asked: Asked = ASKED, most_instructions: int = 10**9) -> Product:
    return profiled_product(
        asked, H200, "lords", lambda _weight: Choice(kernel=kernel), most_instructions=most_instructions
    )


@pytest.fixture(scope="module")
def scale_tile() -> LaunchProfile:
    (found,) = launch_profiles(product("scale_tile"), H200)
    return found


@pytest.mark.parametrize(
    ("ctas", "waves", "rounds"), [(1024, 1.29, (6, 2)), (792, 1.0, (6,)), (32, 0.04, (1,)), (793, 1.0, (6, 1))]
)
def test_the_last_wave_is_shared_out_evenly(ctas: int, waves: float, rounds: tuple[int, ...]) -> None:
    found = Residency(ctas=ctas, blocks=6, sm_count=132, limit="registers")

    assert round(found.waves, 2) == waves
    assert found.rounds == rounds
    assert found.balance == pytest.approx(ctas / (132 * sum(rounds)))


def test_the_flow_through_the_machine_code_is_that_of_the_emulated_run(scale_tile: LaunchProfile) -> None:
    counts = scale_tile.profiled.launch.counts
    products = sum(times for opcode, times in counts.opcodes.items() if opcode.startswith("mma.sync"))

    assert scale_tile.flow.misfit < 0.05
    assert scale_tile.pipe_instructions[Pipe.TENSOR] == pytest.approx(products)
    assert scale_tile.instructions_per_warp < len(scale_tile.program) * 2


def test_every_byte_of_the_weight_comes_once_from_device_memory(scale_tile: LaunchProfile) -> None:
    tensors = {tensor.name: tensor for tensor in scale_tile.profiled.launch.counts.tensors}

    assert tensors["packed_ptr"].read_bytes == ASKED.n * ASKED.k // 2
    assert ASKED.n * ASKED.k // 2 <= scale_tile.memory_bytes < 2 * ASKED.n * ASKED.k


def test_the_time_is_gap_longest_part_and_tail(scale_tile: LaunchProfile) -> None:
    longest = max(scale_tile.parts_us.values())

    assert scale_tile.total_us == pytest.approx(LAUNCH_US + longest + scale_tile.tail_us)
    assert scale_tile.parts_us[scale_tile.bound_by] == longest
    assert scale_tile.tail_us > 0, "the last program of a group sums the others'"
    assert min(scale_tile.issue_us, scale_tile.exposed_us, scale_tile.memory_us) > 0


def test_a_gpu_with_half_the_bandwidth_and_clock_takes_longer(scale_tile: LaunchProfile) -> None:
    slow = replace(H200, bandwidth_gbps=H200.bandwidth_gbps / 2, sm_clock_ghz=H200.sm_clock_ghz / 2)
    slower = LaunchProfile(scale_tile.profiled, slow, frozenset())

    assert slower.memory_us == pytest.approx(2 * scale_tile.memory_us)
    assert slower.issue_us > 1.9 * scale_tile.issue_us
    assert slower.total_us > scale_tile.total_us


def test_a_sample_of_ctas_is_scaled_to_the_launch() -> None:
    asked = Asked(m=4, n=4096, k=256)
    (whole,) = launch_profiles(product("scale_tile", asked), H200)
    (part,) = launch_profiles(product("scale_tile", asked, most_instructions=1), H200)

    assert part.profiled.launch.executed < whole.profiled.launch.executed == whole.ctas == part.ctas
    assert part.instructions_per_warp == pytest.approx(whole.instructions_per_warp, rel=0.01)
    assert part.memory_bytes == pytest.approx(whole.memory_bytes, rel=0.02)
    assert part.cache_bytes == pytest.approx(whole.cache_bytes, rel=0.01)
    assert part.total_us == pytest.approx(whole.total_us, rel=0.02)


def test_what_a_launch_reads_of_an_earlier_one_does_not_come_from_device_memory(scale_tile: LaunchProfile) -> None:
    later = LaunchProfile(scale_tile.profiled, H200, frozenset({"packed_ptr"}))

    assert scale_tile.memory_bytes - later.memory_bytes == ASKED.n * ASKED.k // 2


def test_every_launch_of_a_product_is_there_and_partial_sums_come_from_the_second_level_cache() -> None:
    settings = (
        ("block_n", 64), ("blocks_k", 2), ("tiles_per_program", 1), ("last_sums", False), ("num_warps", 2),
        ("num_stages", 3),
    )  # fmt: skip
    found = profiled_product(ASKED, H200, "lords", lambda _weight: Choice(kernel="scale_tile", settings=settings))
    launches = launch_profiles(found, H200)

    assert [one.profiled.launch.kernel for one in launches] == ["scale_tile_kernel", "sum_partials_kernel"]
    partial = next(t for t in launches[1].profiled.launch.counts.tensors if t.name == "partial_ptr")
    assert launches[1].memory_bytes < partial.read_bytes
    time_table = tables(launches)[-1]
    assert [row[0] for row in time_table.rows] == ["scale_tile_kernel", "sum_partials_kernel", "all launches"]
    assert float(time_table.rows[2][-1]) == pytest.approx(sum(one.total_us for one in launches), abs=0.01)


def test_gpus_are_named_and_belong_to_the_emulated_architecture() -> None:
    assert named_gpu(None, "sm_89").name == "RTX 4090"
    assert named_gpu("h100", "sm_90").name == "H100"
    with pytest.raises(UsageError, match=r"A100 is sm_80, the emulated device sm_90; known of sm_90: H100, H200"):
        named_gpu("A100", "sm_90")
    with pytest.raises(UsageError, match="unknown GPU 'B200'; known of sm_90: H100, H200"):
        named_gpu("B200", "sm_90")


@pytest.mark.parametrize(
    ("kernel", "why"),
    [("reference", "launches no kernel of this project"), ("rank_expanded", "rank_expanded does not take the product")],
)
def test_a_product_without_a_launch_is_refused(kernel: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        product(kernel, Asked(m=64, n=64, k=128))
