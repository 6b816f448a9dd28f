"""Files that survive a crash: run directories, checkpoints, caches, downloads."""
