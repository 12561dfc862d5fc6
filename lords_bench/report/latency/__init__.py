"""Latency records → the device report: `judge.py` compares, `page.py` says what the page holds, `figures.py` draws."""
