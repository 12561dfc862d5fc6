"""`AccuracySamples`: the raw samples behind one accuracy case. Intervals are computed from them by `lords_bench.stats`.

Samples are kept per layer, per window of text and per choice item, in a fixed order, so that two cases of one
evaluation can be compared pair by pair.
"""

from collections import defaultdict
from dataclasses import dataclass
from math import fsum, isclose, isfinite, log

from lords_bench.errors import RecordError

# Sums of the same numbers are equal but for the order in which they were added.
SAME_SUM = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracySamples:
    """Weight error per layer, likelihood and divergence per window, correctness per choice item.

    Attributes:
        layer_names: quantized layers; the other `layer_…` tuples have the same order.
        layer_shapes: (N, K) of each layer.
        layer_squared_error: ‖W − Ŵ‖², summed over the layer.
        layer_squared_norm: ‖W‖².
        layer_stored_bytes: bytes of every tensor stored for the layer, padding and tables included.
        unquantized_weights: numbers in linear-like layers that were left as they were.
        unquantized_layers: names of those layers.
        window_tokens: predicted tokens of each window; the other `window_…` tuples have the same order.
        window_bytes: UTF-8 bytes those tokens stand for; 0 is possible where a token is part of a character.
        window_nll_nats: negative log-likelihood, summed over the window's tokens.
        window_kl_nats: KL(unquantized ‖ quantized) of the next-token distribution, summed over the window's tokens.
        choice_correct: whether each choice item was answered rightly; empty where the model was given none.
        window_documents: number of the document each window was cut from; neighbours in a document are alike, so
            intervals resample whole documents. Empty where every window stands for itself.
        choice_documents: likewise for each choice item.
        quantize_seconds: wall-clock time of quantizing every layer.
        evaluate_seconds: wall-clock time of the evaluation.
        peak_rss_bytes: largest resident memory of the process up to the end of the case.

    Raises:
        RecordError: lengths disagree, no window, a document without bytes, a layer without weights, a count below its
            least value, or a value that is not finite.
    """

    layer_names: tuple[str, ...]
    layer_shapes: tuple[tuple[int, int], ...]
    layer_squared_error: tuple[float, ...]
    layer_squared_norm: tuple[float, ...]
    layer_stored_bytes: tuple[int, ...]
    unquantized_weights: int
    unquantized_layers: tuple[str, ...]
    window_tokens: tuple[int, ...]
    window_bytes: tuple[int, ...]
    window_nll_nats: tuple[float, ...]
    window_kl_nats: tuple[float, ...]
    choice_correct: tuple[bool, ...]
    quantize_seconds: float
    evaluate_seconds: float
    peak_rss_bytes: int | None = None
    window_documents: tuple[int, ...] = ()
    choice_documents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require_equal_lengths(self, ("layer_names", "layer_shapes", *_LAYER_VALUES))
        _require_equal_lengths(self, (*_WINDOW_VALUES, *(("window_documents",) if self.window_documents else ())))
        if self.choice_documents:
            _require_equal_lengths(self, ("choice_correct", "choice_documents"))
        if not self.window_tokens:
            raise RecordError("accuracy samples hold no window; evaluate at least one")
        for name in (*_LAYER_VALUES, "window_tokens", "window_bytes", "window_nll_nats"):
            _require_at_least(name, getattr(self, name), 1 if name in _COUNTS else 0)
        # The sum of a window's KL is non-negative in exact arithmetic; float32 rounding may leave it a hair below 0.
        _require_at_least("window_kl_nats", self.window_kl_nats, -1e-3)
        _require_text(self)
        for layer, shape in zip(self.layer_names, self.layer_shapes, strict=True):
            if min(shape) < 1:
                raise RecordError(f"layer {layer!r} has shape {shape}; a layer has at least one input and one output")
        for name in ("quantize_seconds", "evaluate_seconds", "unquantized_weights"):
            _require_at_least(name, (getattr(self, name),), 0)
        for layer, norm, error in zip(self.layer_names, self.layer_squared_norm, self.layer_squared_error, strict=True):
            if norm == 0 and error > 0:
                raise RecordError(f"layer {layer!r} has squared norm 0 but squared error {error}; check the samples")

    @property
    def quantized_weights(self) -> int:
        """Numbers in the quantized layers: Σ N·K."""
        return sum(n * k for n, k in self.layer_shapes)

    @property
    def unquantized_share(self) -> float:
        """Share of the weights of linear-like layers that stayed unquantized, 0…1."""
        total = self.quantized_weights + self.unquantized_weights
        return self.unquantized_weights / total if total else 0.0

    @property
    def bits_per_weight(self) -> float | None:
        """Measured bits per quantized weight: 8 · Σ stored bytes / Σ N·K; None where no layer was quantized."""
        weights = self.quantized_weights
        return 8 * sum(self.layer_stored_bytes) / weights if weights else None

    @property
    def layer_relative_errors(self) -> tuple[float, ...]:
        """‖W − Ŵ‖² / ‖W‖² of each layer; 0 for a layer that is zero."""
        pairs = zip(self.layer_squared_error, self.layer_squared_norm, strict=True)
        return tuple(error / norm if norm else 0.0 for error, norm in pairs)

    @property
    def relative_weight_error(self) -> float | None:
        """Mean over layers of the relative squared error, each layer counted once; None without layers."""
        errors = self.layer_relative_errors
        return fsum(errors) / len(errors) if errors else None

    @property
    def kl_nats_per_token(self) -> float:
        """Σ KL / Σ tokens: the primary metric."""
        return fsum(self.window_kl_nats) / sum(self.window_tokens)

    @property
    def bits_per_byte(self) -> float:
        """Σ negative log-likelihood in bits / Σ bytes of text."""
        return fsum(self.window_nll_nats) / log(2) / sum(self.window_bytes)

    @property
    def choice_accuracy(self) -> float | None:
        """Share of choice items answered rightly, 0…1; None where there were none."""
        return sum(self.choice_correct) / len(self.choice_correct) if self.choice_correct else None

    @property
    def results(self) -> tuple[object, ...]:
        """What the case gave, as opposed to what it was measured on and how long that took."""
        return tuple(getattr(self, name) for name in _RESULTS)

    def pairing_problem(self, other: "AccuracySamples") -> str | None:
        """Why the two cannot be compared pair by pair, or None if they can."""
        return self.text_problem(other) or self._layer_problem(other)

    def text_problem(self, other: "AccuracySamples") -> str | None:
        """What of the text differs, or None if both were judged on the same windows and choice items."""
        windows = ("window_tokens", "window_bytes", "window_documents")
        if any(getattr(self, name) != getattr(other, name) for name in windows):
            return "their windows of text differ"
        same_items = len(self.choice_correct) == len(other.choice_correct)
        if not same_items or self.choice_documents != other.choice_documents:
            return "their choice items differ"
        return None

    def model_problem(self, other: "AccuracySamples") -> str | None:
        """What of the model differs, or None if both had the same layers to quantize and to leave as they were."""
        rest = ("unquantized_weights", "unquantized_layers")
        if any(getattr(self, name) != getattr(other, name) for name in rest):
            return "their unquantized layers differ"
        return self._layer_problem(other)

    def _layer_problem(self, other: "AccuracySamples") -> str | None:
        if self.layer_names != other.layer_names or self.layer_shapes != other.layer_shapes:
            return "their layers differ"
        norms = zip(self.layer_squared_norm, other.layer_squared_norm, strict=True)
        if not all(isclose(ours, theirs, rel_tol=SAME_SUM) for ours, theirs in norms):
            return "the norms of their layers' own weights differ"
        return None


