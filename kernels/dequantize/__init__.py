"""LoRDS codes and factors to a dense matrix."""
