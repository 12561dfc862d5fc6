"""What cannot be, seen from accuracy records alone: numbers of one record, or of one run, that contradict each other.

No baseline is needed, so a fault that both sides of a comparison share is found as well. Every rule is one that holds
for any code that measures rightly; how far measured records are from a border is said beside it, from the committed
records of 26 quantized cases at 4, 3 and 2 bits.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from math import fsum, sqrt
from types import MappingProxyType

from lords_bench.errors import SpecError
from lords_bench.quant import CODEBOOK_NAMES, QuantSpec, ScaleDtype, named_codebook
from lords_bench.records.accuracy import AccuracySamples
from lords_bench.records.bench import BenchRecord

SCALE_BYTES: MappingProxyType[ScaleDtype, int] = MappingProxyType({"float16": 2, "bfloat16": 2, "float32": 4})

# Inputs of a K block; earlier versions padded a row's packed codes to a multiple of it.
_PACKED_INPUTS: MappingProxyType[int, int] = MappingProxyType({4: 128, 3: 256, 2: 128})
_FLOAT32_BYTES = 4
# Double quantization: one 8-bit code a scale, one float32 magnitude per 256 scales, one float32 mean.
_SCALES_PER_RUN = 256
# Scales in 8 bits by their logarithm have two constants of their dtype; B and A in int8 have one for every rank.
_LOG_CONSTANTS = 2


def stored_bytes(spec: QuantSpec, n: int, k: int, *, padded: bool = False) -> int:
    """Bytes of packed codes, scales, zero points and levels of an N×K weight.

    `padded` counts a partial last block of codes as a whole one, as earlier versions stored it.

    Raises:
        SpecError: the rank exceeds min(N, K).
    """
    bits = spec.bits_per_code
    inputs = _PACKED_INPUTS[bits]
    whole, rest = divmod(k, inputs)
    codes = n * (whole * inputs * bits // 8 + -(-(inputs if padded and rest else rest) * bits // 8))
    return codes + _scale_bytes(spec, n, k) + _level_bytes(spec)


def _scale_bytes(spec: QuantSpec, n: int, k: int) -> int:
    size = SCALE_BYTES[spec.scale_dtype]
    if spec.is_low_rank:
        rank = spec.rank_for(n, k)
        return rank * (n + k) * size if spec.scale_bits is None else rank * (n + k + size)
    scales = n * -(-k // spec.block)
    if spec.double_quant:
        return scales + _FLOAT32_BYTES * (-(-scales // _SCALES_PER_RUN) + 1)
    zeros = -(-scales * spec.bits_per_code // 8) if spec.scales == "affine" else 0
    if spec.scale_bits is not None:
        return scales + _LOG_CONSTANTS * size + zeros
    return scales * size + zeros


def _level_bytes(spec: QuantSpec) -> int:
    """Levels are float32 and cost nothing where the codebook's name says them, as those of affine scales do."""
    if spec.scales == "affine":
        return 0
    codebook = spec.codebook
    if codebook is None:
        return _FLOAT32_BYTES << spec.bits_per_code
    if codebook.name in CODEBOOK_NAMES and named_codebook(codebook.name) == codebook:
        return 0
    return _FLOAT32_BYTES * len(codebook.levels)


# Divergence grows with the error of the weights: measured are 0.069 to 1.05 nats per token for each unit of relative
# squared error, 0.037 in the calmest window. Less than this, and the model that was scored is not the quantized one.
LEAST_KL_PER_ERROR = 1e-3
# One window has few tokens, and the easy ones hardly diverge; a shorter one than this says nothing by itself.
LEAST_WINDOW_KL_PER_ERROR = 1e-4
LEAST_WINDOW_TOKENS = 8
# A model diverges from itself by what float32 rounds.
SELF_KL_NATS = 1e-6
# A token's log-likelihood moves by about √(2·KL), in either direction. The mean over a text moves by less than that
# (measured: at most 0.32 of it), the mean over a window by less than three times that (measured: at most 0.9 times).
MOST_WINDOW_SHIFTS = 3.0
# An item's answer changes where its margin is below such a move: measured are at most 0.95 · √KL of the items.
MOST_FLIPS = 4.0
FEW_FLIPS = 3


def contradictions(record: BenchRecord, unquantized: BenchRecord | None = None) -> Iterator[str]:
    """Why the record cannot be true, one line for each rule that it breaks.

    Args:
        record: of any status; without samples there is nothing to contradict.
        unquantized: the record of the unquantized model of the same run, None where it has none.
    """
    samples = record.samples
    if samples is None:
        return
    if record.bits is None:
        yield from _unquantized(samples)
        return
    if not samples.layer_names:
        yield "a quantized case has no quantized layer"
        return
    yield from _storage(record, samples)
    yield from _exact_layers(samples)
    yield from scored_another_model(samples)
    if unquantized is not None and unquantized.samples is not None:
        yield from _against_unquantized(samples, unquantized.samples)


