"""Every setting of a training is checked when it is read, in Python as on the command line."""

from dataclasses import fields, replace
from typing import Any

import pytest

from lords_bench.errors import LordsBenchError, SpecError, UsageError
from lords_bench.options import ranges
from lords_bench.training.loop import LoopSettings
from lords_bench.training.settings import TrainSettings

LIMITS = ranges(TrainSettings)
SETTINGS = TrainSettings(mode="qat", model="m", out="o", data=("a.txt",))
PEFT = replace(SETTINGS, mode="peft")
HOSTILE: tuple[Any, ...] = (-1, float("nan"), float("inf"), -float("inf"), 10**400, True, "3", [4])


def test_every_number_has_a_range() -> None:
    numbers = {field.name for field in fields(TrainSettings) if str(field.type).split(" | ")[0] in ("int", "float")}
    numbers |= {field.name for field in fields(TrainSettings) if field.type in (int, float, int | None, float | None)}

    assert numbers == set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("settings", [SETTINGS, PEFT, replace(PEFT, method="qlora")], ids=["qat", "peft", "qlora"])
def test_a_number_out_of_its_range_is_refused_in_one_line(name: str, settings: TrainSettings) -> None:
    zero: tuple[Any, ...] = () if name in ("warmup_steps", "seed") else (0, 0.0)
    for value in (*HOSTILE, *zero):
        with pytest.raises(UsageError, match=f"^{name}=.* is no (whole )?number") as raised:
            replace(settings, **{name: value})
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 160


@pytest.mark.parametrize("name", [name for name in LIMITS if name not in ("rank", "scale_learning_rate", "steps")])
def test_a_number_that_has_no_default_of_none_is_not_none(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}=None is no"):
        replace(SETTINGS, **{name: None})


def test_zero_is_a_seed_and_a_number_of_warm_up_steps() -> None:
    assert replace(SETTINGS, seed=0, warmup_steps=0).seed == 0
    with pytest.raises(UsageError, match="seed=4294967296 is no whole number from 0 to 4,294,967,295"):
        replace(SETTINGS, seed=2**32)


def test_a_window_of_one_token_predicts_nothing() -> None:
    with pytest.raises(UsageError, match="window_tokens=1 is no whole number from 2"):
        replace(SETTINGS, window_tokens=1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mode": "ptq"}, UsageError, "unknown mode 'ptq'; choose qat or peft"),
        ({"mode": "peft", "method": "lora"}, SpecError, "unknown fine-tuning method 'lora'; known: lords, qlora"),
        ({"method": "qlora"}, SpecError, "unknown method 'qlora'"),
        ({"method": "nf4", "rank": 4}, SpecError, "rank=4 has no meaning"),
        ({"data": "a.txt"}, UsageError, "data='a.txt' is one text; give a tuple of files"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    changes: dict[str, Any], error: type[LordsBenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        replace(SETTINGS, **changes)


@pytest.mark.parametrize("name", ["learning_rate", "warmup_share", "beta1", "beta2", "clip_norm"])
def test_a_number_of_the_plain_loop_is_checked_too(name: str) -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"^{name}={value} is no number"):
            LoopSettings(**{"learning_rate": 1e-3, name: value})
