"""The contract: what every part and every plugin builds on. It imports no other package of ganzoo."""
