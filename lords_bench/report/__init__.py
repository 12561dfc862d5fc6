"""Records → report: pure functions, so that any machine can rebuild a page from its records, byte for byte.

Reading order: `select.py` (which records stand together), `tables.py` (rows, equal bits, comparisons), `verdict.py`
(the answer in words), `page.py` (everything a page says), `render.py` (Markdown, HTML, files). Import from those
modules: this one stays empty, because `render` loads jinja2 and matplotlib.
"""
