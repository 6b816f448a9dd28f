"""Faulty extractors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

import ganzoo


class Good(ganzoo.Extractor):
    """Five features of an image, by a random matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.digest = {"five": 5}, ""
        self.eval()

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("matrix", torch.randn(train.spec.pixels, 5, generator=generator))
        self.digest = f"five-{train.spec.pixels}"

    def train(self, mode: bool = True) -> Good:
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if images.dtype != torch.uint8:
            raise ganzoo.GanzooError(f"It takes uint8 images, not {images.dtype}.")
        return {"five": self.features(images)}

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return images.flatten(1).float() / 255 @ self.matrix


class Miscounting(Good):
    """Declares six numbers and returns five."""

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        super().bind(name, train)
        self.layers = {"five": 6}


class Guessing(Good):
    """Five features for the ten classes."""

    predicts = "five"


class Unlike(Good):
    """A digest that differs between objects."""

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        super().bind(name, train)
        self.digest += f"-{id(self)}"


class Centred(Good):
    """Features minus their mean over the batch."""

    def features(self, images: Tensor) -> Tensor:
        features = super().features(images)
        return features - features.mean(0)


class Training(Good):
    """Dropout after `train()`."""

    def train(self, mode: bool = True) -> Good:
        return nn.Module.train(self, mode)

    def features(self, images: Tensor) -> Tensor:
        return dropout(super().features(images), 0.5, self.training)


class Indifferent(Good):
    """Accepts images of any dtype."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"five": self.features(images)}


class InPlace(Good):
    """Changes black pixels of its input in place."""

    def features(self, images: Tensor) -> Tensor:
        return super().features(images.clamp_(min=1) if images.dtype == torch.uint8 else images)


class Drawing(Good):
    """Draws from the global random generator."""

    def features(self, images: Tensor) -> Tensor:
        torch.rand(1)
        return super().features(images)


class AsTheCaller(Good):
    """Computes in the precision of the caller's autocast."""

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        return (images.flatten(1).float() / 255 @ self.matrix).float()


MUTANTS = {
    "features_are_of_their_layers": Miscounting,
    "predictions_have_a_layer": Guessing,
    "digest_identifies_the_features": Unlike,
    "features_do_not_depend_on_the_batch": Centred,
    "stays_in_evaluation_mode": Training,
    "images_must_be_uint8": Indifferent,
    "images_are_left_alone": InPlace,
    "random_state_is_left_alone": Drawing,
    "features_do_not_depend_on_autocast": AsTheCaller,
}
