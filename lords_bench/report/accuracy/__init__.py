"""Accuracy records → the page: `judge.py` compares, `page.py` says what the page holds, `figures.py` draws."""
