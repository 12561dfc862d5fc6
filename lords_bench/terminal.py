"""`Console`: a terminal on which text is text, whoever wrote it.

rich takes square brackets for markup and passes control characters on, so that a name in a record could colour a line,
move the cursor, write into the clipboard or end a command in `MarkupError`. Every string that this console is given,
those in tables included, is shown as it is, with `�` for what acts instead of being seen.
"""

from typing import Any

from rich import console
from rich.text import Text

from lords_bench.text import visible


class Console(console.Console):
    """rich's console without markup; other arguments are rich's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as text; rich calls this for each that it prints."""
        return super().render_str(visible(text), **options)