_LAYER_VALUES = ("layer_squared_error", "layer_squared_norm", "layer_stored_bytes")
_WINDOW_VALUES = ("window_tokens", "window_bytes", "window_nll_nats", "window_kl_nats")
_COUNTS = ("layer_stored_bytes", "window_tokens")
_RESULTS = ("layer_squared_error", "layer_stored_bytes", "window_nll_nats", "window_kl_nats", "choice_correct")


def _require_equal_lengths(samples: AccuracySamples, names: tuple[str, ...]) -> None:
    lengths = {name: len(getattr(samples, name)) for name in names}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise RecordError(f"accuracy samples have different lengths: {listed}; give one value per item")


def _require_text(samples: AccuracySamples) -> None:
    """A window may stand for no byte, where a token is part of a character; a document, or the whole text, may not."""
    bytes_of: dict[int, int] = defaultdict(int)
    for document, count in zip(samples.window_documents, samples.window_bytes, strict=False):
        bytes_of[document] += count
    empty = [document for document, count in bytes_of.items() if not count]
    if empty or not sum(samples.window_bytes):
        where = f"document {empty[0]}" if empty else "all windows together"
        raise RecordError(f"window_bytes of {where} are 0; text that was judged has bytes")


def _require_at_least(name: str, values: tuple[float, ...], minimum: float) -> None:
    for index, value in enumerate(values):
        if not isfinite(value) or value < minimum:
            raise RecordError(f"{name}[{index}] is {value}; it must be finite and at least {minimum}")
