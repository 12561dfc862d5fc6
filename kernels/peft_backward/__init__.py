"""Gradients of a LoRDS layer with frozen codes: dB, dA and dX, no N×K gradient in memory."""
