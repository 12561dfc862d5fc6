"""Fill an `Environment` from the running machine. Works with no GPU, no git and no torch; what is absent is None.

Versions are read from installed metadata, so probing imports nothing. torch is asked for the GPU's name and its thread
count only if the program has imported it already.
"""

import hashlib
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

from lords_bench.records.environment import Device, Environment
from lords_bench.requirements import installed_version
from lords_bench.source import package_sha256
from lords_bench.version import PACKAGE_FOLDER, __version__

# What can move a number: changes elsewhere (reports, tests, documents) do not make a run dirty.
CODE_PATHS = ("lords_bench", "kernels", "reference", "suites")
GIT_SECONDS = 20


def probe_environment(device: Device = "cpu") -> Environment:
    """The environment of this process, whose tensors live on `device`.

    Raises:
        RecordError: `device` is neither `cpu` nor `cuda`, or is `cuda` where torch is not imported or sees no GPU.
    """
    root = PACKAGE_FOLDER.parent
    commit, dirty = git_state(root)
    return Environment(
        device=device,
        lords_bench=__version__,
        source_sha256=package_sha256(),
        git_commit=commit,
        git_dirty=dirty,
        python=platform.python_version(),
        torch=installed_version("torch"),
        triton=installed_version("triton"),
        transformers=installed_version("transformers"),
        numpy=installed_version("numpy"),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu_model=cpu_model(),
        cpu_cores=_cpu_cores(),
        torch_threads=_torch_threads(),
        memory_bytes=_memory_bytes(),
        gpu_name=_gpu_name(),
        hostname_sha256=hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12],
    )


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout at `root` and whether its code differs from it; (None, None) where `root` is not one.

    A package installed below somebody else's repository is not that repository's code: `root` itself must be the top.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top.strip()).resolve() != root.resolve():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--", *CODE_PATHS)
    return commit.strip() if commit else None, None if status is None else bool(status.strip())


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Marketing name of the processor, as Linux tells it, else what the platform module knows."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def _cpu_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _torch_threads() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else None


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))
