"""The baseline: block-wise scales, with and without zero points, on the same packed format and decoders."""
