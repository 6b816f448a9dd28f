"""The contract: the base classes and data types that plugins use. It imports no other package of ganzoo."""
