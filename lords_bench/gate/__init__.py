"""Baseline against head: what a change does to machine code, accuracy and latency. Pure functions of records.

Read `finding.py` first (what a gate says), then one layer: `static.py`, `accuracy.py`, `latency.py`. `markdown.py` and
`junit.py` write it down. Collecting the records is the command line's part, not this one's.
"""
