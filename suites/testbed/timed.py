"""A larger testbed model, trained on a GPU in a stated number of seconds on all Python source found on the machine.

    lords-bench testbed train --size large --seconds 300 --out DIR

The text is the standard library's, as for the shipped model, and that of installed packages; held-out modules are in
neither, nor is any file that has the name of one. How many steps fit is measured on the first ones, so that the
learning rate has fallen by the end; a callback ends the training at its time in any case. The model is no more than a
measuring instrument of the machine that trained it: its records come back, it does not.
"""

import platform
import shutil
import sysconfig
import time
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments

from lords_bench.errors import ModelError
from lords_bench.options import SECONDS
from lords_bench.suites.testbed.corpus import (
    HELD_OUT_MODULES,
    Document,
    corpus_sha256,
    held_out_documents,
    module_of,
    training_documents,
)
from lords_bench.suites.testbed.train import (
    TestbedRecipe,
    Windows,
    build_model,
    testbed_folder,
    train_tokenizer,
    write_testbed,
)

# 75.5 million weights, wide rather than deep as the shipped one: parity ranks with blocks of 64 are 8 and 12.
LARGE = TestbedRecipe(
    vocabulary=8192, hidden=1024, intermediate=4096, layers=4, heads=16, library_passes=4, test_passes=4,
    batch_windows=32, learning_rate=1e-3,
)  # fmt: skip
MOST_TEXT_BYTES = 64 * 2**20
# A tokenizer does not get better by more text than this.
TOKENIZER_BYTES = 16 * 2**20
MOST_FILE_BYTES = 2**19
# Steps that are timed before the number of steps is set, and the share of the time that they are planned to fill.
PROBE_STEPS = 20
PLANNED_SHARE = 0.9
# The trainer makes a folder for checkpoints; none is written.
UNUSED = "unused"


def train_for(out: Path, recipe: TestbedRecipe, seconds: float, *, documents: Sequence[Document] | None = None) -> Path:
    """Train tokenizer and model within the time and write a Hugging Face directory with `training.json`.

    Args:
        out: folder to write; must not hold a model.
        recipe: sizes and hyperparameters; its passes are the most that are made.
        seconds: for everything, reading the text and writing the model included.
        documents: the text; None is `python_sources()`.

    Raises:
        ModelError: `out` holds a model already, or the text is too short for one batch.
        UsageError: no time.
        StoreError: the disk refuses, or another process trains in `out`.
    """
    SECONDS.check("seconds", seconds)
    with testbed_folder(out):
        return _train_for(out, recipe, seconds, documents)


def _train_for(out: Path, recipe: TestbedRecipe, seconds: float, documents: Sequence[Document] | None) -> Path:
    begin = time.monotonic()
    found = python_sources() if documents is None else tuple(documents)
    tokenizer = train_tokenizer(_share(found, TOKENIZER_BYTES), recipe)
    windows = Windows(token_stream(found, tokenizer), recipe.context)
    pass_steps = len(windows) // recipe.batch_windows
    if not pass_steps:
        raise ModelError(f"{len(windows)} windows of text are no batch of {recipe.batch_windows}; use more text")
    model = build_model(recipe)
    step_s = _probe(model, windows, recipe, out)
    prepared_s = time.monotonic() - begin
    left_s = max(0.0, PLANNED_SHARE * (seconds - prepared_s))
    steps = max(1, min(recipe.library_passes * pass_steps, int(left_s / step_s)))
    watch = _Deadline(begin + seconds)
    model = build_model(recipe)
    trainer = _trainer(model, windows, recipe, out, steps, [watch])
    trainer.train()
    losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    record = {
        "recipe": asdict(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_sha256": corpus_sha256(found),
        "held_out_sha256": corpus_sha256(held_out_documents()),
        "training_files": len(found),
        "training_bytes": sum(len(document.text.encode()) for document in found),
        "tokens": trainer.state.global_step * recipe.batch_windows * recipe.context,
        "steps": trainer.state.global_step,
        "planned_steps": steps,
        "passes": round(trainer.state.global_step / pass_steps, 2),
        "seconds_asked": seconds,
        "seconds_prepared": round(prepared_s, 1),
        "seconds": round(time.monotonic() - begin, 1),
        "train_loss_nats": losses,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    write_testbed(out, model, tokenizer, record)
    shutil.rmtree(out / UNUSED, ignore_errors=True)
    return out


def python_sources(packages: Path | None = None, *, most_bytes: int = MOST_TEXT_BYTES) -> tuple[Document, ...]:
    """The standard library's training files, then source files of installed packages in order of name, each text once.

    Args:
        packages: folder of packages; None is that of the running interpreter.
        most_bytes: where the packages' share ends.
    """
    found, seen, size = [], set(), 0
    for document in chain(training_documents(), _package_files(packages or Path(sysconfig.get_path("purelib")))):
        if document.text in seen:
            continue
        seen.add(document.text)
        size += len(document.text)
        found.append(document)
        if size >= most_bytes:
            break
    return tuple(found)


def _package_files(root: Path) -> Iterator[Document]:
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        held_out = any(module_of(part) in HELD_OUT_MODULES for part in name.split("/"))
        if held_out or path.stat().st_size > MOST_FILE_BYTES:
            continue
        try:
            with tokenize.open(path) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue  # templates and files of other encodings are no source
        if text.strip():
            yield Document(name=f"packages/{name}", text=text)


def token_stream(documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Every document once, opened by the end-of-text token, in the order given, as one int16 stream."""
    encoded = tokenizer([document.text for document in documents], verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    return torch.tensor(list(chain.from_iterable((end, *tokens) for tokens in encoded)), dtype=torch.int16)


def _share(documents: Sequence[Document], most_bytes: int) -> Sequence[Document]:
    """Documents spread evenly over all of them, of about so many bytes."""
    total = sum(len(document.text) for document in documents)
    return documents[:: max(1, -(-total // most_bytes))]


class _Deadline(TrainerCallback):
    """Ends the training when its time is over."""

    def __init__(self, ends: float) -> None:
        self.ends = ends

    def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:  # noqa: ARG002
        if time.monotonic() >= self.ends:
            control.should_training_stop = True


class _Stopwatch(TrainerCallback):
    """When every step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:  # noqa: ARG002
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())


def _probe(model: torch.nn.Module, windows: Windows, recipe: TestbedRecipe, out: Path) -> float:
    """Seconds of a step, by the second half of a few."""
    watch = _Stopwatch()
    _trainer(model, windows, replace(recipe, warmup_steps=1), out, PROBE_STEPS, [watch]).train()
    half = len(watch.ends) // 2
    return max(1e-6, (watch.ends[-1] - watch.ends[half - 1]) / (len(watch.ends) - half))


def _trainer(
    model: torch.nn.Module,
    windows: Windows,
    recipe: TestbedRecipe,
    out: Path,
    steps: int,
    callbacks: list[TrainerCallback],
) -> Trainer:
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(out / UNUSED),
        per_device_train_batch_size=recipe.batch_windows,
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=min(recipe.warmup_steps, max(1, steps // 10)),
        weight_decay=recipe.weight_decay,
        adam_beta2=0.95,
        bf16=True,
        use_cpu=not on_gpu,
        seed=recipe.seed,
        save_strategy="no",
        logging_steps=max(1, steps // 40),
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )
    return Trainer(model=model, args=arguments, train_dataset=windows, callbacks=callbacks)
