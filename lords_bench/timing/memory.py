"""How much memory this process has needed, in all or in a stretch of it."""

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
MEMORY = Path("/proc/meminfo")
# Writing 5 here sets the high-water mark of resident memory back to the present value (Linux, proc(5)).
CLEAR = Path("/proc/self/clear_refs")


def peak_rss_bytes() -> int | None:
    """Largest resident memory of the process so far; None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kibibytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def available_bytes(path: Path = MEMORY) -> int | None:
    """Memory of the machine that can be had without swapping; None where the system does not tell."""
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return None
    kibibytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kibibytes is None else int(kibibytes) * 1024


class MemoryStretch:
    """Memory between the making of this object and the reading of `peak_bytes`.

    On a GPU what torch has allocated there, else resident memory, which only Linux can tell for a stretch; None where
    it is not told.
    """

    def __init__(self, *, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._is_known = on_gpu or _reset_high_water()
        if on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
        self.start_bytes = self._read("VmRSS")

    @property
    def peak_bytes(self) -> int | None:
        """The largest value so far."""
        return self._read("VmHWM")

    def _read(self, field: str) -> int | None:
        if not self._is_known:
            return None
        if self._on_gpu:
            import torch

            return torch.cuda.max_memory_allocated()
        lines = STATUS.read_text("ascii").splitlines()
        kibibytes = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
        return None if kibibytes is None else int(kibibytes) * 1024


def _reset_high_water() -> bool:
    try:
        CLEAR.write_text("5", "ascii")
    except OSError:
        return False
    return STATUS.exists()
