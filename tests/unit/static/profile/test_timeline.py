"""What a warp waits for, and what hides it."""

from lords_bench.static.profile.flow import flow_of
from lords_bench.static.profile.machine import scheduled
from lords_bench.static.profile.timeline import Latency, Walk, common_path, rare_paths, walk
from sass_texts import Line, assembly, line

LOAD = line("LDG.E R4, [R2.64]", sets=0)
USE = line("IADD3 R1, R4, R4, RZ", waits=(0,))
END = line("EXIT")


def walked(*lines: Line, each: float = 1.0, in_cache: tuple[int, ...] = (), **executed: float) -> Walk:
    program = scheduled(assembly(*lines))
    flow = flow_of(program, {name.replace("_", "."): times for name, times in executed.items()})
    latency = Latency(far=1000, cached=300, in_cache=in_cache, products={"HGMMA.64x64x16.F32": 200})
    return walk(program, flow, common_path(flow)[0], cycles_each=each, latency=latency)


def test_a_load_that_is_used_at_once_is_waited_for() -> None:
    found = walked(LOAD, USE, END)

    assert found == Walk(issue_cycles=3, exposed_cycles=999, waits=1)


def test_other_warps_hide_the_wait_as_far_as_they_have_something_to_issue() -> None:
    assert walked(LOAD, *[line("MOV R0, R1")] * 99, USE, END, each=4.0).exposed_cycles == 1000 - 400
    assert walked(LOAD, *[line("MOV R0, R1")] * 99, USE, END, each=10.0).exposed_cycles == 0


def test_one_wait_covers_every_load_that_was_issued_before_it() -> None:
    second = line("LDG.E R5, [R2.64]", sets=1)

    assert walked(LOAD, second, USE, line("IADD3 R1, R5, R5, RZ", waits=(1,)), END).exposed_cycles < 1001
    assert walked(LOAD, USE, second, line("IADD3 R1, R5, R5, RZ", waits=(1,)), END).exposed_cycles > 1990


def test_a_load_from_the_second_level_cache_is_waited_for_less() -> None:
    assert walked(LOAD, USE, END, in_cache=(0,)).exposed_cycles == 299


def test_a_group_of_copies_that_may_stay_on_its_way_is_not_waited_for() -> None:
    copy, commit = line("LDGSTS.E.BYPASS.128 [R1], [R2.64]"), line("LDGDEPBAR", sets=0)

    assert walked(copy, commit, line("DEPBAR.LE SB0, 0x1"), END).exposed_cycles == 0
    assert walked(copy, commit, line("DEPBAR.LE SB0, 0x0"), END).exposed_cycles > 990


def test_an_asynchronous_product_is_waited_for_where_the_warp_group_does() -> None:
    found = walked(line("HGMMA.64x64x16.F32 R24, gdesc[UR8], R24, gsb0"), line("WARPGROUP.DEPBAR.LE gsb0, 0x0"), END)

    assert found.exposed_cycles == 199


def test_the_common_path_goes_through_a_loop_and_leaves_out_what_few_warps_do() -> None:
    program = scheduled(
        assembly(
            line("SHFL.BFLY PT, R4, R4, 0x1, 0x1f"), line("@P0 BRA 0x0"), line("@P1 EXIT"),
            line("BAR.SYNC.DEFER_BLOCKING 0x0"), END,
        )
    )  # fmt: skip
    flow = flow_of(program, {"shfl.sync.bfly.b32": 3.0, "bar.sync": 0.125})

    assert common_path(flow)[0] == (0, 0, 0, 1)
    assert rare_paths(flow) == ((2,),)


def test_a_loop_whose_end_is_in_its_middle_is_gone_through_before_it_is_left() -> None:
    program = scheduled(
        assembly(
            line("SHFL.BFLY PT, R4, R4, 0x1, 0x1f"), line("@P0 BRA 0x30"), line("BAR.SYNC.DEFER_BLOCKING 0x0"),
            line("@P1 EXIT"), line("BRA 0x0"),
        )
    )  # fmt: skip
    flow = flow_of(program, {"shfl.sync.bfly.b32": 4.0, "bar.sync": 1.0})

    path, beside = common_path(flow)

    assert (path.count(0), path.count(1), beside) == (4, 1, ())
