"""Judges a trained testbed model on all held-out text and writes its card.

Two figures say whether it has learned: bits per byte of the held-out modules against `xz -9e` on the same bytes, and
next-line choice accuracy against chance. Both need only the model directory and the running interpreter's library.
"""

import json
import lzma
import math
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lords_bench.errors import ModelError, reason_of
from lords_bench.files import write_whole
from lords_bench.integrations.choices import ChoiceScorer
from lords_bench.integrations.hf_model import CausalModel, load_causal_model
from lords_bench.integrations.windows import Window, rolling_windows
from lords_bench.records.lines import read_limited
from lords_bench.strict_json import parse_json
from lords_bench.suites.testbed.choices import OPTION_COUNT, next_line_items
from lords_bench.suites.testbed.corpus import corpus_sha256, held_out_documents

CHOICE_ITEMS = 800
CHOICE_SEED = 0

MOST_TRAINING_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What the held-out text says of a model; accuracies are fractions in [0, 1]."""

    held_out_documents: int
    held_out_bytes: int
    held_out_sha256: str
    model_bits_per_byte: float
    xz_bits_per_byte: float
    choice_items: int
    choice_accuracy: float
    choice_standard_error: float
    python: str


def judge_testbed(folder: Path) -> Judgement:
    """Rolling bits per byte of all held-out documents, and choice accuracy.

    Raises:
        ModelError: no usable model in `folder`.
    """
    model = load_causal_model(str(folder))
    documents = held_out_documents()
    data = b"".join(document.text.encode() for document in documents)
    windows = rolling_windows(model.tokenizer, [d.text for d in documents], model.context_tokens or 512)
    nll_nats = sum(_nll_nats(model, window) for window in windows)
    correct = ChoiceScorer(model, next_line_items(documents, CHOICE_ITEMS, CHOICE_SEED)).correct({})
    accuracy = sum(correct) / len(correct)
    compressed = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    return Judgement(
        held_out_documents=len(documents),
        held_out_bytes=len(data),
        held_out_sha256=corpus_sha256(documents),
        model_bits_per_byte=round(nll_nats / math.log(2) / len(data), 4),
        xz_bits_per_byte=round(8 * len(compressed) / len(data), 4),
        choice_items=len(correct),
        choice_accuracy=round(accuracy, 4),
        choice_standard_error=round(math.sqrt(accuracy * (1 - accuracy) / len(correct)), 4),
        python=platform.python_version(),
    )


@torch.inference_mode()
def _nll_nats(model: CausalModel, window: Window) -> float:
    inputs = torch.tensor([window.tokens[:-1]], device=model.device)
    targets = torch.tensor(window.tokens[-window.target_count :], device=model.device)
    logits = model.model(input_ids=inputs, use_cache=False).logits[0, -window.target_count :]
    return float(torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum"))


def write_card(folder: Path) -> Path:
    """Judges the model in `folder`, writes `judgement.json` and `README.md` beside it, returns the latter.

    Raises:
        ModelError: no usable model, or no whole `training.json`, in `folder`.
    """
    try:
        training = parse_json(read_limited(folder / "training.json", MOST_TRAINING_BYTES))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no training.json; train one with 'lords-bench testbed train'") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"training.json of {folder} is damaged: {reason_of(error)}; train the model again") from error
    judgement = judge_testbed(folder)
    try:
        text = card_text(training, judgement)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"training.json of {folder} is damaged ({reason_of(error)}); train the model again") from error
    write_whole(folder / "judgement.json", f"{json.dumps(asdict(judgement), indent=1)}\n")
    card = folder / "README.md"
    write_whole(card, text)
    return card


def card_text(training: dict[str, Any], judgement: Judgement) -> str:
    """The card, from the training record and the judgement alone."""
    recipe = training["recipe"]
    return f"""---
library_name: transformers
tags: [quantization, testbed]
---

# The testbed model

A Llama decoder trained on the source of the Python standard library, small enough to ship and real enough that
quantization methods rank on it. It is a measuring instrument, not an assistant.

| judged on {judgement.held_out_documents} held-out files, {judgement.held_out_bytes:,} bytes | model | to beat |
|---|---|---|
| bits per byte | **{judgement.model_bits_per_byte:.4f}** | {judgement.xz_bits_per_byte:.4f} (`xz -9e`) |
| next-line choice accuracy, {judgement.choice_items} items | **{judgement.choice_accuracy:.1%}** ± \
{judgement.choice_standard_error:.1%} (standard error) | {1 / OPTION_COUNT:.0%} (chance) |

- Sizes: hidden {recipe["hidden"]}, intermediate {recipe["intermediate"]}, {recipe["layers"]} layers, \
{recipe["heads"]} heads, vocabulary {recipe["vocabulary"]} (tied), context {recipe["context"]}; bf16.
- Trained on {training["tokens"]:,} tokens of {training["training_bytes"]:,} bytes in {training["steps"]:,} steps, \
seed {recipe["seed"]}, AdamW, peak learning rate {recipe["learning_rate"]:g}, {training["device"]}.
- Training text sha256 `{training["training_sha256"]}`, held-out text sha256 `{judgement.held_out_sha256}`.
- Judged with Python {judgement.python}; trained with Python {training["python"]}, torch {training["torch"]}, \
transformers {training["transformers"]}.

Made by `lords-bench testbed train --out DIR`, judged by `lords-bench testbed card DIR`. The text is the Python
standard library's (PSF licence); held-out modules and their tests are named in `suites/testbed/corpus.py`.
"""
