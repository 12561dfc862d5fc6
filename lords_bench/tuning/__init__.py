"""Tuning: which configuration, and which kernel, serves a problem on a GPU, and where that is written down."""
