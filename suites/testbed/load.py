"""Where the shipped testbed model lies."""

from pathlib import Path

TESTBED_MODEL = Path(__file__).resolve().parent / "model"
