"""The training step: networks, optimisers, data feed, devices, processes. No files, no look-up of names."""
