"""Figures: the same bytes every time, ids that cannot clash, colours of the theme, labels that never overlap."""

import re
from itertools import pairwise

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.quant import QuantSpec
from lords_bench.records import BenchRecord
from lords_bench.report.svg import ROLES, spread, standalone
from lords_bench.suites.accuracy.figures import FIGURES, short_names
from lords_bench.suites.accuracy.judge import BitsGroup, bits_groups, select_evaluations
from record_builders import make_record, make_samples, study


def _groups(records: list[BenchRecord]) -> tuple[BitsGroup, ...]:
    return bits_groups(select_evaluations(records, suite="accuracy")[0])


@pytest.fixture(scope="module")
def groups() -> tuple[BitsGroup, ...]:
    return tuple(group for group in _groups(study()) if group.is_comparable)


@pytest.mark.parametrize("kind", FIGURES)
def test_the_same_rows_give_the_same_bytes_whatever_the_user_s_settings(
    kind: str, groups: tuple[BitsGroup, ...]
) -> None:
    first = FIGURES[kind].draw(groups, name="figure")

    with mpl.rc_context(
        {"font.size": 30, "axes.linewidth": 9, "xtick.major.pad": 40, "svg.fonttype": "path", "svg.hashsalt": "other"}
    ):
        second = FIGURES[kind].draw(groups, name="figure")

    assert first == second


@pytest.mark.parametrize("kind", FIGURES)
def test_every_id_of_a_figure_carries_its_name(kind: str, groups: tuple[BitsGroup, ...]) -> None:
    svg = FIGURES[kind].draw(groups, name="mine")

    assert all(found == "mine" or found.startswith("mine-") for found in re.findall(r'\bid="([^"]+)"', svg))
    assert all(found.startswith("mine-") for found in re.findall(r"url\(#([^)]+)\)", svg))


@pytest.mark.parametrize("kind", FIGURES)
def test_every_colour_of_a_figure_is_a_theme_variable(kind: str, groups: tuple[BitsGroup, ...]) -> None:
    svg = FIGURES[kind].draw(groups, name="figure")
    fallbacks = {role.light for role in ROLES.values()}

    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= fallbacks
    assert "var(--low-rank, " in svg


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_loads_nothing_and_has_no_date(kind: str, groups: tuple[BitsGroup, ...]) -> None:
    svg = FIGURES[kind].draw(groups, name="figure")
    links = [link for link in re.findall(r'https?://[^"\s]+', svg) if not link.startswith("http://www.w3.org/")]

    assert links == []
    assert "<metadata>" not in svg
    assert svg.startswith('<svg id="figure" role="img"')


def test_methods_stand_on_the_figure_by_name(groups: tuple[BitsGroup, ...]) -> None:
    svg = FIGURES["pareto"].draw(groups, name="figure")

    assert all(f">{name}</text>" in svg for name in ("lords", "lords-gptq", "block-opt", "gptq", "nf", "nf4+nf2"))


def test_with_very_many_variants_only_presets_are_labelled() -> None:
    records = study()
    for number in range(12):
        spec = QuantSpec(method="lords", bits=4, seed=number)
        name = f"variant-{number}"
        samples = make_samples(window_kl_nats=(1.0 + number, 2.0, 0.5))
        records.append(make_record(f"{name}-b4-g64", method=name, spec=spec, samples=samples))

    svg = FIGURES["pareto"].draw(_groups(records), name="figure")

    assert ">lords</text>" in svg
    assert "variant-3" not in svg


def test_equal_errors_in_every_layer_can_be_drawn() -> None:
    samples = make_samples()
    records = [
        make_record("nf4-b4-g64", method="nf4", spec=QuantSpec(method="nf4"), samples=samples),
        make_record("lords-b4-g64", samples=samples),
    ]

    assert "<svg" in FIGURES["layers"].draw(_groups(records), name="figure")


def test_a_model_without_divergence_can_be_drawn() -> None:
    samples = make_samples(window_kl_nats=(0.0, 0.0, 0.0))
    records = [make_record(samples=samples), make_record("nf4-b4-g64", method="nf4", samples=samples)]

    pareto, changes = (FIGURES[kind].draw(_groups(records), name="figure") for kind in ("pareto", "changes"))

    assert pareto.startswith("<svg")
    assert changes == ""  # nothing relates to a divergence of 0


def test_without_rows_there_is_no_figure() -> None:
    assert [figure.draw((), name="figure") for figure in FIGURES.values()] == ["", "", ""]


def test_a_figure_of_its_own_follows_light_and_dark(groups: tuple[BitsGroup, ...]) -> None:
    svg = standalone(FIGURES["pareto"].draw(groups, name="figure"))

    assert "prefers-color-scheme: dark" in svg
    assert all(role.dark in svg for role in ROLES.values())


@given(st.lists(st.floats(-1000, 1000), max_size=12), st.floats(0.1, 50))
def test_spread_labels_keep_their_distance_and_order(wanted: list[float], gap: float) -> None:
    placed = spread(wanted, gap=gap)
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))

    assert len(placed) == len(wanted)
    for lower, upper in pairwise(order):
        assert placed[upper] - placed[lower] >= gap * (1 - 1e-6) - 1e-9


@given(st.lists(st.integers(0, 50), max_size=12, unique=True))
def test_labels_that_do_not_overlap_stay_where_they_are(places: list[int]) -> None:
    wanted = [10.0 * place for place in places]

    assert spread(wanted, gap=10.0) == pytest.approx(wanted)


def test_layer_names_lose_what_they_share() -> None:
    names = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"]

    assert short_names(names) == ["0.mlp.up_proj", "1.mlp.up_proj"]
    assert short_names(["lm_head"]) == ["lm_head"]
