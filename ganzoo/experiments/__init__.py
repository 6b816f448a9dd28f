"""Benchmark: a grid of architectures, datasets and seeds, each cell a run in a process of its own, and their table."""
