"""Trains the testbed model: tokenizer, weights and training record, from the standard library's source alone.

    lords-bench testbed train --out DIR

The model is a Llama decoder, wide rather than deep, so that low-rank scales at parity with blocks of 64 have rank 4
to 6, and every width is a multiple of 256, so that no packed row is padded. Library files are seen three times, test
files once: the library is what the held-out modules resemble. About 13 million tokens; an interrupted run resumes
from its last checkpoint.
"""

import json
import platform
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from lords_bench.errors import ModelError
from lords_bench.files import write_whole
from lords_bench.suites.testbed.corpus import Document, corpus_sha256, held_out_documents, training_documents

END_OF_TEXT = "<|eos|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class TestbedRecipe:
    """Sizes and hyperparameters of the shipped model; 7.9 million weights, 16 MB in bf16."""

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


def train_testbed(out: Path, recipe: TestbedRecipe, *, max_steps: int = -1) -> Path:
    """Trains tokenizer and model and writes a Hugging Face directory with `training.json`.

    Checkpoints go to `out/checkpoints` until the run is complete; a second call resumes there.

    Args:
        out: folder to write; must not hold a finished model.
        recipe: sizes and hyperparameters.
        max_steps: optimiser steps; -1 is one run over the whole stream.

    Raises:
        ModelError: `out` holds a finished model already.
    """
    if (out / "model.safetensors").exists():
        raise ModelError(f"{out} holds a trained model already; choose another --out")
    documents = training_documents()
    tokenizer = train_tokenizer(documents, recipe)
    stream = training_stream(documents, tokenizer, recipe)
    windows = Windows(stream, recipe.context)
    checkpoints = out / "checkpoints"
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
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
        save_total_limit=1,
        logging_steps=50,
        report_to=[],
        dataloader_pin_memory=on_gpu,
    )
    model = build_model(recipe)
    started = time.monotonic()
    trainer = Trainer(model=model, args=arguments, train_dataset=windows)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None)
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
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_whole(out / "training.json", f"{json.dumps(record, indent=1)}\n")
    shutil.rmtree(checkpoints)
    return out
