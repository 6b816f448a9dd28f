"""The example plugin of ganzoo."""
