"""A file of random weights for the FID Inception-v3: scores have no meaning, but all programs must agree on them."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


class _RandomInception(FeatureExtractorInceptionV3):
    """torch-fidelity's network with random weights; it loads none from a file."""

    def load_state_dict(self, *given: object) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)


def write(path: Path) -> Path:
    """Write the weights, always the same, and return `path`. The global random state does not change."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(_RandomInception("random", ["2048"], empty).state_dict(), path)
    return path
