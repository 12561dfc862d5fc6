"""Every number of every class of settings has a range, in which NaN, truths and numbers without end are not."""

from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest

from lords_bench.errors import LordsBenchError
from lords_bench.quant import QuantSpec
from lords_bench.suites.testbed.train import TestbedRecipe
from lords_bench.timing.comparison import Policy
from lords_bench.training.settings import TrainSettings

SETTINGS: tuple[Any, ...] = (
    QuantSpec(method="lords", rank=16),
    Policy(),
    TestbedRecipe(),
    TrainSettings(mode="qat", model="m", out="o", data=("d",)),
)
NUMBERS = (int, float, int | None, float | None)
HOSTILE: tuple[Any, ...] = (
    float("nan"),
    float("inf"),
    float("-inf"),
    -1,
    True,
    "1",
    [1],
    10**30,
    10**5000,
    -(10**5000),
)


def numeric() -> list[tuple[Any, str]]:
    found = []
    for settings in SETTINGS:
        hints = get_type_hints(type(settings))
        found += [(settings, field.name) for field in fields(settings) if hints[field.name] in NUMBERS]
    return found


@pytest.mark.parametrize(
    ("settings", "name"), numeric(), ids=[f"{type(settings).__name__}.{name}" for settings, name in numeric()]
)
@pytest.mark.parametrize(
    "value",
    HOSTILE,
    ids=lambda value: (
        repr(value) if not isinstance(value, int) else f"{value:.0e}" if abs(value) < 10**40 else "5,000 digits"
    ),
)
def test_a_number_out_of_its_range_is_refused_in_one_line(settings: Any, name: str, value: Any) -> None:
    with pytest.raises(LordsBenchError) as refused:
        replace(settings, **{name: value})

    assert name in str(refused.value)
    assert len(str(refused.value)) < 300
