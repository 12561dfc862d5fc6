"""Suites: what is run, as data; importing one does nothing."""
