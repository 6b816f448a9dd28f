"""The kit's own parts, small and well-behaved: what one part is examined with must not depend on other plugins."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganzoo.contract.components import Architecture, Dataset, Optimizer, SeparableLoss
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.round import Round

SPEC = ImageSpec(1, 8, 8, 3)


class Pictures(Dataset):
    """64 images of any shape: a bright bar whose place is the class, on noise."""

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
        """Copies."""
        return self.images[indices], self.labels[indices]


class Linear(Architecture):
    """One linear map a side, and the class."""

    conditional = True

    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for any images."""
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
        return torch.tanh(self.linear(latents + self.classes(labels))).view(-1, *self.shape)


class _Discriminator(nn.Module):
    def __init__(self, images: ImageSpec) -> None:
        super().__init__()
        self.linear, self.classes = nn.Linear(images.pixels, 8), nn.Embedding(images.classes, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        # smooth: penalties differentiate it twice
        logits: Tensor = self.last(torch.tanh(self.linear(images.flatten(1)) + self.classes(labels)))
        return logits


class Plain(SeparableLoss):
    """The nonsaturating loss."""

    def on_reals(self, logits: Tensor) -> Tensor:
        """Cross-entropy of reals called real."""
        return softplus(-logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        """Cross-entropy of fakes called fake."""
        return softplus(logits).mean()

    def generator(self, round: Round) -> Tensor:
        """Cross-entropy of fakes called real."""
        return softplus(-round.fake_logits).mean()


class Descent(Optimizer):
    """Plain gradient descent: rounding stays rounding, where others divide by small numbers."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """SGD without momentum."""
        parameters = list(parameters)
        return torch.optim.SGD(parameters, lr=torch.tensor(0.01, device=parameters[0].device), foreach=False)  # type: ignore[arg-type]

    def learning_rate(self, images_seen: int) -> float:
        """Constant."""
        return 0.01
