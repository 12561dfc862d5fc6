"""A visit checks before it times, tunes before the full suite, and its parts are the whole."""

from pathlib import Path

import pytest

from lords_bench.cli.parser import build_parser
from lords_bench.visit.plan import PARTS, STEPS, plan

OUT = Path("out")


def names(**options: object) -> list[str]:
    return [step.name for step in plan("cuda", OUT, **options)]  # type: ignore[arg-type]


def test_a_visit_checks_before_it_times_and_tunes_before_the_full_suite() -> None:
    order = names()

    assert order == list(STEPS)
    assert order.index("check") < order.index("goals") < order.index("tune-one") < order.index("cold")
    assert order.index("testbed") < order.index("accuracy") < order.index("lifecycle")


def test_the_parts_hold_every_step_once_and_each_ends_in_the_report() -> None:
    parts = [names(part=part) for part in PARTS]

    assert all(part[-1] == "report" for part in parts)
    assert [name for part in parts for name in part[:-1]] == [name for name in STEPS if name != "report"]


@pytest.mark.parametrize("part", PARTS)
def test_what_a_part_s_steps_are_given_fits_into_nine_minutes(part: int) -> None:
    assert sum(step.nominal_s for step in plan("cuda", OUT, part=part)) <= 9 * 60


@pytest.mark.parametrize("device", ["cuda", "cpu", "fake"])
def test_every_step_is_a_command_that_the_parser_knows(device: str) -> None:
    parser = build_parser()
    steps = plan(device, OUT)  # type: ignore[arg-type]

    for step in steps:
        parser.parse_args([text.format(minutes="1.5", seconds="90") for text in step.arguments])

    assert {"env", "ptq", "step", "cold", "eager", "report"} <= {step.name for step in steps}


def test_only_steps_that_a_device_can_do_are_planned() -> None:
    assert [step.name for step in plan("fake", OUT, chosen=("check", "testbed", "report"))] == ["report"]
