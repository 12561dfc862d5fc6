import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import normalizers

from lords_bench.errors import ModelError, UsageError
from lords_bench.integrations.windows import prefix_token, rolling_windows
from tiny_models import END_OF_TEXT, bos_tokenizer, byte_tokenizer

TOKENIZER = byte_tokenizer()


@given(text=st.text(st.characters(max_codepoint=127), max_size=60), window_tokens=st.integers(2, 20))
def test_windows_are_those_of_lm_eval(text: str, window_tokens: int) -> None:
    tokens = TOKENIZER.encode(text, add_special_tokens=False)
    theirs = [
        (*context, *targets)
        for context, targets in map(
            make_disjoint_window, get_rolling_token_windows(tokens, END_OF_TEXT, window_tokens, 1)
        )
    ]

    ours = rolling_windows(TOKENIZER, [text, "."], window_tokens)[:-1]

    assert [window.tokens for window in ours] == theirs


@given(text=st.text(min_size=1, max_size=40), window_tokens=st.integers(2, 9))
def test_every_token_and_byte_of_a_text_is_counted_once(text: str, window_tokens: int) -> None:
    windows = rolling_windows(TOKENIZER, [text], window_tokens)

    targets = [token for window in windows for token in window.tokens[-window.target_count :]]
    assert targets == TOKENIZER.encode(text, add_special_tokens=False)
    assert sum(window.byte_count for window in windows) == len(text.encode())
    assert max(window.input_count for window in windows) <= window_tokens


def test_bytes_that_the_tokenizer_drops_are_counted() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()

    windows = rolling_windows(tokenizer, ["abc  \n"], 2)

    assert [(window.target_count, window.byte_count) for window in windows] == [(2, 2), (1, 4)]


def test_a_token_that_the_tokenizer_puts_first_is_not_predicted() -> None:
    assert rolling_windows(bos_tokenizer(), ["ab"], 8) == rolling_windows(TOKENIZER, ["ab"], 8)


def test_windows_of_several_texts_do_not_see_each_other() -> None:
    first, second = rolling_windows(TOKENIZER, ["ab", "cd"], 8)

    assert first.tokens == (END_OF_TEXT, *TOKENIZER.encode("ab"))
    assert second.tokens == (END_OF_TEXT, *TOKENIZER.encode("cd"))


def test_text_without_a_token_is_refused() -> None:
    with pytest.raises(UsageError, match="evaluation text is empty"):
        rolling_windows(TOKENIZER, [""], 8)


def test_a_window_of_one_token_is_refused() -> None:
    with pytest.raises(UsageError, match="window of 1 tokens is too short"):
        rolling_windows(TOKENIZER, ["ab"], 1)


def test_a_tokenizer_without_prefix_token_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None

    with pytest.raises(ModelError, match="neither a bos nor an eos token"):
        prefix_token(tokenizer)