def contradictions_of_run(records: Iterable[BenchRecord]) -> Mapping[str, tuple[str, ...]]:
    """Case → why its record cannot be true, seen by itself and beside the others of its run.

    Args:
        records: of one run key, each case once or more; of a repeated case the last is what counts.
    """
    given = tuple(records)
    last = {record.case_id: record for record in given}
    measured = [record for record in last.values() if record.samples is not None]
    unquantized = next((record for record in measured if record.bits is None), None)
    found: dict[str, list[str]] = {
        case_id: list(contradictions(record, unquantized)) for case_id, record in last.items()
    }
    for case_id, what in (*_repeated(given), *_shared(measured), *_copied(measured), *_ladder(measured)):
        found[case_id].append(what)
    return {case_id: tuple(reasons) for case_id, reasons in found.items() if reasons}


def _unquantized(samples: AccuracySamples) -> Iterator[str]:
    if samples.layer_names:
        yield f"the unquantized model has {len(samples.layer_names)} quantized layers"
    if abs(samples.kl_nats_per_token) > SELF_KL_NATS:
        yield f"the unquantized model has a KL of {samples.kl_nats_per_token:.3g} nats per token from itself"


def _storage(record: BenchRecord, samples: AccuracySamples) -> Iterator[str]:
    """Stored bytes of each layer, by the definition of its format."""
    of_layer = dict(record.mixed or ())
    if record.mixed is not None and tuple(name for name, _ in record.mixed) != samples.layer_names:
        yield "its mixed precision names other layers than those that were quantized"
    wrong, more = "", 0
    for name, (n, k), counted in zip(
        samples.layer_names, samples.layer_shapes, samples.layer_stored_bytes, strict=True
    ):
        spec = record.spec or of_layer.get(name)
        due = _due(spec, n, k)
        if counted != due and (spec is None or counted != _due(spec, n, k, padded=True)):
            wrong = wrong or f"layer {name} stores {counted} bytes, its spec and shape {n}×{k} need {due}"
            more += 1
    if wrong:
        yield wrong + (f", and {more - 1} layers more" if more > 1 else "")


def _due(spec: QuantSpec | None, n: int, k: int, *, padded: bool = False) -> int | str:
    if spec is None:
        return "a spec, and there is none"
    try:
        return stored_bytes(spec, n, k, padded=padded)
    except SpecError:
        return f"another rank than {spec.rank}"


def _exact_layers(samples: AccuracySamples) -> Iterator[str]:
    exact = [
        name
        for name, error, norm in zip(
            samples.layer_names, samples.layer_squared_error, samples.layer_squared_norm, strict=True
        )
        if norm > 0 and error == 0
    ]
    if exact:
        yield f"weight error 0 in {_listed(exact)}: no trained weight is exact in so few bits"


def scored_another_model(samples: AccuracySamples) -> Iterator[str]:
    """Why the divergence cannot be that of weights with such an error, one line for each rule."""
    error = samples.relative_weight_error or 0.0
    if samples.kl_nats_per_token < LEAST_KL_PER_ERROR * error:
        yield (
            f"KL of {samples.kl_nats_per_token:.3g} nats per token at a weight error of {error:.3g}: the model that "
            "was scored is not the one that was quantized"
        )
        return
    still = [
        index
        for index, (kl, tokens) in enumerate(zip(samples.window_kl_nats, samples.window_tokens, strict=True))
        if tokens >= LEAST_WINDOW_TOKENS and kl < LEAST_WINDOW_KL_PER_ERROR * error * tokens
    ]
    if still:
        index = still[0]
        yield (
            f"KL of {samples.window_kl_nats[index]:.3g} nats over the {samples.window_tokens[index]} tokens of "
            f"window {index}{_more(still)} at a weight error of {error:.3g}"
        )


