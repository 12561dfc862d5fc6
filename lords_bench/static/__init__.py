"""What a kernel's machine code says about it, on a machine with no GPU.

Read in this order: `target.py` (which GPUs), `pretended.py` (Triton compiles a launch for one that is not there),
`request.py` and `launches.py` (a call that launches, as plain data), `compile.py` (requests to assembly text, in worker
processes, cached), `sass.py` and `amdgcn.py` (text to counts), `bounds.py`
(counts to predicted cycles: predictions, never measurements) and `budget.py` (what the counts must not exceed).
Standard library only, apart from the worker process, which imports Triton and the kernel.
"""
