"""First-party parts of ganzoo, written as a third party would write them."""
