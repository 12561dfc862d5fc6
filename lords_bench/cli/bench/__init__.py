"""`lords-bench bench`: one module per suite."""
