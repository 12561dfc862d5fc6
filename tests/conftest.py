"""What holds for every test: no network, few threads, one place that decides on hypothesis profiles and on skipping."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

THREADS = 2

# Libraries read these when they are first imported, so they are set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", str(min(THREADS, os.cpu_count() or 1)))

# Deadlines measure the machine, not the code; the first example of a test often pays for an import. The same examples
# for everybody, so that a fault found elsewhere is found here; `slow` looks for new ones.
settings.register_profile(
    "default", max_examples=30, deadline=None, derandomize=True, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile("slow", settings.get_profile("default"), max_examples=300, derandomize=False)
settings.load_profile("default")  # --hypothesis-profile overrides it


def pytest_configure(config: pytest.Config) -> None:
    """Gives Hugging Face's libraries a cache of their own, so that a test neither sees nor leaves a user's files."""
    cache = Path(tempfile.mkdtemp(prefix="lords-bench-tests-"))
    os.environ["HF_HOME"] = str(cache)
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what lies in tests/gpu, and skips what is marked where there is no CUDA device."""
    for item in items:
        if config.rootpath / "tests" / "gpu" in item.path.parents:
            item.add_marker(pytest.mark.gpu)
    needing_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needing_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
