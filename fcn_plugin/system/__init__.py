"""Helpers for files, downloads, locks, workers, memory and configs."""
