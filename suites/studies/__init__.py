"""Studies: what was looked into once and may be again, each run by hand: `python -m lords_bench.suites.studies.<name>`.

Nothing but its tests and other studies imports one. They need a checkout: `docs/` and `reports/` hold what they write.
"""
