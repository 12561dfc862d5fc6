"""Tables of tuned choices on disk: where they lie, how one is read, how an entry is added.

    <folder>/<device>/tuned.jsonl      one `TunedEntry` a line, with schema and checksum; appended to, never rewritten

There are two folders: the shipped one, committed as `reports/tuned` and part of the wheel, and the user's own, which
wins. The later of two lines with the same key holds. A line that cannot be believed is reported with its number, takes
no part, and stays where it is.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lords_bench.records.environment import slug
from lords_bench.records.journal import Journal
from lords_bench.records.store import RejectedLine, read_nouns
from lords_bench.records.tuned import Setting, TunedEntry
from lords_bench.version import PACKAGE_FOLDER

FILE_NAME = "tuned.jsonl"

# Overrides the folder of the user's own tables.
FOLDER_VARIABLE = "LORDS_BENCH_TUNED"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """One table as it was read: the entries that hold, in file order, and the lines that are not believed."""

    path: Path
    entries: tuple[TunedEntry, ...]
    rejected: tuple[RejectedLine, ...]


def shipped_folder() -> Path:
    """Tables that come with the project."""
    return PACKAGE_FOLDER / "tuned"


def user_folder() -> Path:
    """Tables of this user: `LORDS_BENCH_TUNED` if set, else `tuned` in the user's data folder for `lords_bench`."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given)
    import platformdirs

    return platformdirs.user_data_path("lords_bench", appauthor=False) / "tuned"


def table_path(folder: Path, gpu: str) -> Path:
    """The table of a GPU, by its name, in a folder of tables."""
    return folder / slug(gpu) / FILE_NAME


def write_entry(entry: TunedEntry, *, folder: Path | None = None) -> Path:
    """Append an entry to the table of its GPU and force it to disk; gives the file.

    An entry slower than the formula's default cannot be built, so none comes here.

    Args:
        entry: the proven choice.
        folder: of tables; None is `user_folder()`.

    Raises:
        StoreError: the folder is read-only, or the disk is full. Several processes may write one table.
    """
    path = table_path(folder or user_folder(), entry.key.machine.gpu)
    with Journal(path, TunedEntry) as journal:
        journal.append(entry)
    return path


def read_tables(folders: tuple[Path, ...] | None = None) -> tuple[TableFile, ...]:
    """Every table of the folders, in order of folder and device; None is the shipped folder, then the user's.

    Raises:
        StoreError: a table that exists cannot be read.
    """
    if folders is None:
        folders = (shipped_folder(), user_folder())
    tables = []
    for folder in folders:
        for path in sorted(folder.glob(f"*/{FILE_NAME}")):
            found = read_nouns(path, TunedEntry)
            tables.append(TableFile(path=path, entries=found.records, rejected=found.rejected))
    return tuple(tables)


def settings_of(config: Any) -> tuple[Setting, ...]:
    """A kernel's configuration as an entry stores it: its fields by name, in their order; () for None."""
    if config is None:
        return ()
    return tuple((field.name, getattr(config, field.name)) for field in fields(config))
