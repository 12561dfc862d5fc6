"""How every command gets its model, its device and its text."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lords_bench.errors import UsageError, reason_of
from lords_bench.options import argument, option
from lords_bench.records.environment import Device
from lords_bench.suites.testbed import TESTBED_MODEL
from lords_bench.terminal import Console

if TYPE_CHECKING:
    from lords_bench.integrations.hf_model import CausalModel
    from lords_bench.suites.testbed.corpus import Document

Dtype = Literal["float32", "bfloat16"]
TESTBED_NAME = "testbed"

# What options of several commands mean.
DEVICE = "where to compute (default: cuda where there is one)"
DTYPE = "dtype to compute in"
CALIBRATION = "text to calibrate on (default: the testbed's)"
TASKS = "lm-eval tasks to run as well"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """A model, and where to compute with it."""

    model: str = argument("a Hugging Face model directory or hub name")
    device: Device | None = option(DEVICE, default=None)
    dtype: Dtype = option(DTYPE, default="float32")


def choose_device(asked: Device | None) -> Device:
    """The device asked for, else a GPU where there is one.

    Raises:
        UsageError: cuda without a GPU.
    """
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise UsageError("--device cuda, but torch sees no GPU; leave it out to use the CPU")
    return asked or ("cuda" if available else "cpu")


def load_model(source: str | None, *, device: Device, dtype: Dtype, console: Console) -> "CausalModel":
    """Loads a model (None is the testbed's), says what of it stays unquantized.

    Raises:
        ModelError: it cannot be used.
    """
    import torch

    from lords_bench.integrations.hf_model import load_causal_model

    model = load_causal_model(source or str(TESTBED_MODEL), dtype=getattr(torch, dtype), device=device)
    if source is None:
        model = replace(model, name=TESTBED_NAME)
    if model.unquantized:
        unquantized = ", ".join(f"{module.name} ({module.kind})" for module in model.unquantized)
        share = f"{100 * model.unquantized_share:.1f} %"
        console.print(f"{share} of the weights stay unquantized: {unquantized}", style="yellow")
    return model


def read_calibration(file: Path | None) -> "Document | None":
    """The text to calibrate on, or None for the testbed's.

    Raises:
        UsageError: the file is missing or not UTF-8 text.
    """
    from lords_bench.suites.testbed.corpus import Document

    if file is None:
        return None
    try:
        return Document(name=file.name, text=file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--calibration {str(file)!r} cannot be read as UTF-8 text: {reason_of(error)}") from error
