from dataclasses import dataclass

import pytest

from lords_bench.errors import SpecError, UsageError
from lords_bench.tuning.space import Constraint, SearchSpace, listed_space, product_space


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    tile: int = 32
    warps: int = 4
    form: str = "split"

    def __post_init__(self) -> None:
        if self.tile < 8 * self.warps:
            raise SpecError("a warp needs 8 rows")


def test_the_default_comes_first_and_the_listed_order_follows() -> None:
    space = listed_space([Config(tile=64), Config(), Config(tile=128)], default=Config())

    assert [dict(config)["tile"] for config in space.configs] == [32, 64, 128]
    assert dict(space.default)["tile"] == 32


def test_a_default_that_is_not_listed_is_added() -> None:
    assert len(listed_space([Config(tile=64)], default=Config(tile=256))) == 2


def test_fields_with_one_value_are_no_parameters() -> None:
    space = listed_space([Config(), Config(tile=64)], default=Config())

    assert [(parameter.name, parameter.values) for parameter in space.parameters] == [("tile", (32, 64))]


def test_a_product_counts_what_constraints_and_the_config_itself_leave_out() -> None:
    space = product_space(
        Config,
        {"tile": (16, 32, 64), "warps": (4, 8)},
        default=Config(),
        constraints=[Constraint(name="few warps", holds=lambda config: config["warps"] != 8 or config["tile"] > 32)],
    )

    assert {(dict(c)["tile"], dict(c)["warps"]) for c in space.configs} == {(32, 4), (64, 4), (64, 8)}
    assert dict(space.left_out) == {"a warp needs 8 rows": 1, "few warps": 2}


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(UsageError, match="Config has no field tiles; it has tile, warps, form"):
        product_space(Config, {"tiles": (16,)}, default=Config())


def test_a_configuration_that_stands_twice_is_refused() -> None:
    twice = (("tile", 1),)

    with pytest.raises(UsageError, match="twice"):
        SearchSpace(configs=(twice, twice), parameters=())


def test_words_are_encoded_one_by_one_and_counts_by_their_logarithm() -> None:
    space = listed_space([Config(), Config(tile=63, form="joined")], default=Config())

    assert space.encode() == [[pytest.approx(5.044, abs=1e-3), 1.0, 0.0], [6.0, 0.0, 1.0]]