def _against_unquantized(samples: AccuracySamples, plain: AccuracySamples) -> Iterator[str]:
    if samples.text_problem(plain) is not None:
        # What the run shares is a rule of its own.
        return
    kl, tokens = max(samples.kl_nats_per_token, 0.0), sum(samples.window_tokens)
    moves = [ours - own for ours, own in zip(samples.window_nll_nats, plain.window_nll_nats, strict=True)]
    if not any(moves):
        yield f"KL of {kl:.3g} nats per token, and the likelihood of every window is the unquantized model's"
    if abs(fsum(moves)) > sqrt(2 * kl) * tokens:
        yield (
            f"the log-likelihood of the text moved by {-fsum(moves) / tokens:+.3g} nats per token, which a KL of "
            f"{kl:.3g} does not allow"
        )
    far = [
        index
        for index, (move, own, count) in enumerate(
            zip(moves, samples.window_kl_nats, samples.window_tokens, strict=True)
        )
        if count >= LEAST_WINDOW_TOKENS and abs(move) > MOST_WINDOW_SHIFTS * sqrt(2 * max(own, 0.0) * count)
    ]
    if far:
        index = far[0]
        yield (
            f"the log-likelihood of window {index}{_more(far)} moved by {-moves[index]:+.3g} nats, which its KL of "
            f"{samples.window_kl_nats[index]:.3g} does not allow"
        )
    flips = sum(ours != own for ours, own in zip(samples.choice_correct, plain.choice_correct, strict=True))
    if flips > FEW_FLIPS + MOST_FLIPS * sqrt(kl) * len(samples.choice_correct):
        yield (
            f"{flips} of {len(samples.choice_correct)} choice items are answered otherwise than by the unquantized "
            f"model, which a KL of {kl:.3g} does not explain"
        )


def _repeated(records: Sequence[BenchRecord]) -> Iterator[tuple[str, str]]:
    """One run measured one case twice: the same code on the same machine gives the same numbers."""
    first: dict[str, BenchRecord] = {}
    for record in records:
        if record.samples is None:
            continue
        other = first.setdefault(record.case_id, record)
        assert other.samples is not None
        if record.complete and other.complete and record.samples.results != other.samples.results:
            yield record.case_id, "the run has two records of it, with different results"


def _shared(records: Sequence[BenchRecord]) -> Iterator[tuple[str, str]]:
    """What is the model's or the text's is the same in every case of a run."""
    first: BenchRecord | None = None
    first_quantized: BenchRecord | None = None
    for record in records:
        assert record.samples is not None
        first = first or record
        assert first.samples is not None
        problem = record.samples.text_problem(first.samples)
        if problem is not None:
            yield record.case_id, f"{problem} from those of {first.case_id} in the same run"
        if record.bits is None:
            continue
        first_quantized = first_quantized or record
        assert first_quantized.samples is not None
        problem = record.samples.model_problem(first_quantized.samples)
        if problem is not None:
            yield record.case_id, f"{problem} from those of {first_quantized.case_id} in the same run"


def _copied(records: Sequence[BenchRecord]) -> Iterator[tuple[str, str]]:
    """Two specifications do not give the same errors in every layer and the same KL in every window."""
    seen: dict[object, BenchRecord] = {}
    for record in records:
        assert record.samples is not None
        if record.bits is None:
            continue
        other = seen.setdefault((record.samples.layer_squared_error, record.samples.window_kl_nats), record)
        asked = (record.spec, record.mixed, record.input_weighted)
        if asked != (other.spec, other.mixed, other.input_weighted):
            yield record.case_id, f"its results are those of {other.case_id}, to the last digit"


def _ladder(records: Sequence[BenchRecord]) -> Iterator[tuple[str, str]]:
    """One method at fewer bits: a larger error and a larger divergence, from bit to bit by a factor of 3 and more."""
    rungs: dict[object, list[tuple[int, BenchRecord]]] = defaultdict(list)
    for record in records:
        if record.spec is not None:
            rungs[_but_bits(record, record.spec)].append((record.spec.bits_per_code, record))
    for members in rungs.values():
        ordered = [record for _, record in sorted(members, key=lambda pair: -pair[0])]
        for more, fewer in pairwise(ordered):
            if more.bits == fewer.bits:
                continue
            assert more.samples is not None
            assert fewer.samples is not None
            for what, high, low in (
                ("weight error", more.samples.relative_weight_error or 0.0, fewer.samples.relative_weight_error or 0.0),
                ("KL", more.samples.kl_nats_per_token, fewer.samples.kl_nats_per_token),
            ):
                if low <= high:
                    sentence = f"{what} {low:.5g} is no more than the {high:.5g} of {more.case_id}"
                    yield fewer.case_id, f"{sentence}, which differs only in having more bits"


def _but_bits(record: BenchRecord, spec: QuantSpec) -> object:
    """The specification without what bits change in it: their number, and the names that carry it."""
    fields = asdict(spec)
    for name in ("method", "levels"):
        fields[name] = str(fields[name]).rstrip("0123456789")
    fields.pop("bits")
    return tuple(sorted((name, str(value)) for name, value in fields.items())), record.input_weighted


def _listed(names: Sequence[str]) -> str:
    return f"layer {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _more(indices: Sequence[int]) -> str:
    return f" (and {len(indices) - 1} more)" if len(indices) > 1 else ""
