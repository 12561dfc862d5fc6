"""Records → pages: pure functions, so that any machine can rebuild a page from its records, byte for byte.

Reading order: `select.py` (which records stand together), `accuracy/judge.py` and `accuracy/page.py` (a suite's records
→ its document; every suite has the two), `document.py` (what any page holds), `render.py` (a document as Markdown and
HTML). Import from those modules: this one stays empty, because `render` loads jinja2 and matplotlib.
"""
