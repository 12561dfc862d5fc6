"""`Console`: a terminal on which text is text, whoever wrote it; `Watcher`: what a run tells of itself while it runs.

rich takes square brackets for markup and passes control characters on, so that a name in a record could colour a line,
move the cursor, write into the clipboard or end a command in `MarkupError`. Every string that this console is given,
those in tables included, is shown as it is, with `�` for what acts instead of being seen.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from rich import console
from rich.table import Table
from rich.text import Text

from lords_bench.text import visible


class TitledTable(Protocol):
    @property
    def title(self) -> str:
        """Above it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Their heads."""

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Cells."""


class Watcher:
    """Is told what a run does, its cases by name; this one says nothing, `cli.progress.ProgressBar` draws it."""

    def begin(self, name: str) -> None:
        """The case is being measured from now on."""

    def advance(self, fraction: float) -> None:
        """So much of the case is done, 0 to 1."""

    def end(self, name: str, failures: Sequence[str] | None) -> None:
        """The case has its records: a line for each that failed; None where an earlier run had measured it."""


class Console(console.Console):
    """rich's console without markup; other arguments are rich's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as text; rich calls this for each that it prints."""
        return super().render_str(visible(text), **options)

    def print_table(self, table: TitledTable) -> None:
        """Print a table, unless it has no rows."""
        if not table.rows:
            return
        printed = Table(*table.columns, title=table.title, title_justify="left")
        for cells in table.rows:
            printed.add_row(*cells)
        self.print(printed)
