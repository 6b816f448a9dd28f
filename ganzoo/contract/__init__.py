"""The contract: what every part of the zoo is made of. It imports nothing of ganzoo above it."""
