"""The launchers that come with ganzoo, written as those of any plugin."""
