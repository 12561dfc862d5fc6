"""Nouns whose every free text tries to get out of the place where it is shown."""

import re
from collections.abc import Sequence
from typing import Any

from lords_bench.errors import RecordError
from lords_bench.records.codec import from_plain, to_plain

ONE_LINE = (
    " # H | a | b | <script>alert(1)</script><b title='x'> ` `` [l](http://e) ![i](http://e) **b** _u_ ~~s~~ $m$ \\ "
    "&lt; \x1b[31m\x1b]52;c;eA==\x07\x00\x85\u202e\u2028\ufffe {{ 7*7 }} {% x %} [/bold] [bold] :smile: --> ]]> \"' "
    "onload=1 %s"
)
HOSTILE = f"\n# H\n\n- i\n\n| a | b |\n|---|---|\n| c | d |\n\n```\n---\n===\n    i\n1. n\n> q\n<div>\n{ONE_LINE}\n"
HARMLESS = " x"


def filled(nouns: Sequence[Any], ending: str, *, but: str = "$^") -> list[Any]:
    """The nouns with an ending behind every text that may have one; where it must be one line, without newlines.

    Args:
        nouns: of one kind.
        ending: what is added.
        but: pattern of paths that stay as they are, such as `record.method`.
    """
    plain = [to_plain(noun) for noun in nouns]
    noun = type(nouns[0])
    for path in sorted({path for record in plain for path in _texts(record, "record")}):
        if re.search(but, path):
            continue
        for text in (ending, " ".join(ending.split("\n"))):
            changed = [_ended(record, "record", path, text) for record in plain]
            try:
                for record in (new for old, new in zip(plain, changed, strict=True) if new != old):
                    from_plain(noun, record, path="record")
            except RecordError:
                continue
            plain = changed
            break
    return [from_plain(noun, record, path="record") for record in plain]


def _texts(value: Any, path: str) -> set[str]:
    if isinstance(value, str):
        return {path}
    found: set[str] = set()
    if isinstance(value, dict):
        for name, item in value.items():
            found |= _texts(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            found |= _texts(item, f"{path}[]")
    return found


def _ended(value: Any, path: str, wanted: str, ending: str) -> Any:
    if isinstance(value, str):
        return value + ending if path == wanted else value
    if not wanted.startswith(path):
        return value
    if isinstance(value, dict):
        return {name: _ended(item, f"{path}.{name}", wanted, ending) for name, item in value.items()}
    if isinstance(value, list):
        return [_ended(item, f"{path}[]", wanted, ending) for item in value]
    return value
