"""Model and tokenizer as a folder that transformers reads, whole or not at all."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lords_bench.files import REMEDY, whole_folder
from lords_bench.reference.tensor_files import disk_refusals


def save_model_folder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, remedy: str = REMEDY
) -> None:
    """Write the folder, whole or not at all.

    Args:
        model: dense.
        tokenizer: of the model.
        folder: must not exist, or be empty.
        remedy: end of the refusal.

    Raises:
        StoreError: the folder holds something, or the disk refuses.
    """
    with whole_folder(folder, remedy=remedy) as part:
        fill_model_folder(model, tokenizer, part)


def fill_model_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the same files into a folder that is being filled (`whole_folder`, `whole_files`).

    Raises:
        OSError: the disk refuses.
    """
    with disk_refusals():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
