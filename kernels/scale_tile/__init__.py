"""LoRDS matmul for few tokens: the scale tile comes out of the tensor core in the operand's own layout."""
