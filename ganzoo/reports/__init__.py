"""What many runs and benchmarks have to show, as pages, tables and plots: read from files, draw, write."""
