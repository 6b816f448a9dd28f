"""The FID Inception-v3, a few images at a time: as torchmetrics computes it, or faster with other rounding.

The layers are torch-fidelity's (toshas/torch-fidelity, feature_extractor_inceptionv3.py, Apache-2.0) and stay as they
are; what is done between them is torchmetrics'.
"""

from __future__ import annotations

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchmetrics.image.fid import NoTrainInceptionV3

LAYERS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "logits_unbiased": 1008}
#: images at a time: of more, the maps of the first layers leave the caches, and 500 of them would take gigabytes
BATCH = 32
_SIDE = 299
#: what leads to each layer from the one before
_STAGES = {
    "64": ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    "192": ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    "768": tuple(f"Mixed_{block}" for block in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")),
    "2048": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}


class InceptionNetwork(nn.Module):
    """uint8 images to float32 features of every layer; the convolutions compute in `dtype`.

    `fast` folds the batch norms into the convolutions and has the channels last. In float32 that is the same network,
    1.8 times as fast on a CPU, but float32 rounds it otherwise: Fréchet distances move by some 1e-6 of their value.
    """

    def __init__(self, published: NoTrainInceptionV3, antialias: bool, dtype: torch.dtype, fast: bool) -> None:
        """The layers of `published` are moved into this module."""
        super().__init__()
        self.antialias, self.dtype = antialias, dtype
        self.layout = torch.channels_last if fast else torch.contiguous_format
        published.requires_grad_(False).eval()
        for block in [module for module in published.modules() if fast and isinstance(module, BasicConv2d)]:
            block.double()  # folded in float32, the weights would be rounded twice
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
        self.classes = published.fc.float()
        self.stages = nn.ModuleList(
            nn.Sequential(*(getattr(published, name) for name in names)) for names in _STAGES.values()
        )
        self.stages.to(dtype, memory_format=self.layout)  # type: ignore[call-overload]
        self._tower, self.compiled = self.tower, False

    def compile_tower(self) -> bool:
        """Compile the tower. If that fails, print the reason, keep the uncompiled one and return False."""
        compiled = torch.compile(self.tower, dynamic=False, options={"freezing": True})
        try:
            compiled(self._prepared(torch.zeros(BATCH, 1, 28, 28, dtype=torch.uint8, device=self.classes.bias.device)))
        except Exception as error:  # compilers, or their absence, may raise anything
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            click.echo(f"The Inception network is not compiled, and so slower by a third ({reason.strip()}).", err=True)
            return False
        self._tower, self.compiled = compiled, True
        return True

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (N, 1 or 3, H, W) of any size -> float32 (N, D) by layer; grey is repeated to 3 channels."""
        batches = [self._features(batch) for batch in torch.split(images, BATCH)]
        return {layer: torch.cat([batch[layer] for batch in batches]) for layer in LAYERS}

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        count = len(images)
        if self.compiled:  # for this number of images, and no other
            images = torch.cat([images, images[:1].expand(BATCH - count, -1, -1, -1)])
        found = dict(zip(_STAGES, self._tower(self._prepared(images)), strict=True))
        found["logits_unbiased"] = found["2048"] @ self.classes.weight.T
        return {layer: values[:count] for layer, values in found.items()}

    def _prepared(self, images: Tensor) -> Tensor:
        """uint8 (N, 1 or 3, H, W) -> `dtype` (N, 3, 299, 299) in [-1, 1)."""
        if self.antialias:
            resized = F.interpolate(
                images.float(), size=(_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True
            )
        else:
            resized = interpolate_bilinear_2d_like_tensorflow1x(
                images.float(), size=(_SIDE, _SIDE), align_corners=False
            )
        cast = ((resized - 128) / 128).to(self.dtype).expand(-1, 3, -1, -1)
        return cast.contiguous(memory_format=self.layout)

    def tower(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, 299, 299) -> the means of the maps of each stage, float32 (N, D)."""
        means = []
        for stage in self.stages:
            images = stage(images)
            means.append(F.adaptive_avg_pool2d(images.float(), 1).flatten(1))
        return tuple(means)
