"""Trains the testbed model: tokenizer, weights and training record, from the standard library's source alone.

    lords-bench testbed train --out DIR

The model is a Llama decoder, wide rather than deep, so that low-rank scales at parity with blocks of 64 have rank 4
to 6, and every width is a multiple of 256, so that no packed row is padded. Library files are seen three times, test
files once: the library is what the held-out modules resemble. About 13 million tokens; an interrupted run resumes
from its last checkpoint.
"""

import json
import logging
import platform
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from lords_bench.errors import ModelError, StoreError, reason_of
from lords_bench.files import whole_files
from lords_bench.integrations.pretrained import fill_model_folder
from lords_bench.options import COUNT, FROM_ZERO, POSITIVE, SEED, SHARE
from lords_bench.records.lines import folder_lock
from lords_bench.suites.testbed.corpus import Document, corpus_sha256, held_out_documents, training_documents
from lords_bench.training.checkpoints import UNFINISHED, WholeCheckpoints, newest_whole, train_from

END_OF_TEXT = "<|eos|>"
MODEL_FILE = "model.safetensors"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TestbedRecipe:
    """Sizes and hyperparameters of the shipped model; 7.9 million weights, 16 MB in bf16.

    Raises:
        UsageError: a number that no training has.
    """

    __test__ = False  # the name begins with "Test" but pytest must not collect it

    vocabulary: int = 2048
    hidden: int = 512
    intermediate: int = 1536
    layers: int = 2
    heads: int = 8
    context: int = 512
    library_passes: int = 3
    test_passes: int = 1
    batch_windows: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup_steps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "hidden", "intermediate", "layers", "heads", "context", "batch_windows"):
            COUNT.check(name, getattr(self, name))
        for name in ("library_passes", "test_passes", "warmup_steps"):
            FROM_ZERO.check(name, getattr(self, name))
        POSITIVE.check("learning_rate", self.learning_rate)
        SHARE.check("weight_decay", self.weight_decay)
        SEED.check("seed", self.seed)


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Non-overlapping windows of `context` tokens cut from one shuffled stream of documents."""

    def __init__(self, stream: torch.Tensor, context: int) -> None:
        count = len(stream) // context
        self._windows = stream[: count * context].view(count, context)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = self._windows[index].long()
        return {"input_ids": window, "labels": window}


def train_tokenizer(documents: Sequence[Document], recipe: TestbedRecipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the training documents; any bytes can be encoded and decoded back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=recipe.context
    )


def training_stream(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, recipe: TestbedRecipe
) -> torch.Tensor:
    """All passes over the documents as one int16 stream; each document opens with the end-of-text token."""
    encoded = {d.name: tokenizer(d.text, verbose=False)["input_ids"] for d in documents}
    rng = random.Random(recipe.seed)

    def tokens() -> Iterator[int]:
        for passage in range(max(recipe.library_passes, recipe.test_passes)):
            seen = [d for d in documents if passage < (recipe.test_passes if d.is_test else recipe.library_passes)]
            rng.shuffle(seen)
            for document in seen:
                yield tokenizer.eos_token_id
                yield from encoded[document.name]

    return torch.tensor(list(tokens()), dtype=torch.int16)


def build_model(recipe: TestbedRecipe) -> LlamaForCausalLM:
    """A randomly initialised Llama of the recipe's sizes, fp32, tied embeddings, no biases."""
    transformers.set_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def train_testbed(
    out: Path,
    recipe: TestbedRecipe,
    *,
    max_steps: int | None = None,
    notice: Callable[[str], None] = _LOG.warning,
) -> Path:
    """Trains tokenizer and model and writes a Hugging Face directory with `training.json`.

    Checkpoints go to `out/checkpoints` until the run is complete; a second call resumes there.

    Args:
        out: folder to write; must not hold a finished model.
        recipe: sizes and hyperparameters.
        max_steps: optimiser steps; None is one run over the whole stream.
        notice: is told which checkpoint the run goes on from, and which one is set aside and why.

    Raises:
        ModelError: `out` holds a finished model already.
        UsageError: no step.
        StoreError: the disk refuses, or another process trains in `out`.
    """
    if max_steps is not None:
        COUNT.check("max_steps", max_steps)
    with testbed_folder(out):
        return _train(out, recipe, -1 if max_steps is None else max_steps, notice)


def _train(out: Path, recipe: TestbedRecipe, max_steps: int, notice: Callable[[str], None]) -> Path:
    documents = training_documents()
    tokenizer = train_tokenizer(documents, recipe)
    stream = training_stream(documents, tokenizer, recipe)
    windows = Windows(stream, recipe.context)
    checkpoints = out / "checkpoints"
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(checkpoints / UNFINISHED),
        per_device_train_batch_size=recipe.batch_windows,
        num_train_epochs=1,
        max_steps=max_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta2=0.95,
        bf16=True,
        use_cpu=not on_gpu,
        seed=recipe.seed,
        save_steps=250,
        logging_steps=50,
        report_to=[],
        dataloader_pin_memory=on_gpu,
    )
    model = build_model(recipe)
    started = time.monotonic()
    last = newest_whole(checkpoints, notice)
    trainer = Trainer(model=model, args=arguments, train_dataset=windows, callbacks=[WholeCheckpoints(checkpoints)])
    train_from(last, trainer, checkpoints)
    losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    record = {
        "recipe": asdict(recipe),
        "training_sha256": corpus_sha256(documents),
        "held_out_sha256": corpus_sha256(held_out_documents()),
        "training_bytes": sum(len(document.text.encode()) for document in documents),
        "tokens": trainer.state.global_step * recipe.batch_windows * recipe.context,
        "steps": trainer.state.global_step,
        "train_loss_nats": losses,
        "wall_seconds_of_last_run": round(time.monotonic() - started, 1),
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    write_testbed(out, model, tokenizer, record)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return out


def write_testbed(
    out: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, record: dict[str, object]
) -> None:
    """Writes model, tokenizer and training record; the weights take their place last, and say that all are there.

    Raises:
        StoreError: the disk refuses.
    """
    with whole_files(out, last=MODEL_FILE) as part:
        fill_model_folder(model.bfloat16(), tokenizer, part)
        (part / "training.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


@contextmanager
def testbed_folder(out: Path) -> Iterator[None]:
    """Holds the lock of a folder to train in.

    Raises:
        ModelError: it holds a finished model.
        StoreError: another process trains in it, or the disk refuses.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {str(out)!r}: {reason_of(error)}; choose another --out") from error
    with folder_lock(out):
        if (out / MODEL_FILE).exists():
            raise ModelError(f"{out} holds a trained model already; choose another --out")
        yield
