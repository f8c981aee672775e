"""The figures of tools/benchmark.py: each module but framework and machine has a list FIGURES."""
