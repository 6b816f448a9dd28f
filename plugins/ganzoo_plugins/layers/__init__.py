"""Layers and sizes of networks that several architectures share."""
