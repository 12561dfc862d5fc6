"""Which kernel serves a product, and the operators: registry, routes, tuned tables, look-up.

Read `registry.py` (what there is), `routes.py` (who is preferred), `route.py` (who serves a weight), then `ops.py`.
"""
