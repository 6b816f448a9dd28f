"""A file of random weights for the FID Inception-v3: values mean nothing, and programs must agree all the same."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


class _RandomInception(FeatureExtractorInceptionV3):
    """torch-fidelity's network with random weights instead of any file's."""

    def load_state_dict(self, *given: object) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)


def write(path: Path) -> Path:
    """The same weights every time; the global random state is left as it was."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(_RandomInception("random", ["2048"], empty).state_dict(), path)
    return path
