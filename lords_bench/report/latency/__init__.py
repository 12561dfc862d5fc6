"""Latency records → the device report: pure functions, as the rest of `report`.

Reading order: `comparisons.py` (which records stand together, what is judged), `summary.py` (the answer in numbers),
`words.py` (the answer in words), `page.py` (everything a page says), `render.py` (Markdown, HTML, files).
"""
