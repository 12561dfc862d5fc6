"""`lords-bench gpu`: spend a short visit to a GPU well, one step after another, and lose nothing when it is cut off.

plan.py     what a visit runs, in which order, and how long each step may take
steps.py    runs the steps, each in a process and a time limit of its own
pack.py     one archive of everything that a visit found, written anew after every step
take.py     the archive on another machine: checked, then put where records and tables belong
"""
