"""The lifecycle page: training runs → what was asked, answered in words, then tables and curves.

`select.py` says which records stand together, `judge.py` compares them, `page.py` says what the page holds, `render.py`
makes files of it.
"""
