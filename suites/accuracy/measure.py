"""Measures accuracy cases on one model: quantize every linear layer, swap the result in, score it, swap it out.

    text = text_of_testbed(QUICK)                  passages and choice items to judge on, passages to calibrate on
    evaluation = AccuracyEvaluation(model, text)  tokenizes; collects calibration inputs when a case first needs them
    samples = evaluation.measure(case, advance)   one case

Held in memory: the model, one dequantized copy of its linear weights, the reference's log-probabilities (see
`integrations.scoring`), and for calibrated cases one K×K Hessian per layer input.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lords_bench.errors import reason_of
from lords_bench.integrations.calibration import collect_hessians
from lords_bench.integrations.choices import ChoiceScorer
from lords_bench.integrations.hf_model import CausalModel, swapped_weights
from lords_bench.integrations.lm_eval_tasks import run_tasks
from lords_bench.integrations.scoring import WindowScorer
from lords_bench.integrations.windows import rolling_windows
from lords_bench.records import AccuracySamples, EvaluationInputs
from lords_bench.suites.accuracy.cases import Case
from lords_bench.suites.accuracy.layers import QuantizedLayer, dequantized_layer, quantize_layer
from lords_bench.suites.accuracy.text import CHOICE_SEED, EvaluationText
from lords_bench.timing.memory import peak_rss_bytes

if TYPE_CHECKING:
    from lords_bench.integrations.task_metric import TaskMetric

Advance = Callable[[float], None]

# Seconds for the shipped model on 2 cores; only their ratios count, for the time left.
_EVALUATE_SECONDS = 4.0
_QUANTIZE_SECONDS: MappingProxyType[str, float] = MappingProxyType(
    {"absmax": 0.2, "affine": 0.2, "optimised": 0.6, "low-rank": 8.0, "low-rank-paper": 6.0}
)
_FEEDBACK_SECONDS = 3.0
_REFIT_SECONDS: MappingProxyType[str, float] = MappingProxyType(
    {"absmax": 6.0, "affine": 0.0, "optimised": 6.0, "low-rank": 12.0, "low-rank-paper": 12.0}
)
_CALIBRATION_SHARE = 0.3


def _ignore(fraction: float) -> None:
    del fraction


class AccuracyEvaluation:
    """Measures cases on one model and text.

    Args:
        model: the unquantized model.
        text: what it is judged and calibrated on.
        tasks: lm-eval tasks to run for every case as well; their results are kept in `task_metrics` by case id.

    Raises:
        ModelError: the tokenizer or the model cannot be used.
    """

    def __init__(self, model: CausalModel, text: EvaluationText, *, tasks: tuple[str, ...] = ()) -> None:
        self._model = model
        self._text = text
        self._tasks = tasks
        self.task_metrics: dict[str, tuple[TaskMetric, ...]] = {}
        self._window_tokens = min(text.size.window_tokens, model.context_tokens or text.size.window_tokens)
        pieces = [rolling_windows(model.tokenizer, [p.text], self._window_tokens) for p in text.passages]
        self._windows = tuple(window for piece in pieces for window in piece)
        self._window_documents = tuple(
            passage.document for passage, piece in zip(text.passages, pieces, strict=True) for _ in piece
        )
        self._window_scorer = WindowScorer(model, self._windows)
        self._choice_scorer = ChoiceScorer(model, text.items)
        self._hessians: dict[str, Tensor] | None = None

    @property
    def window_tokens(self) -> int:
        """Longest input used."""
        return self._window_tokens

    @property
    def inputs(self) -> EvaluationInputs:
        """What a record says about model, text and settings."""
        settings = {
            **asdict(self._text.size),
            "calibration": self._text.calibration_source,
            "choice_seed": CHOICE_SEED,
            "dtype": str(self._model.model.dtype).removeprefix("torch."),
            "tasks": ",".join(self._tasks) or None,
            "window_tokens": self._window_tokens,
        }
        return EvaluationInputs(
            model_name=self._model.name,
            model_sha256=self._model.model_sha256,
            tokenizer_sha256=self._model.tokenizer_sha256,
            corpus_sha256=self._text.sha256,
            settings=tuple(sorted(settings.items())),
        )

    def measure(self, case: Case, advance: Advance) -> AccuracySamples:
        """Quantizes and scores; `advance` is told the fraction done.

        Raises:
            SpecError, WeightError: a layer cannot be quantized so; the message names the layer.
            ModelError: the quantized model's probabilities are not finite.
            MemoryError: memory of the CPU or GPU does not suffice.
        """
        try:
            return self._measure(case, advance)
        except torch.OutOfMemoryError as error:
            raise MemoryError(reason_of(error)) from error
        except RuntimeError as error:
            # The CPU allocator has no exception class of its own.
            if "DefaultCPUAllocator" not in str(error):
                raise
            raise MemoryError(reason_of(error)) from error

    def score(
        self, quantized: Mapping[str, QuantizedLayer], *, quantize_seconds: float = 0.0, advance: Advance = _ignore
    ) -> AccuracySamples:
        """Samples of the model with these layers in place of its own; {} is the unquantized model.

        Raises:
            ModelError: the probabilities are not finite.
        """
        started = time.perf_counter()
        weights = {name: layer.weight_NK for name, layer in quantized.items()}
        scores = self._window_scorer.score(weights, lambda fraction: advance(fraction / 2))
        correct = self._choice_scorer.correct(weights)
        return AccuracySamples(
            layer_names=tuple(quantized),
            layer_shapes=tuple((layer.weight_NK.shape[0], layer.weight_NK.shape[1]) for layer in quantized.values()),
            layer_squared_error=tuple(layer.squared_error for layer in quantized.values()),
            layer_squared_norm=tuple(layer.squared_norm for layer in quantized.values()),
            layer_stored_bytes=tuple(layer.stored_bytes for layer in quantized.values()),
            unquantized_weights=self._model.unquantized_weights,
            unquantized_layers=tuple(module.name for module in self._model.unquantized),
            window_tokens=tuple(window.target_count for window in self._windows),
            window_bytes=tuple(window.byte_count for window in self._windows),
            window_nll_nats=scores.nll_nats,
            window_kl_nats=scores.kl_nats,
            choice_correct=correct,
            window_documents=self._window_documents,
            choice_documents=self._text.item_documents,
            quantize_seconds=quantize_seconds,
            evaluate_seconds=time.perf_counter() - started,
            peak_rss_bytes=peak_rss_bytes(),
        )

    def quantize(self, case: Case, advance: Advance = _ignore) -> dict[str, QuantizedLayer]:
        """Every layer of the case, by name; {} for the unquantized model. Calibrates first where that is needed.

        Raises:
            SpecError, WeightError: a layer cannot be quantized so; the message names the layer.
        """
        if not case.specs:
            return {}
        hessians = self._calibrated() if case.needs_calibration else {}
        layers = self._model.layers
        specs = case.spec_of_layers([layer.weight_count for layer in layers])
        quantized = {}
        for number, (layer, spec) in enumerate(zip(layers, specs, strict=True), start=1):
            hessian_KK = hessians.get(layer.name)
            weight = quantize_layer(layer, spec, hessian_KK=hessian_KK, input_weighted=case.input_weighted)
            quantized[layer.name] = dequantized_layer(layer, weight)
            advance(number / len(layers))
        return quantized

    def _measure(self, case: Case, advance: Advance) -> AccuracySamples:
        begin = 0.0
        if case.needs_calibration and self._hessians is None:
            # Once for all cases, so not part of this one's time; of the progress it shows a part.
            begin = _CALIBRATION_SHARE
            self._calibrated(lambda fraction: advance(begin * fraction))
        middle = 1 - (1 - begin) * _EVALUATE_SECONDS / expected_seconds(case)
        started = time.perf_counter()
        quantized = self.quantize(case, lambda fraction: advance(begin + (middle - begin) * fraction))
        samples = self.score(
            quantized,
            quantize_seconds=time.perf_counter() - started,
            advance=lambda fraction: advance(middle + (1 - middle) * fraction),
        )
        if self._tasks:
            weights = {name: layer.weight_NK for name, layer in quantized.items()}
            with swapped_weights(self._model.layers, weights):
                self.task_metrics[case.case_id] = run_tasks(
                    self._model,
                    self._tasks,
                    passages=[passage.text for passage in self._text.passages],
                    items=self._text.items,
                    window_tokens=self._window_tokens,
                )
        return samples

    def _calibrated(self, advance: Advance = _ignore) -> dict[str, Tensor]:
        if self._hessians is None:
            texts = [passage.text for passage in self._text.calibration]
            windows = rolling_windows(self._model.tokenizer, texts, self._window_tokens)
            self._hessians = collect_hessians(self._model, windows, advance)
        return self._hessians


def expected_seconds(case: Case) -> float:
    """Rough duration of a case on the shipped model, for the time left."""
    seconds = [
        _QUANTIZE_SECONDS[str(spec.scales)]
        + (spec.assignment == "feedback")
        * (_FEEDBACK_SECONDS + _REFIT_SECONDS[str(spec.scales)] * (spec.refit_rounds or 0))
        for spec in case.specs
    ]
    return _EVALUATE_SECONDS + (sum(seconds) / len(seconds) if seconds else 0.0)
