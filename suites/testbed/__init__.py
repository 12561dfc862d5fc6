"""The testbed: a small real language model, the text it was trained on, and the text that judges it.

Everything is built from the Python standard library of the running interpreter, so it works on any machine without a
download. Read `corpus.py` (what is trained on, what is held out), then `choices.py`, and `train.py`.
"""

from pathlib import Path

TESTBED_MODEL = Path(__file__).resolve().parent / "model"
