import pytest

from lords_bench.errors import UsageError
from lords_bench.quant import parity_rank
from lords_bench.suites.lifecycle.cases import BLOCK, FULL, QUICK, Group, Plan, select

# Layers of the shipped model.
SHAPES = ((512, 512), (1536, 512), (512, 1536))


@pytest.mark.parametrize("plan", [QUICK, FULL])
def test_every_case_has_an_id_of_its_own(plan: Plan) -> None:
    assert len(set(plan.case_ids)) == len(plan.case_ids)


def test_all_fine_tuning_methods_of_a_number_of_bits_train_equally_many_numbers() -> None:
    for group in FULL.groups:
        if group.stage == "peft" and group.method != "lords-equal-bits":
            assert group.spec.block == BLOCK


def test_the_larger_rank_stores_what_a_base_and_its_adapter_store() -> None:
    larger = next(group.spec for group in FULL.groups if group.method == "lords-equal-bits")
    for n, k in SHAPES:
        lords_bits = 16 * larger.rank_for(n, k) * (n + k) / (n * k)
        adapter_bits = 16 * parity_rank(n, k, BLOCK) * (n + k) / (n * k)

        # 8-bit scales of blocks of 64, their offset and 32-bit scales of 256 of them: 0.127 bits.
        assert lords_bits == pytest.approx(adapter_bits + 0.127, abs=0.01)


def test_every_seed_but_the_first_repeats_the_best_rate() -> None:
    group = FULL.groups[0]

    ids = FULL.case_ids_of(group)

    assert ids[0] == "qat-lords-b3-start"
    assert ids[-2:] == ("qat-lords-b3-seed1", "qat-lords-b3-seed2")
    assert len(ids) == 1 + len(FULL.qat.learning_rates) + 2


def test_selecting_keeps_budget_and_grid() -> None:
    chosen = select(FULL, methods=("lords", "qlora"), bits=(4,))

    assert [group.group_id for group in chosen.groups] == ["peft-lords-b4", "peft-qlora-b4", "qat-lords-b4"]
    assert chosen.settings == FULL.settings


def test_an_unknown_method_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"unknown method 'nf4'.*known: block, int, loftq, lords"):
        select(FULL, methods=("nf4",), bits=None)


def test_a_combination_without_a_group_is_refused() -> None:
    with pytest.raises(UsageError, match="no group with bits 2"):
        select(QUICK, methods=None, bits=(2,))


def test_settings_tell_two_grids_apart() -> None:
    assert QUICK.settings["qat_learning_rates"] != FULL.settings["qat_learning_rates"]


def test_a_group_is_named_by_stage_method_and_bits() -> None:
    group = Group(stage="qat", method="block", spec=FULL.groups[0].spec)

    assert group.search_id(1e-3) == "qat-block-b3-lr0.001"
