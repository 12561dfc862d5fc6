"""Bridges to other libraries: transformers models and lm-eval. Each module imports its library; this one does not."""
