"""The lifecycle suite: post-training quantization, then training of one model, LoRDS beside its baselines.

Read `cases.py` first (what is run, as data), then `text.py` (on what), `measure.py` (one run), `run.py` (all of them).
Of its records `judge.py` compares, `page.py` says what the page holds, `figures.py` draws.
"""
