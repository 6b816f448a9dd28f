"""Scores of generated images: features, evaluators, cards, calibration."""
