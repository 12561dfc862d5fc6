"""One case of the lifecycle suite: prepare a copy of the model, train it, score what would be stored.

What is scored is not the model in training but its export: every trained layer is replaced by the dequantized weight
that would be written to disk, codes assigned and scales rounded. Training computes in bfloat16 autocast with float32
masters, scoring in float32.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from lords_bench.integrations.hf_model import CausalModel
from lords_bench.integrations.likelihood import window_nll_nats
from lords_bench.integrations.windows import Window, rolling_windows
from lords_bench.records import EvaluationInputs, LifecycleSamples, TextScores
from lords_bench.records.lifecycle import Domain, Split
from lords_bench.suites.lifecycle.cases import Group, Plan
from lords_bench.suites.lifecycle.text import LifecycleText, training_windows
from lords_bench.timing.memory import MemoryStretch
from lords_bench.training import export, prepare_peft, prepare_qat, trainable_count
from lords_bench.training.dense import materialise
from lords_bench.training.loop import LoopSettings, StepLog, train

if TYPE_CHECKING:
    from lords_bench.reference.weights import QuantizedWeight

Advance = Callable[[float], None]
# Domain that a stage trains on; its validation text chooses the learning rate.
DOMAIN_OF: Mapping[str, Domain] = {"qat": "base", "peft": "shifted"}
EVALUATE_SHARE = 0.15


def _ignore(fraction: float) -> None:
    del fraction


class LifecycleMeasurement:
    """Measures cases of a plan on one model.

    Args:
        model: the unquantized model; it is never changed.
        text: training text and held-out passages.
        plan: budget and recipe.
        autocast: dtype of the matrix products in training; None is the model's own.
    """

    def __init__(
        self, model: CausalModel, text: LifecycleText, plan: Plan, *, autocast: torch.dtype | None = torch.bfloat16
    ) -> None:
        self._model = model
        self._plan = plan
        self._text = text
        self._autocast = autocast
        self._window_tokens = min(plan.text.window_tokens, model.context_tokens or plan.text.window_tokens)
        self._windows: dict[tuple[Domain, Split], tuple[tuple[Window, ...], tuple[int, ...]]] = {}
        self._prepared: tuple[str, nn.Module] | None = None

    @property
    def inputs(self) -> EvaluationInputs:
        """Model, text and every setting; records with different ones are never compared."""
        settings = {
            **self._plan.settings,
            "autocast": str(self._autocast).removeprefix("torch."),
            "dtype": str(self._model.model.dtype).removeprefix("torch."),
            "threads_per_run": torch.get_num_threads() if self._model.device.type == "cpu" else None,
            "window_tokens": self._window_tokens,
        }
        return EvaluationInputs(
            model_name=self._model.name,
            model_sha256=self._model.model_sha256,
            tokenizer_sha256=self._model.tokenizer_sha256,
            corpus_sha256=self._text.sha256,
            settings=tuple(sorted(settings.items())),
        )

    def reference(self) -> LifecycleSamples:
        """The unquantized model on all held-out text."""
        started = time.process_time()
        scores = tuple(self._score(self._model.model, key) for key in sorted(self._text.held_out))
        return self._samples({}, scores, None, 0, evaluate_seconds=time.process_time() - started)

    def start(self, group: Group) -> LifecycleSamples:
        """The model that the group trains, before the first step.

        Raises:
            ModelError, SpecError: a layer cannot be quantized so.
        """
        started = time.process_time()
        model = self._prepare(group, seed=self._plan.budget(group).seeds[0])
        prepare_seconds = time.process_time() - started
        return replace(self._scored(model, group, None, 0), prepare_seconds=prepare_seconds)

    def train(self, group: Group, *, learning_rate: float, seed: int, advance: Advance = _ignore) -> LifecycleSamples:
        """One run of the group.

        Raises:
            ModelError: the training diverged.
        """
        started = time.process_time()
        model = self._prepare(group, seed=seed)
        budget, recipe = self._plan.budget(group), self._plan.recipe
        windows = training_windows(
            self._text.training[DOMAIN_OF[group.stage]],
            self._model.tokenizer,
            count=budget.steps * budget.batch_windows,
            window_tokens=self._window_tokens,
            seed=seed,
        )
        settings = LoopSettings(
            learning_rate=learning_rate,
            warmup_share=recipe.warmup_share,
            beta1=recipe.beta1,
            beta2=recipe.beta2,
            clip_norm=recipe.clip_norm,
            autocast=self._autocast,
        )
        torch.manual_seed(seed)
        prepare_seconds = time.process_time() - started
        memory = MemoryStretch(on_gpu=self._model.device.type == "cuda")
        log = train(model, windows.split(budget.batch_windows), settings, lambda f: advance(f * (1 - EVALUATE_SHARE)))
        peak_bytes = memory.peak_bytes
        samples = self._scored(model, group, log, trainable_count(model))
        return replace(
            samples,
            prepare_seconds=prepare_seconds,
            step_tokens=budget.batch_windows * (self._window_tokens - 1),
            start_rss_bytes=memory.start_bytes,
            peak_rss_bytes=peak_bytes,
        )

    def _prepare(self, group: Group, *, seed: int) -> nn.Module:
        """A model to train; what does not depend on the seed is prepared once."""
        is_random = group.adapter == "qlora"
        name = f"{group.group_id} {seed if is_random else ''}"
        if self._prepared is None or self._prepared[0] != name:
            model: nn.Module = copy.deepcopy(self._model.model)
            spec = replace(group.spec, seed=seed) if is_random else group.spec
            if group.adapter is None:
                prepare_qat(model, spec)
            elif group.adapter == "lords":
                prepare_peft(model, "lords", spec)
            else:
                prepare_peft(model, group.adapter, spec)
            self._prepared = (name, model)
        return copy.deepcopy(self._prepared[1])

    def _scored(self, model: nn.Module, group: Group, log: StepLog | None, trained: int) -> LifecycleSamples:
        started = time.process_time()
        with torch.no_grad():
            weights = export(model)
            materialise(model, weights)
        keys: list[tuple[Domain, Split]] = [
            ("base", "test"),
            ("shifted", "test"),
            (DOMAIN_OF[group.stage], "validation"),
        ]
        scores = tuple(self._score(model, key) for key in keys)
        return self._samples(weights, scores, log, trained, evaluate_seconds=time.process_time() - started)

    def _score(self, model: nn.Module, key: tuple[Domain, Split]) -> TextScores:
        passages = self._text.held_out[key]
        if key not in self._windows:
            found: list[Window] = []
            documents: list[int] = []
            for passage in passages:
                windows = rolling_windows(self._model.tokenizer, [passage.text], self._window_tokens)
                found += windows
                documents += [passage.document] * len(windows)
            self._windows[key] = (tuple(found), tuple(documents))
        windows_of, documents_of = self._windows[key]
        return TextScores(
            domain=key[0],
            split=key[1],
            window_tokens=tuple(window.target_count for window in windows_of),
            window_bytes=tuple(window.byte_count for window in windows_of),
            window_nll_nats=window_nll_nats(model, windows_of),
            window_documents=documents_of,
        )

    def _samples(
        self,
        weights: "Mapping[str, QuantizedWeight]",
        scores: tuple[TextScores, ...],
        log: StepLog | None,
        trained: int,
        *,
        evaluate_seconds: float,
    ) -> LifecycleSamples:
        return LifecycleSamples(
            scores=scores,
            layer_names=tuple(weights),
            layer_shapes=tuple(weight.shape for weight in weights.values()),
            layer_stored_bytes=tuple(
                sum(tensor.nbytes for tensor in weight.tensors().values()) for weight in weights.values()
            ),
            trainable_numbers=trained,
            step_loss_nats=log.loss_nats if log else (),
            step_wall_ns=log.wall_ns if log else (),
            step_cpu_ns=log.cpu_ns if log else (),
            step_tokens=0,
            start_rss_bytes=None,
            peak_rss_bytes=None,
            prepare_seconds=0.0,
            evaluate_seconds=evaluate_seconds,
        )
