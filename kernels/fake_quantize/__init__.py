"""Quantization-aware training, forward: nearest code, its value and the straight-through mask in one pass over W."""
