"""LoRDS matmul for many tokens, in one kernel: decode, scale and multiply."""
