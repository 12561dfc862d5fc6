"""The block-wise baseline above 64 tokens, in the tile forms of the LoRDS GEMM."""
