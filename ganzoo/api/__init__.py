"""The Python API: what `import ganzoo` offers beside the contract for plugins. The command line calls the same code."""
