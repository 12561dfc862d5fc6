"""Look-up in tuned tables: total, deterministic whatever the order of entries, and exact only if every field agrees."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lords_bench.products.lookup import Entries, choose, differences
from lords_bench.records.codec import decode_noun, encode_line
from lords_bench.records.tuned import M_BUCKETS, ROUTE, Choice, Machine, Problem, TunedEntry, TunedKey
from tuned_builders import KEY, make_entry

problems = st.builds(
    Problem,
    m_bucket=st.sampled_from(M_BUCKETS[:3]),
    n=st.sampled_from((256, 1024, 4096)),
    k=st.sampled_from((256, 1024, 4096)),
    bits=st.sampled_from((3, 4)),
    rank=st.sampled_from((16, 32)),
    x_dtype=st.sampled_from(("bfloat16", "float16")),
    scale_dtype=st.just("float16"),
    decoder=st.just("grid7"),
)
machines = st.builds(
    Machine,
    gpu=st.sampled_from(("One", "Two")),
    capability=st.sampled_from(((8, 0), (9, 0))),
    multiprocessors=st.sampled_from((108, 132)),
    driver=st.sampled_from((None, "570", "575")),
    triton=st.sampled_from(("3.6.0", "3.9.0")),
)
keys = st.builds(
    TunedKey, kernel=st.sampled_from(("scale_tile", ROUTE)), source_sha256=st.sampled_from(("aa", "bb")),
    problem=problems, machine=machines,
)  # fmt: skip
entries = st.lists(keys.map(lambda key: make_entry(key=key)), max_size=12)


@given(entries=entries, key=keys, data=st.data())
def test_the_answer_does_not_depend_on_the_order_of_entries(
    entries: list[TunedEntry], key: TunedKey, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(entries))

    assert Entries(shuffled).find(key) == Entries(entries).find(key)


@given(entries=entries, key=keys)
def test_every_question_has_an_answer_and_its_origin_is_true(entries: list[TunedEntry], key: TunedKey) -> None:
    formula = Choice(kernel="dequantize_matmul")

    found = choose(
        Entries(entries), formula, key_of=lambda kernel: replace(key, kernel=kernel), takes=lambda _kernel: True
    )

    assert (found.entry is None) == (found.origin == "formula")
    assert found.entry is not None or found.choice == formula
    if found.entry is not None:
        asked = replace(key, kernel=found.entry.key.kernel)
        assert (found.origin == "exact") == (found.entry.key == asked)
        assert found.differences == differences(found.entry.key, asked)
        assert found.entry.key.problem.m_bucket == key.problem.m_bucket
        assert found.entry.key.machine.capability == key.machine.capability
        assert found.entry.key.source_sha256 == key.source_sha256


@given(entries=entries, key=keys)
def test_a_shape_outside_the_tuned_ones_is_left_to_the_formula(entries: list[TunedEntry], key: TunedKey) -> None:
    beyond = replace(key, problem=replace(key.problem, n=4097))

    assert Entries(entries).find(beyond) is None


def leaves(noun: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for field in fields(noun):
        value = getattr(noun, field.name)
        here = (*path, field.name)
        found += leaves(value, here) if is_dataclass(value) else [(here, value)]
    return found


def changed(noun: Any, path: tuple[str, ...]) -> Any:
    value = getattr(noun, path[0])
    if len(path) > 1:
        return replace(noun, **{path[0]: changed(value, path[1:])})
    other: Any = {"m_bucket": 2, "capability": (9, 1), "rank": 32, "block": 128, "zero_points": True}.get(path[0])
    if other is None:
        other = value + 1 if isinstance(value, int) else f"{value}x"
    return replace(noun, **{path[0]: other})


BLOCK_KEY = replace(KEY, problem=replace(KEY.problem, rank=None, block=64))
# Every field of a key, of one with a rank and of one with blocks; only blocks have zero points.
FIELDS = [
    (key, path)
    for key in (KEY, BLOCK_KEY)
    for path, value in leaves(key)
    if value is not None and not (key is KEY and path[-1] == "zero_points")
]


@pytest.mark.parametrize(("key", "path"), FIELDS)
def test_any_single_field_that_differs_misses_exactly_and_is_named(key: TunedKey, path: tuple[str, ...]) -> None:
    entries, asked = Entries([make_entry(key=key)]), changed(key, path)

    assert entries.exact(key) is not None
    assert entries.exact(asked) is None
    assert [difference.field for difference in differences(key, asked)] == [path[-1]]


@given(key=keys)
def test_an_entry_comes_back_from_its_line(key: TunedKey) -> None:
    entry = make_entry(key=key)

    assert decode_noun(encode_line(entry), TunedEntry) == entry
