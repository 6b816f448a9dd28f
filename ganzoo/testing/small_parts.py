"""Small parts of the kit. A part is checked together with these, so that no check depends on other plugins."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganzoo.contract.components import Architecture, Dataset, Optimizer, SeparableLoss
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.round import Round

SPEC = ImageSpec(1, 8, 8, 3)


class SyntheticImages(Dataset):
    """64 images of the shape `spec`: noise, and bright bars whose position depends on the class."""

    def __init__(self, spec: ImageSpec, *, split: str = "train") -> None:
        self.spec = spec
        generator = torch.Generator().manual_seed(int(split == "test"))
        shape = (64, spec.channels, spec.height, spec.width)
        self.images = torch.randint(0, 100, shape, generator=generator).to(torch.uint8)
        self.labels = torch.arange(64) % spec.classes
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            image[:, :, label :: spec.classes + 1] = 230

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the images (n, C, H, W) and labels (n,) at these indices."""
        return self.images[indices], self.labels[indices]


class LinearGAN(Architecture):
    """Conditional networks of one or two linear layers, smooth and quick."""

    conditional = True

    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for images of any size."""
        return _Generator(images), _Discriminator(images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 4), standard normal."""
        return torch.randn(count, 4, generator=generator, device=generator.device)


class _Generator(nn.Module):
    def __init__(self, images: ImageSpec) -> None:
        super().__init__()
        self.shape = (images.channels, images.height, images.width)
        self.linear, self.classes = nn.Linear(4, images.pixels), nn.Embedding(images.classes, 4)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.images(self.styles(latents, labels))

    def styles(self, latents: Tensor, labels: Tensor) -> Tensor:
        styles: Tensor = (latents + self.classes(labels))[:, None]  # (N, 1, 4)
        return styles

    def images(self, styles: Tensor) -> Tensor:
        return torch.tanh(self.linear(styles[:, 0])).view(-1, *self.shape)


class _Discriminator(nn.Module):
    def __init__(self, images: ImageSpec) -> None:
        super().__init__()
        self.linear, self.classes = nn.Linear(images.pixels, 8), nn.Embedding(images.classes, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        # tanh is smooth: gradient penalties differentiate the discriminator twice
        logits: Tensor = self.last(torch.tanh(self.linear(images.flatten(1)) + self.classes(labels)))
        return logits


class NonSaturating(SeparableLoss):
    """The nonsaturating loss."""

    def on_reals(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy of the reals with the label real."""
        return softplus(-logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy of the fakes with the label fake."""
        return softplus(logits).mean()

    def generator(self, round: Round) -> Tensor:
        """Mean cross-entropy of the fakes with the label real."""
        return softplus(-round.fake_logits).mean()


class GradientDescent(Optimizer):
    """Gradient descent at a rate of 0.01. Unlike Adam, it does not amplify rounding errors by a division."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """SGD without momentum."""
        parameters = list(parameters)
        return torch.optim.SGD(parameters, lr=torch.tensor(0.01, device=parameters[0].device), foreach=False)  # type: ignore[arg-type]

    def learning_rate(self, images_seen: int) -> float:
        """0.01, constant."""
        return 0.01
