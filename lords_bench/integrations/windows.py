"""Text cut into windows of tokens, as lm-eval's rolling log-likelihood cuts it, so that bits per byte agree with it.

A text's tokens are predicted once each, in windows of at most T targets. The first window is conditioned on one prefix
token (beginning or end of text); every later one on the last token before it, and a last, shorter window on as many
tokens before it as fill T inputs. The bytes a window stands for are found from the tokenizer's character offsets and
add up to the text's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lords_bench.errors import ModelError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """`tokens` are context and targets; the last `target_count` of them are predicted, from the ones before.

    `byte_count` is the number of UTF-8 bytes the targets stand for.
    """

    tokens: tuple[int, ...]
    target_count: int
    byte_count: int

    @property
    def input_count(self) -> int:
        """Tokens the model reads: all but the last."""
        return len(self.tokens) - 1


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token before a text's first: beginning of text, else end of text.

    Raises:
        ModelError: the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer names neither a bos nor an eos token; set one in tokenizer_config.json")


def rolling_windows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], window_tokens: int) -> tuple[Window, ...]:
    """Windows of all texts in order; each text is tokenized on its own, without special tokens.

    Args:
        tokenizer: must give character offsets.
        texts: at least one that is not empty.
        window_tokens: T, the longest input of the model to be used, at least 2.

    Raises:
        ModelError: the tokenizer cannot give offsets or has no prefix token.
        UsageError: nothing to evaluate.
    """
    if window_tokens < 2:
        raise UsageError(f"window of {window_tokens} tokens is too short; give at least 2")
    if not tokenizer.is_fast:
        raise ModelError(f"{type(tokenizer).__name__} gives no character offsets; use a model with a tokenizer.json")
    prefix = prefix_token(tokenizer)
    windows = tuple(window for text in texts for window in _windows_of(tokenizer, text, window_tokens, prefix))
    if not windows:
        raise UsageError("the evaluation text is empty; give text to evaluate")
    return windows


def _windows_of(tokenizer: PreTrainedTokenizerBase, text: str, window_tokens: int, prefix: int) -> Iterator[Window]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    tokens = [prefix, *encoded["input_ids"]]
    ends = [end for _, end in encoded["offset_mapping"]]
    count, bytes_before = len(ends), 0
    for start in range(0, count, window_tokens):
        stop = min(start + window_tokens, count)
        # Position i of `tokens` predicts token i of the text; every window but the first reads T inputs.
        first_input = max(0, stop - window_tokens)
        bytes_until = len(text[: ends[stop - 1] if stop < count else len(text)].encode("utf-8", "surrogatepass"))
        yield Window(
            tokens=tuple(tokens[first_input : stop + 1]),
            target_count=stop - start,
            byte_count=bytes_until - bytes_before,
        )
        bytes_before = bytes_until
