"""The gradient penalties that come with ganzoo. A penalty is a loss, and is listed with the losses."""
