"""Every record comes back equal from its line, the line is canonical, and no edit of a line passes for a record."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lords_bench.errors import RecordError
from lords_bench.quant import QuantSpec
from lords_bench.records import BenchRecord, Status
from lords_bench.records.codec import decode_line, encode_line
from record_builders import make_environment, make_inputs, make_record, make_samples

sizes = st.floats(min_value=0, max_value=1e300, allow_nan=False)
texts = st.text(max_size=20)
integers = st.integers(-(2**63), 2**64 - 1)
specs = st.sampled_from(
    [
        QuantSpec(method="lords", bits=3),
        QuantSpec(method="nf4", double_quant=True),
        QuantSpec(method="gptq", bits=2, block=128, scale_dtype="float32"),
        QuantSpec(method="lords", bits=4, rank=7, levels="learned", seed=5),
    ]
)
settings_values = st.one_of(st.none(), st.booleans(), integers, texts, st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def samples(draw: st.DrawFn) -> Any:
    count = draw(st.integers(1, 4))
    layers = draw(st.integers(0, 3))

    def several(strategy: st.SearchStrategy[Any], size: int) -> tuple[Any, ...]:
        return tuple(draw(st.lists(strategy, min_size=size, max_size=size)))

    return make_samples(
        layer_names=several(texts, layers),
        layer_shapes=several(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), layers),
        layer_squared_error=several(sizes, layers),
        layer_squared_norm=several(sizes.filter(lambda value: value > 0), layers),
        layer_stored_bytes=several(st.integers(1, 2**50), layers),
        window_tokens=several(st.integers(1, 10**6), count),
        window_bytes=several(st.integers(1, 10**6), count),
        window_nll_nats=several(sizes, count),
        window_kl_nats=several(sizes, count),
        choice_correct=tuple(draw(st.lists(st.booleans(), max_size=4))),
        peak_rss_bytes=draw(st.none() | st.integers(0, 2**60)),
        window_documents=draw(st.sampled_from([(), tuple(range(count))])),
    )


@st.composite
def records(draw: st.DrawFn) -> BenchRecord:
    status = draw(st.sampled_from(Status))
    outcome = {"samples": draw(samples())} if status is Status.OK else {"reason": "because"}
    names = sorted(draw(st.sets(texts, max_size=3)))
    case_id = draw(texts)
    return make_record(
        case_id,
        status=status,
        spec=draw(specs),
        method=draw(texts),
        command=draw(texts),
        seed=draw(integers),
        complete=draw(st.booleans()),
        planned_case_ids=(case_id, *draw(st.lists(texts, max_size=3))),
        environment=make_environment(git_dirty=draw(st.none() | st.booleans()), cpu_model=draw(st.none() | texts)),
        inputs=make_inputs(settings=tuple((name, draw(settings_values)) for name in names)),
        **outcome,
    )


@settings(max_examples=2 * settings().max_examples)
@given(records())
def test_a_record_comes_back_equal_from_one_line(record: BenchRecord) -> None:
    line = encode_line(record)

    assert "\n" not in line
    assert decode_line(line) == record
    assert encode_line(decode_line(line)) == line


@settings(max_examples=2 * settings().max_examples)
@given(records(), st.data())
def test_no_change_of_one_character_passes_for_another_record(record: BenchRecord, data: st.DataObject) -> None:
    line = encode_line(record)
    place = data.draw(st.integers(0, len(line) - 1))
    character = data.draw(st.characters(codec="ascii").filter(lambda c: c != line[place]))
    edited = line[:place] + character + line[place + 1 :]

    try:
        found = decode_line(edited)
    except RecordError:
        return
    # Blanks between JSON tokens, and a minor version, do not touch the record.
    assert found == record


def test_a_changed_value_is_noticed() -> None:
    """The property above can fail: with the checksum left out of account this line would be believed."""
    envelope = json.loads(encode_line(make_record()))
    envelope["record"]["samples"]["window_kl_nats"][0] = 0.0

    with pytest.raises(RecordError, match="checksum"):
        decode_line(json.dumps(envelope))
