"""`WAYS`: every method of the latency suite by name, and how it is built for a problem. To add one: a line here.

Import `WAYS` from `registry`: this module stays empty, because the ways need torch.
"""
