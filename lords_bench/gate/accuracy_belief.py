"""What two accuracy records of a case must have in common, whatever the code between them.

Three kinds: what was asked for and measured on (else they answer different questions), what no quantizer can change
(the model's and the text's own numbers), and what can only move together (one model was scored, so its error, its
divergence, its likelihood and its answers come from the same weights).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import isclose

from lords_bench.quant import QuantSpec
from lords_bench.records.accuracy import SAME_SUM, AccuracySamples
from lords_bench.records.bench import BenchRecord

# A hash is shown by its beginning.
_SHOWN = 12
_VERSIONS = ("python", "torch", "transformers", "numpy")
# What rounding of float32 leaves of a window's sum of KL: below it a window has not moved.
_KL_REL, _KL_ABS = 1e-3, 1e-4


def not_comparable(head: BenchRecord, base: BenchRecord) -> str | None:
    """Why two records of a case answer different questions, in words with both values; None if they do not."""
    ours, theirs = _question(head), _question(base)
    differing = [
        f"{name} {_shown(ours.get(name, 'absent'), theirs.get(name, 'absent'))}"
        for name in dict.fromkeys((*ours, *theirs))
        if repr(ours.get(name, "absent")) != repr(theirs.get(name, "absent"))
    ]
    return "; ".join(differing) or None


def changed_yardstick(head: BenchRecord, base: BenchRecord) -> str | None:
    """What changed that no quantizer can change, or None."""
    ours, theirs = head.samples, base.samples
    if ours is None or theirs is None:
        return None
    problem = ours.text_problem(theirs) or ours.model_problem(theirs)
    if problem is not None or head.bits is not None:
        return problem
    if not _same_sums(ours.window_nll_nats, theirs.window_nll_nats):
        return "the unquantized model's own likelihoods differ: what scores it has changed, and with it every number"
    if ours.choice_correct != theirs.choice_correct:
        return "the unquantized model's own answers differ: what asks it has changed, and with it every number"
    return None


def moved_alone(head: AccuracySamples, base: AccuracySamples) -> Iterator[str]:
    """Results that moved without those they come from, or that stayed where those moved."""
    same_error = _same_sums(head.layer_squared_error, base.layer_squared_error)
    same_likelihood = _same_sums(head.window_nll_nats, base.window_nll_nats)
    kl = tuple(zip(head.window_kl_nats, base.window_kl_nats, strict=True))
    equal_kl = head.window_kl_nats == base.window_kl_nats
    equal_likelihood = head.window_nll_nats == base.window_nll_nats
    moved_kl = not all(isclose(a, b, rel_tol=_KL_REL, abs_tol=_KL_ABS) for a, b in kl)
    if same_error and moved_kl:
        yield "KL moved, and no layer's error did"
    if equal_kl and not same_error:
        yield "the weights' errors moved, and the KL of no window did"
    if equal_kl and not same_likelihood:
        yield "the text's likelihood moved, and the KL of no window did"
    if equal_likelihood and moved_kl:
        yield "KL moved, and the likelihood of no window did"
    if equal_kl and equal_likelihood and head.choice_correct != base.choice_correct:
        yield "answers to the choice items moved, and no likelihood did"


def _question(record: BenchRecord) -> Mapping[str, object]:
    inputs = record.inputs
    asked: dict[str, object] = {
        "suite": record.suite,
        "method": record.method,
        "bits": record.bits,
        "input_weighted": record.input_weighted,
        **_fields("spec", record.spec),
        "model hash": inputs.model_sha256,
        "tokenizer hash": inputs.tokenizer_sha256,
        "corpus hash": inputs.corpus_sha256,
        "seed": record.seed,
        "device": record.environment.device,
        # Another processor rounds differently, and a fit may end in another optimum (docs/log.md, 2026-11-22).
        "processor": record.environment.device_name,
        **dict(inputs.settings),
        **{name: getattr(record.environment, name) for name in _VERSIONS},
        # On a CPU no kernel runs.
        "triton": record.environment.triton if record.environment.device == "cuda" else None,
    }
    if record.mixed is not None:
        asked["layers of mixed precision"] = len(record.mixed)
    for layer, spec in record.mixed or ():
        asked |= _fields(f"{layer}'s spec", spec)
    return asked


def _fields(prefix: str, spec: QuantSpec | None) -> Mapping[str, object]:
    return {} if spec is None else {f"{prefix}.{name}": value for name, value in asdict(spec).items()}


def _shown(ours: object, theirs: object) -> str:
    words, others = str(ours), str(theirs)
    if max(len(words), len(others)) > 2 * _SHOWN and words[:_SHOWN] != others[:_SHOWN]:
        words, others = words[:_SHOWN], others[:_SHOWN]
    return f"{words} here, {others} there"


def _same_sums(head: tuple[float, ...], base: tuple[float, ...]) -> bool:
    return all(isclose(a, b, rel_tol=SAME_SUM) for a, b in zip(head, base, strict=True))
