"""Export a generator as a folder with a card, and open such a folder again where a run is expected."""
