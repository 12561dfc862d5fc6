"""The latency suite: products of models' layers, LoRDS beside its baselines, timed together.

Read `cases.py` first (what is timed, as data), then `run.py` (all of them) and what it times with: `measure.py`, or
`fake.py`. Of its records `judge.py` compares, `page.py` says what the page holds, `figures.py` draws. `collector.py`
shows the suite to pytest-benchmark.
"""
