"""How much memory this process has needed."""

import sys


def peak_rss_bytes() -> int | None:
    """Largest resident memory of the process so far; None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024
