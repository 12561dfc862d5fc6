"""The latency suite is data: public sizes, no case twice, the telling ones first."""

import pytest

from lords_bench.errors import SpecError, UsageError
from lords_bench.records.latency import method_label
from lords_bench.suites.latency.cases import (
    LATENCY_CPU,
    LATENCY_FULL,
    LATENCY_QUICK,
    M_LADDER,
    MODELS,
    LatencySuite,
    select_cases,
)


def test_the_layers_of_llama_3_8b_are_those_of_its_config() -> None:
    shapes = {layer.name: (layer.n, layer.k) for layer in MODELS[0].layers}

    assert MODELS[0].name == "llama-3-8b"
    assert shapes == {
        "q_proj+o_proj": (4096, 4096),
        "k_proj+v_proj": (1024, 4096),
        "gate_proj+up_proj": (14336, 4096),
        "down_proj": (4096, 14336),
    }


def test_a_model_whose_heads_are_wider_than_its_hidden_size_has_two_attention_shapes() -> None:
    shapes = {layer.name: (layer.n, layer.k) for layer in next(m for m in MODELS if m.name == "qwen3-4b").layers}

    assert shapes["q_proj"] == (4096, 2560)
    assert shapes["o_proj"] == (2560, 4096)


def test_the_full_suite_has_every_combination_and_begins_with_the_quick_one() -> None:
    layers = sum(len(model.layers) for model in MODELS)

    assert len(LATENCY_FULL.cases) == layers * len(M_LADDER) * 3 * 2
    assert LATENCY_FULL.cases[: len(LATENCY_QUICK.cases)] == LATENCY_QUICK.cases


def test_the_ladder_runs_from_one_token_to_4096() -> None:
    assert (M_LADDER[0], M_LADDER[-1], len(M_LADDER)) == (1, 4096, 13)


def test_what_a_cpu_times_says_that_it_says_nothing_about_gpus() -> None:
    assert "say nothing about GPU kernels" in LATENCY_CPU.title


def test_cases_are_selected_by_model_bits_and_m() -> None:
    found = select_cases(LATENCY_FULL, models=("qwen3-8b",), bits=(3,), m=(1,)).cases

    assert {(case.model, case.bits, case.m) for case in found} == {("qwen3-8b", 3, 1)}
    assert len(found) == 4 * 2


def test_a_selection_without_a_case_and_an_unknown_model_are_refused() -> None:
    with pytest.raises(UsageError, match="no case of the quick latency suite has"):
        select_cases(LATENCY_QUICK, bits=(3,))
    with pytest.raises(UsageError, match="unknown model 'gpt-5'; known: llama-3-8b"):
        select_cases(LATENCY_QUICK, models=("gpt-5",))


def test_a_suite_with_a_case_twice_is_refused() -> None:
    case = LATENCY_CPU.cases[0]

    with pytest.raises(SpecError, match="twice"):
        LatencySuite(size="cpu", title="twice", cases=(case, case))


def test_a_kernel_by_itself_has_a_label_of_its_own() -> None:
    assert method_label("lords-scale_tile") == "LoRDS, kernel scale_tile"
    assert method_label("bitsandbytes") == "bitsandbytes NF4"
