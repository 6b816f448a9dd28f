"""A textbook DCGAN training loop in PyTorch, which the engine is compared with.

It has a DataLoader over single images, `nn.Dropout`, Adam with its default settings, `fake.detach()`, and updates the
discriminator before the generator. The networks are those of the TensorFlow tutorial, built from PyTorch's own layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SLOPE, DROPOUT, LATENTS, WIDTH = 0.3, 0.3, 100, 64


class Unflatten(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.view(len(values), 4 * WIDTH, 7, 7)


def build_generator() -> nn.Module:
    """(N, 100) -> (N, 1, 28, 28)."""
    return nn.Sequential(
        nn.Linear(LATENTS, 4 * WIDTH * 7 * 7, bias=False),
        nn.BatchNorm1d(4 * WIDTH * 7 * 7),
        nn.LeakyReLU(SLOPE),
        Unflatten(),
        nn.ConvTranspose2d(4 * WIDTH, 2 * WIDTH, 5, 1, 2, bias=False),
        nn.BatchNorm2d(2 * WIDTH),
        nn.LeakyReLU(SLOPE),
        nn.ConvTranspose2d(2 * WIDTH, WIDTH, 5, 2, 2, output_padding=1, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.LeakyReLU(SLOPE),
        nn.ConvTranspose2d(WIDTH, 1, 5, 2, 2, output_padding=1, bias=False),
        nn.Tanh(),
    )


def build_discriminator() -> nn.Module:
    """(N, 1, 28, 28) -> (N, 1)."""
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 5, 2, 2),
        nn.LeakyReLU(SLOPE),
        nn.Dropout(DROPOUT),
        nn.Conv2d(WIDTH, 2 * WIDTH, 5, 2, 2),
        nn.LeakyReLU(SLOPE),
        nn.Dropout(DROPOUT),
        nn.Flatten(),
        nn.Linear(2 * WIDTH * 7 * 7, 1),
    )


class SingleImages(Dataset):
    """One image at a time, like torchvision's MNIST: from an array through PIL to a float tensor in [-1, 1]."""

    def __init__(self, images: Tensor) -> None:
        self.images = images[:, 0].numpy()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.fromarray(self.images[index]))
        return image


class Textbook:
    """Steps of the textbook loop on uint8 images (N, 1, 28, 28); `workers` is the number of DataLoader processes."""

    def __init__(self, images: Tensor, batch_size: int, device: torch.device, workers: int = 0) -> None:
        self.device = device
        self.generator, self.discriminator = build_generator().to(device), build_discriminator().to(device)
        self.criterion = nn.BCEWithLogitsLoss()
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=1e-4, foreach=False)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, foreach=False)
        self.loader = DataLoader(
            SingleImages(images),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self._batches = self._forever()

    def _forever(self) -> Iterator[Tensor]:
        while True:
            yield from self.loader

    def step(self) -> tuple[float, float]:
        """Update the discriminator, then the generator; returns their losses as floats, as textbooks print them."""
        reals = next(self._batches).to(self.device)
        ones, zeros = torch.ones(len(reals), 1, device=self.device), torch.zeros(len(reals), 1, device=self.device)
        fakes = self.generator(torch.randn(len(reals), LATENTS, device=self.device))

        self.discriminator_optimizer.zero_grad()
        real_loss = self.criterion(self.discriminator(reals), ones)
        fake_loss = self.criterion(self.discriminator(fakes.detach()), zeros)
        discriminator_loss = real_loss + fake_loss
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.generator_optimizer.zero_grad()
        generator_loss = self.criterion(self.discriminator(fakes), ones)
        generator_loss.backward()
        self.generator_optimizer.step()
        return discriminator_loss.item(), generator_loss.item()
