"""What is made of the driver's answers, and of no answer."""

import os
import sys

import pytest

from fake_nvml import FakeNvmlLibrary
from lords_bench.timing.nvml import Nvml, open_nvml


def opened(library: FakeNvmlLibrary) -> Nvml:
    nvml, missing = open_nvml("abc", library=library)
    assert (nvml is not None, missing) == (True, None)
    assert nvml is not None
    return nvml


def test_heat_and_board_limits_are_violations_and_power_and_voltage_limits_are_not() -> None:
    library = FakeNvmlLibrary()
    library.violations_ns = {1: 10, 2: 20, 3: 30, 4: 4000}

    border = opened(library).border()

    assert (border.violation_ns, border.power_cap_ns) == (30, 4000)


def test_what_the_driver_does_not_support_is_unknown() -> None:
    nvml = opened(FakeNvmlLibrary())

    border = nvml.border()

    assert (border.violation_ns, border.power_cap_ns, border.temperature_c, nvml.energy_mj()) == (None,) * 4
    assert nvml.is_clock_locked() is None


def test_a_process_that_comes_later_is_foreign() -> None:
    library = FakeNvmlLibrary(pids=(11,))
    nvml = opened(library)
    library.pids = (11, 12, os.getpid())

    assert nvml.border().foreign == ("process 12",)


@pytest.mark.parametrize(("pids", "others"), [((os.getpid(), 5), 1), ((5,), 0), ((5, 6), 1), ((), 0)])
def test_one_unknown_process_is_taken_for_this_one_seen_from_outside_its_container(
    pids: tuple[int, ...], others: int
) -> None:
    assert opened(FakeNvmlLibrary(pids=pids)).others() == others


def test_without_the_package_nothing_is_known_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    nvml, missing = open_nvml("abc")

    assert nvml is None
    assert missing is not None
    assert missing.startswith("NVML is absent")


def test_a_driver_that_does_not_answer_is_said() -> None:
    assert open_nvml("abc", library=FakeNvmlLibrary(fails=True)) == (
        None,
        "NVML does not answer (Driver Not Loaded): throttling and other processes go unseen",
    )


def test_without_a_uuid_only_a_single_gpu_is_known() -> None:
    assert open_nvml("", library=FakeNvmlLibrary())[0] is not None
    assert open_nvml("", library=FakeNvmlLibrary({"count": 2}))[0] is None
