"""Which tuned tables a latency run looked its configurations up in."""

import hashlib

from lords_bench.products.tables import read_tables


def tables_sha256() -> str | None:
    """Hash of the tuned tables in use, so that what was timed before tuning is timed again; None without tables."""
    digest = hashlib.sha256()
    tables = read_tables()
    for table in tables:
        digest.update(table.path.read_bytes())
    return digest.hexdigest() if tables else None
