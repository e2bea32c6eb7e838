"""Benchmarks: each prints a ratio against a peer that took turns with it in the same run."""
