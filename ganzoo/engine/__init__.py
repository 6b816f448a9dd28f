"""The training step and all it needs: networks, optimisers, data, devices, processes. No files, no names of parts."""
