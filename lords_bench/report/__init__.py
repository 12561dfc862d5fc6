"""Records → pages: pure functions, so that any machine can rebuild a page from its records, byte for byte.

Reading order: `document.py` (what any page holds), `accuracy/judge.py` and `accuracy/page.py` (a suite's records → its
document; the other suites have the same two), `render.py` (a document as Markdown and HTML). Import from those modules:
this one stays empty, because `render` loads jinja2 and matplotlib.
"""
