"""Data sets on disk, made once before training."""
