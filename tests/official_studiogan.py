"""Networks with the names and the numbers of PyTorch-StudioGAN (backbones big_resnet and resnet), and its files.

They are written after the description of the format, for tests: nothing here is the program's own code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-4


def spectral(layer: nn.Module) -> nn.Module:
    """With the hooks of torch.nn.utils, whose names a state dict has: weight_orig, weight_u, weight_v."""
    return nn.utils.spectral_norm(layer, eps=1e-6)


class OfClass(nn.Module):
    """Batch norm, times 1 + gain, plus bias: linear maps of a vector, or with `tables` rows of the class."""

    def __init__(self, inputs: int, channels: int, tables: bool) -> None:
        super().__init__()
        self.tables = tables
        self.bn = nn.BatchNorm2d(channels, eps=EPS, affine=False)
        if tables:
            self.embed0, self.embed1 = nn.Embedding(inputs, channels), nn.Embedding(inputs, channels)
        else:
            self.gain, self.bias = (spectral(nn.Linear(inputs, channels, bias=False)) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = (self.embed0(y), self.embed1(y)) if self.tables else (self.gain(y), self.bias(y))
        return self.bn(x) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, sides in {
            "theta": (channels, channels // 8),
            "phi": (channels, channels // 8),
            "g": (channels, channels // 2),
            "attn": (channels // 2, channels),
        }.items():
            setattr(self, f"conv1x1_{name}", spectral(nn.Conv2d(*sides, 1, bias=False)))
        self.sigma = nn.Parameter(torch.full((1,), 0.7))

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        n, c, h, w = x.shape
        theta = self.conv1x1_theta(x).reshape(n, -1, h * w)
        phi = F.max_pool2d(self.conv1x1_phi(x), 2).reshape(n, -1, h * w // 4)
        g = F.max_pool2d(self.conv1x1_g(x), 2).reshape(n, -1, h * w // 4)
        share = torch.einsum("nki,nkj->nij", theta, phi).softmax(2)
        mixed = torch.einsum("nkj,nij->nki", g, share).reshape(n, c // 2, h, w)
        return x + self.sigma * self.conv1x1_attn(mixed)  # type: ignore[no-any-return]


class Up(nn.Module):
    def __init__(self, before: int, after: int, inputs: int, kind: str) -> None:
        super().__init__()
        of_convolution = spectral if kind == "big" else lambda layer: layer
        plain = kind == "plain"
        self.plain = plain
        self.bn1, self.bn2 = (
            nn.BatchNorm2d(c, eps=EPS) if plain else OfClass(inputs, c, kind == "tables") for c in (before, after)
        )
        self.conv2d0 = of_convolution(nn.Conv2d(before, after, 1))
        self.conv2d1 = of_convolution(nn.Conv2d(before, after, 3, padding=1))
        self.conv2d2 = of_convolution(nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        more = () if self.plain else (y,)
        inner = self.conv2d1(F.interpolate(F.relu(self.bn1(x, *more)), scale_factor=2))
        inner = self.conv2d2(F.relu(self.bn2(inner, *more)))
        return inner + self.conv2d0(F.interpolate(x, scale_factor=2))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """`kind`: "big" (big_resnet), "tables" (resnet with classes) or "plain" (resnet without)."""

    def __init__(
        self,
        kind: str,
        widths: list[tuple[int, int]],
        latent: int,
        classes: int = 3,
        shared: int = 6,
        attention: int = -1,
        beside: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.chunk = kind, latent // (len(widths) + 1) if kind == "big" else latent
        first = nn.Linear(self.chunk, widths[0][0] * 16)
        self.linear0 = spectral(first) if kind == "big" else first
        if kind == "big":
            self.shared = nn.Embedding(classes, shared)
        inputs = shared + self.chunk if kind == "big" else classes
        found: list[list[nn.Module]] = []
        for number, (before, after) in enumerate(widths):
            found.append([Up(before, after, inputs, kind)])
            if number == attention:
                # an entry of its own in one version of the program, beside the block in another
                found[-1].append(Attention(after)) if beside else found.append([Attention(after)])
        self.blocks = nn.ModuleList([nn.ModuleList(entry) for entry in found])
        self.bn4 = nn.BatchNorm2d(widths[-1][1], eps=EPS)
        last = nn.Conv2d(widths[-1][1], 3, 3, padding=1)
        self.conv2d5 = spectral(last) if kind == "big" else last

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        chunks = list(z.split(self.chunk, 1))
        x = self.linear0(chunks.pop(0))
        x = x.view(len(z), -1, 4, 4)
        for entry in self.blocks:
            for block in entry:  # type: ignore[attr-defined]
                if isinstance(block, Attention):
                    x = block(x)
                else:
                    x = block(x, torch.cat([self.shared(labels), chunks.pop(0)], 1) if self.kind == "big" else labels)
        return torch.tanh(self.conv2d5(F.relu(self.bn4(x))))


class Down(nn.Module):
    def __init__(self, before: int, after: int, halve: bool, first: bool) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        if first or halve or before != after:
            self.conv2d0 = spectral(nn.Conv2d(before, after, 1))
        self.conv2d1 = spectral(nn.Conv2d(before, after, 3, padding=1))
        self.conv2d2 = spectral(nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else F.relu(x)  # in place in the program, so the shortcut sees it too
        inner = self.conv2d2(F.relu(self.conv2d1(x)))
        straight = self.conv2d0(x) if hasattr(self, "conv2d0") else x
        return F.avg_pool2d(inner + straight, 2) if self.halve else inner + straight


class Discriminator(nn.Module):
    def __init__(
        self, outputs: list[int], halvings: int, classes: int = 3, attention: int = -1, beside: bool = False
    ) -> None:
        super().__init__()
        found: list[list[nn.Module]] = []
        for number, (before, after) in enumerate(zip([3, *outputs], outputs, strict=False)):
            found.append([Down(before, after, number < halvings, not number)])
            if number == attention:
                found[-1].append(Attention(after)) if beside else found.append([Attention(after)])
        self.blocks = nn.ModuleList([nn.ModuleList(entry) for entry in found])
        self.linear1 = spectral(nn.Linear(outputs[-1], 1))
        if classes:
            self.embedding = spectral(nn.Embedding(classes, outputs[-1]))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        for entry in self.blocks:
            for block in entry:  # type: ignore[attr-defined]
                x = block(x)
        features = F.relu(x).sum((2, 3))
        logits = self.linear1(features).squeeze(1)
        return logits + (self.embedding(labels) * features).sum(1) if hasattr(self, "embedding") else logits


def used(network: nn.Module, *inputs: Tensor) -> nn.Module:
    """The network with random biases and scales, after three forwards in training mode."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 and not name.endswith("sigma"):
                parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(3):
            network.train()(*inputs)
    return network.eval()


def write(folder: Path, generator: nn.Module, discriminator: nn.Module, average: nn.Module | None = None) -> list[Path]:
    """The files of a training: G, D, and G_ema, with what the program keeps beside the weights."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict()
    facts: dict[str, Any] = {
        "seed": 0,
        "run_name": "CIFAR10-BigGAN-train-2021_06_22",
        "step": 100,
        "epoch": 2,
        "topk": 64,
        "aa_p": None,
        "best_step": 100,
        "best_fid": np.float64(4.2),
        "best_fid_ckpt": "checkpoints/x",
        "lecam_emas": {"D_real": 0.1, "D_fake": -0.1},
    }
    saved = {"G": (generator, {}), "D": (discriminator, facts), **({"G_ema": (average, {})} if average else {})}
    files = []
    for name, (network, more) in saved.items():
        files.append(folder / f"model={name}-best-weights-step=100.pth")
        state = network.state_dict()  # type: ignore[union-attr]
        torch.save({"state_dict": state, "optimizer": None if name == "G_ema" else optimizer, **more}, files[-1])
    return files
