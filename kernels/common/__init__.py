"""What every kernel shares: the packed format, decoders, split-K reduction, prepared operands."""
