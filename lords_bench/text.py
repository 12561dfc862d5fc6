"""Text that came from outside, made safe to show: on a terminal, on a page, in XML.

A control character moves the cursor or colours a terminal and is illegal in XML; a mark of direction makes a line read
as something else than it says; half of a surrogate pair cannot be written at all. Each becomes `�`, one for one, so
that a reader sees that something stood there.
"""

import re

# C0 and C1 without tab and newline; marks of direction, invisible operators and other characters without a shape;
# line and paragraph separators; halves of pairs; what XML forbids; tags. Joiners stay: some scripts need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """The text with `�` for every character that acts or hides instead of being seen; tabs and newlines stay."""
    return _UNSEEN.sub(REPLACEMENT, text)


def one_line(text: str, *, most: int | None = None) -> str:
    """The visible text on one line, blanks joined; of more than `most` characters the first, and `…`."""
    # A few characters of blanks may stand for each that is shown, so this cuts before it looks at all of them.
    line = " ".join(visible(text if most is None else text[: 4 * most]).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"
