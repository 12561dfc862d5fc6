"""What `import lords_bench` offers and what it does not load."""

import subprocess
import sys

import pytest

import lords_bench


def modules_loaded_by(statement: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after `statement`."""
    report = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    finished = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(finished.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_triton() -> None:
    loaded = modules_loaded_by("import lords_bench; lords_bench.QuantSpec(); lords_bench.__version__")

    assert "lords_bench" in loaded
    assert not loaded & {"torch", "triton", "numpy", "transformers"}


def test_quantize_is_the_function_of_the_reference() -> None:
    from lords_bench.reference import methods

    assert lords_bench.quantize is methods.quantize


def test_the_functions_of_training_are_public() -> None:
    from lords_bench import training

    assert lords_bench.prepare_qat is training.prepare_qat
    assert lords_bench.prepare_peft is training.prepare_peft
    assert lords_bench.export is training.export


def test_quantize_loads_torch_and_neither_triton_nor_transformers() -> None:
    loaded = modules_loaded_by("import lords_bench; lords_bench.quantize")

    assert "torch" in loaded
    assert not loaded & {"triton", "transformers", "matplotlib"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lords_bench' has no attribute 'quantise'"):
        lords_bench.quantise  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert dir(lords_bench) == sorted(lords_bench.__all__)
