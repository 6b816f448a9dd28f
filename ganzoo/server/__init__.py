"""Pages that a browser reads while this process runs: the live report, and the images of one generator."""
