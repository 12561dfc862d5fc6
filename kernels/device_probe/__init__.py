"""Kernels that ask the device about itself: the multiprocessors' clocks, and how fast memory can be read."""
