"""The tables that this process works with: read once, at the first product that asks, and never again.

What was set aside, and an entry that serves a problem without being exact, are said once, as warnings.
"""

import warnings
from functools import cache

from lords_bench.products.lookup import Entries
from lords_bench.products.tables import TableFile, read_tables


def entries_of(tables: tuple[TableFile, ...]) -> Entries:
    """All entries of the tables; those of later tables win."""
    return Entries(entry for table in tables for entry in table.entries)


@cache
def active_entries() -> Entries:
    """Entries of the shipped and the user's tables.

    Raises:
        StoreError: a table that exists cannot be read.
    """
    tables = read_tables()
    for table in tables:
        for line in table.rejected:
            warnings.warn(f"{table.path} line {line.line} is not used: {line.reason}", stacklevel=2)
    return entries_of(tables)
