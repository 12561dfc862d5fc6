"""The suite of costs: seconds and memory of quantizing a model's layers (`ptq.py`), and of training steps (`step.py`).

Read `cases.py` first (the models' shapes); `page.py` judges the records and says what the page holds.
"""
