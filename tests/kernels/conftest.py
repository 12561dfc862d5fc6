"""Kernel tests run on the CPU in Triton's interpreter, which must be chosen before Triton is first imported."""

import os
import sys
from pathlib import Path

import pytest

if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
    raise pytest.UsageError(
        "Triton was imported before TRITON_INTERPRET=1, which tests/kernels needs; run `pytest tests/kernels` by itself"
    )
os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import interpreter

interpreter.repair()
