"""The meaning of every method in plain PyTorch: readable, differentiable where it matters, right in float64.

Read in this order: `fields` (the scale S_NK), `codebooks` (levels and the nearest code), `packing` (bits),
`blocks` and `lords_refined` (how scales are found), `weights` (what is stored), `methods` (how they compose).
"""
