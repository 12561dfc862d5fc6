"""The accuracy suite: one model quantized by every method, judged by what it predicts.

Read `cases.py` first (what is measured, as data), then `text.py` (on what), `measure.py` (one case), `run.py` (all of
them). Of its records `judge.py` compares by `metrics.py`, `page.py` says what the page holds, `figures.py` draws.
"""
