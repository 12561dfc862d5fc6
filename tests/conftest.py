"""What holds for every test: no network, few threads, one place that decides on hypothesis profiles and on skipping."""

import os
import shutil
import sys
import tempfile
from collections import Counter
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, register_random, settings

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


class TorchRandom:
    """torch's own generator, for hypothesis to seed before each example and to put back; nothing before an import."""

    def seed(self, value: int) -> None:
        """Seed it."""
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(value)

    def getstate(self) -> Any:
        """Its state."""
        return sys.modules["torch"].get_rng_state() if "torch" in sys.modules else None

    def setstate(self, state: Any) -> None:
        """Put a state back."""
        if state is not None:
            sys.modules["torch"].set_rng_state(state)


# hypothesis holds it weakly. Without it an example's tensors would hang on what ran before, and not come back.
TORCH_RANDOM = TorchRandom()
register_random(TORCH_RANDOM)


@pytest.fixture(autouse=True)
def _same_numbers_in_every_order() -> None:
    TORCH_RANDOM.seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow` runs what is left out otherwise, and whole what is sampled."""
    parser.addoption("--slow", action="store_true", help="run whole what is sampled by default; takes hours")


def pytest_configure(config: pytest.Config) -> None:
    """Gives Hugging Face's libraries a cache of their own, so that a test neither sees nor leaves a user's files."""
    cache = Path(tempfile.mkdtemp(prefix="lords-bench-tests-"))
    os.environ["HF_HOME"] = str(cache)
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists the warnings of each library with its version: what will break, and whose it is."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("warnings", []):
        counts[warned_by(report.fslocation)] += 1
    for library, count in counts.most_common():
        terminalreporter.write_line(f"{count} warnings of {library}")


def warned_by(location: tuple[str, int] | None) -> str:
    """The distribution that a file of a warning belongs to, with its version; `this project` elsewhere."""
    parts = Path(location[0]).parts if location else ()
    if "site-packages" not in parts:
        return "this project"
    package = parts[len(parts) - parts[::-1].index("site-packages")]
    names = packages_distributions().get(package, [package])
    return ", ".join(f"{name} {version(name)}" for name in names)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what lies in tests/gpu, and skips what needs a CUDA device, or a patience, that is not there."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes long; ask for it by --slow"))
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
