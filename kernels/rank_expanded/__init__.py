"""LoRDS matrix times vector with no scale per weight: integer tensor cores on codes, the factors applied outside."""
