"""Small architectures and other parts for tests. The networks have two layers, and optionally dropout and batch norm.

Tests also use them by location: `tests/tiny.py:Tiny`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import click
import torch
from torch import Tensor, nn

import ganzoo

LATENTS = 4
RECIPE = ganzoo.Recipe(
    batch_size=16,
    length="8 steps",
    tick_every="2 steps",
    samples_every="4 steps",
    checkpoint_every="4 steps",
    grid="2x3",
)


class Generator(nn.Module):
    """Latents (N, 4) -> images (N, C, H, W) in [-1, 1]. Unless `classes` is 0, a class embedding is added."""

    def __init__(self, images: ganzoo.ImageSpec, width: int, norm: bool, classes: int) -> None:
        super().__init__()
        self.shape = (images.channels, images.height, images.width)
        self.shift = nn.Embedding(classes, LATENTS) if classes else None
        self.first = nn.Linear(LATENTS, width)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.last = nn.Linear(width, images.pixels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        if self.shift is not None:
            latents = latents + self.shift(labels)
        return torch.tanh(self.last(torch.relu(self.norm(self.first(latents))))).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N,). If `classes` is not 0, a class embedding is added to the logits."""

    def __init__(self, images: ganzoo.ImageSpec, width: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(images.pixels, width)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(width, 1)
        self.shift = nn.Embedding(classes, 1) if classes else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        features = self.dropout(nn.functional.leaky_relu(self.first(images.flatten(1)), 0.2))
        logits = self.last(features) + (0 if self.shift is None else self.shift(labels))
        return logits.squeeze(1)


class Tiny(ganzoo.Architecture):
    """Two layers in each network."""

    recipe = RECIPE

    def __init__(
        self,
        *,
        width: Annotated[int, click.IntRange(min=1), "units of both hidden layers"] = 6,
        norm: Annotated[bool, "batch norm in the generator"] = True,
        dropout: Annotated[float, click.FloatRange(0, 1), "in the discriminator"] = 0.3,
    ) -> None:
        self.width, self.norm, self.dropout = width, norm, dropout
        #: all latents drawn so far, for tests that compute the same step themselves
        self.drawn: list[Tensor] = []

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        classes = images.classes if self.conditional else 0
        generator = Generator(images, self.width, self.norm, classes)
        return generator, Discriminator(images, self.width, self.dropout, classes)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        self.drawn.append(torch.randn(count, LATENTS, generator=generator, device=generator.device))
        return self.drawn[-1]


class Constant(Tiny):
    """All latents are zero: all fakes are the same."""

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(count, LATENTS, device=generator.device)


class TinyConditional(Tiny):
    """Two layers in each network, and an embedding of the class."""

    conditional = True


class Souring(ganzoo.Loss):
    """A loss that is 0 until `after` images were seen, and NaN from then on."""

    factor: Tensor

    def __init__(self, *, after: int = 64) -> None:
        super().__init__()
        self.after = after
        self.register_buffer("factor", torch.zeros(()))

    def advance(self, images_seen: int) -> None:
        """Set the factor for the next step."""
        self.factor.fill_(0.0 if images_seen < self.after else torch.nan)

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        return self.factor * round.real_logits.mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return self.factor * round.fake_logits.mean()


class Remembering(ganzoo.Loss):
    """Pulls logits towards their moving mean, a buffer that changes inside the step."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def discriminator(self, round: ganzoo.Round) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(round.real_logits.mean(), 0.1)
        return (round.real_logits - self.mean).square().mean()

    def generator(self, round: ganzoo.Round) -> Tensor:
        return (round.fake_logits - self.mean).square().mean()


class Listener(ganzoo.Observer):
    """Writes the scores and the progress of each `on_score` to a file."""

    @ganzoo.hookimpl
    def on_score(self, run: Any, progress: ganzoo.TrainingProgress, scores: list[dict[str, Any]]) -> None:
        names = " ".join(score["score"] for score in scores)
        with open(run.path / "told.txt", "a") as file:
            file.write(f"{progress.step} {progress.images} {names}\n")


class Pixels(ganzoo.Extractor):
    """The 64 pixels of an 8x8 image, in [0, 1]."""

    layers = {"pixels": 64, "broken": 64}
    digest = "pixels-1"
    passes = 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        type(self).passes += 1
        pixels = images.flatten(1).float() / 255
        return {"pixels": pixels, "broken": pixels / 0}


class Brightness(ganzoo.Evaluator):
    """The difference in mean brightness of reals and fakes, and the number of each."""

    extractor = f"{__file__}:Pixels"
    scores = {
        "brightness": ganzoo.Score("lower", 0, 1),
        "reals": ganzoo.Score("higher"),
        "fakes": ganzoo.Score("higher"),
    }

    def __init__(self, *, layer: str = "pixels", fails: str = "", held_out: bool = False) -> None:
        self.layer, self.fails, self.held_out = layer, fails, held_out

    def reset(self, dimensions: int, device: torch.device) -> None:
        """Clear all state."""
        assert dimensions == 64
        self.sums: dict[str, Tensor] = {}

    def update(self, features: Tensor, labels: Tensor, origin: ganzoo.Origin) -> None:
        """Add features (N, 64)."""
        assert len(labels) == len(features)
        counted = torch.stack(
            [features.double().mean(1).sum(), torch.tensor(float(len(features)), dtype=torch.float64)]
        )
        self.sums[origin] = self.sums.get(origin, 0) + counted

    def compute(self) -> dict[str, float]:
        """The difference of the means, and the counts."""
        if self.fails == "error":
            raise ganzoo.GanzooError("There is no telling.")
        (real, reals), (fake, fakes) = self.sums["reals"].tolist(), self.sums["fakes"].tolist()
        if self.held_out:
            reals += self.sums["held-out"][1].item()
        torch.rand(3)  # an evaluator may draw random numbers
        value = float("nan") if self.fails == "nan" else abs(real / self.sums["reals"][1].item() - fake / fakes)
        return {"brightness": value, "reals": reals, "fakes": fakes}

    def statistics(self) -> dict[str, Tensor]:
        """The sums of the reals."""
        return {origin: value for origin, value in self.sums.items() if origin != "fakes"}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Use these sums of the reals."""
        self.sums.update(statistics)


class Darkness(Brightness):
    """The scores of Brightness under other names."""

    scores = {f"{name}-again": score for name, score in Brightness.scores.items()}

    def compute(self) -> dict[str, float]:
        """The same numbers."""
        return {f"{name}-again": value for name, value in super().compute().items()}
