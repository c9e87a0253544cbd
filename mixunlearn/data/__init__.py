"""Data sources, the memory-mapped cache, splits and batches."""
