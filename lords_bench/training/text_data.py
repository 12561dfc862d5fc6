"""Training text from files: plain text, or JSON lines with a "text" each, cut into windows of tokens."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from lords_bench.errors import UsageError, reason_of
from lords_bench.integrations.windows import prefix_token
from lords_bench.json_object import object_of

JSON_SUFFIXES = (".jsonl", ".ndjson")


class TokenWindows(Dataset[dict[str, Tensor]]):
    """Non-overlapping windows of one stream of documents; a rest shorter than a window is left out.

    Args:
        texts: documents; each opens with the beginning- or end-of-text token.
        tokenizer: of the model.
        window_tokens: T.
        source: what to call the text in errors.

    Raises:
        UsageError: the text does not fill one window.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, window_tokens: int, source: str
    ) -> None:
        prefix = prefix_token(tokenizer)
        stream: list[int] = []
        for text in texts:
            stream.append(prefix)
            stream += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        count = len(stream) // window_tokens
        if not count:
            raise UsageError(
                f"{source} holds {len(stream)} tokens, less than one window of {window_tokens}; "
                "give more text or a smaller --window"
            )
        self._windows = torch.tensor(stream[: count * window_tokens]).view(count, window_tokens)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window = self._windows[index]
        return {"input_ids": window, "labels": window}

    @property
    def token_count(self) -> int:
        return self._windows.numel()


def read_texts(files: Sequence[str]) -> list[str]:
    """The documents of all files, in order: a text file is one, a JSON-lines file has one per line.

    Raises:
        UsageError: a file is missing, not UTF-8, a line is not an object with a "text", or there is no text at all.
    """
    texts = [text for file in files for text in _documents(file)]
    if not any(text.strip() for text in texts):
        raise UsageError(f"no text in {', '.join(map(repr, files))}; give files with text")
    return texts


def _documents(file: str) -> Iterator[str]:
    path = Path(file)
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file!r} cannot be read as UTF-8 text: {reason_of(error)}") from error
    if path.suffix not in JSON_SUFFIXES:
        yield content
        return
    # Not `splitlines`: a text in JSON may hold every separator of Unicode, and none but the newline ends a line.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = object_of(line)
        except ValueError as error:
            raise UsageError(
                f"{file!r}, line {number} is not JSON: {reason_of(error)}; write one object per line"
            ) from error
        if not isinstance(value.get("text"), str):
            raise UsageError(f'{file!r}, line {number} has no "text"; write {{"text": "…"}} on every line')
        yield value["text"]
