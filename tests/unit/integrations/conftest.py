from pathlib import Path

import pytest

from lords_bench.integrations.hf_model import CausalModel, load_causal_model
from tiny_models import save_tiny_llama


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> CausalModel:
    """Shared by the session: a test that changes weights must change them back."""
    return load_causal_model(str(llama_folder))
