"""The training step and what it needs: networks, optimisers, data, devices, processes. No files, no names of parts."""
