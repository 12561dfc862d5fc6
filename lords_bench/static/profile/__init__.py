"""A launch's profile without a GPU: what its emulated run counted, read together with its machine code.

Nothing here measures a time. What is executed is counted; what it would take on a GPU is predicted, and said to be.

Read `measure.py` (a product launched in the emulator and compiled), `flow.py` (how often each block of machine code
runs), `timeline.py` (what a warp waits for), `predict.py` (the parts of a time), and `page.py` (what is printed).
`accesses.py` keeps the memory accesses of one small launch per kernel for the gate.
"""
