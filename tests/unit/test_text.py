"""What is shown of foreign text acts on no terminal, hides nothing, and is legal in XML."""

import unicodedata

import pytest

from lords_bench.text import one_line, visible


def test_no_character_acts_or_hides() -> None:
    for number in range(0x110000):
        character = chr(number)
        category = unicodedata.category(character)
        if category in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n":
            assert visible(character) == "\N{REPLACEMENT CHARACTER}", hex(number)


@pytest.mark.parametrize("mark", "\u061c\u200b\u200e\u200f\u202a\u202e\u2066\u2069\ufeff\ufffe\uffff\U000e0041")
def test_marks_of_direction_and_hidden_characters_are_shown(mark: str) -> None:
    assert visible(f"a{mark}b") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("text", ["plain", "W ≈ B·A", "हिन्दी", "می\u200cخواهم", "👩\u200d🔬", "a\tb\nc"])
def test_text_that_is_seen_stays(text: str) -> None:
    assert visible(text) == text


def test_a_line_is_one_line_of_at_most_so_many_characters() -> None:
    assert one_line(" a\r\n\tb\u2028c ") == "a\N{REPLACEMENT CHARACTER} b\N{REPLACEMENT CHARACTER}c"
    assert one_line("x" * 10**6, most=10) == "x" * 9 + "…"
    assert one_line("short", most=10) == "short"
