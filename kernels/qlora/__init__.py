"""The baseline of fine-tuning: a block-wise weight with a LoRA adapter beside it."""
