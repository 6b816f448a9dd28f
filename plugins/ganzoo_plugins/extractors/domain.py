"""Features of a small classifier of the dataset itself.

Fréchet distances on a network trained for the data at hand: Liu et al. 2018, "An improved evaluation framework for
generative adversarial networks" (arXiv:1803.07474), which calls it class-aware; Binkowski et al. 2018
(arXiv:1801.01401) score MNIST with the features of a LeNet. Values compare only under the same weights, so those of the
usual datasets are pinned, and the digest goes with every score. Where images have no labels, the network is not
trained: Naeem et al. 2020 (arXiv:2002.09797) score images unlike those of ImageNet with random networks too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import click
import torch
from filelock import FileLock
from torch import Tensor

import ganzoo
from ganzoo_plugins.extractors._classifier import (
    PENULTIMATE,
    PREPROCESSING,
    RECIPE,
    UNTRAINED,
    Classifier,
    describe,
    epochs_for,
    load_weights,
    save_weights,
    train_classifier,
    untrained_weights,
    weights_digest,
)
from ganzoo_plugins.extractors._exact import exact

#: sides of the images a network is trained on
SMALLEST, LARGEST = 8, 64
#: the dataset of three digits in three channels, which is read with the weights of one
STACKED = "stacked-mnist"
PINNED = {path.stem: path for path in sorted((Path(__file__).parent / "weights").glob("*.safetensors"))}


def _content(train: ganzoo.Dataset, size: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
    """All images at `size`, all labels, and the sha256 of both as they were read and of the recipe."""
    recipe = RECIPE if train.spec.classes > 1 else UNTRAINED
    digest = hashlib.sha256(f"{recipe}|{PREPROCESSING}|{size}|{train.spec}|{train.spec.classes}|{len(train)}".encode())
    images, labels = [], []
    for indices in torch.split(torch.arange(len(train)), 1000):
        some_images, some_labels = train.read(indices)
        digest.update(some_images.contiguous().numpy().tobytes())
        digest.update(some_labels.contiguous().numpy().tobytes())
        images.append(ganzoo.resize(some_images, size))
        labels.append(some_labels)
    return torch.cat(images), torch.cat(labels), digest.hexdigest()


def _load_kept(path: Path, shape: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The weights in the cache; None where there are none, or they are damaged or not for images of this `shape`."""
    try:
        weights, metadata = load_weights(path) if path.exists() else ({}, {})
    except ganzoo.GanzooError:
        return None
    # the digest of a file is over its weights, and not over these
    return (weights, metadata) if shape.items() <= metadata.items() else None


class _EpochsDone:
    """Called after each epoch: two seconds after the start, and then every ten, a line says how many are done."""

    FIRST, INTERVAL = 2.0, 10.0

    def __init__(self, epochs: int) -> None:
        self._epochs, self._start = epochs, time.monotonic()
        self._due = self._start + self.FIRST

    def __call__(self, epoch: int, network: Classifier) -> None:
        now = time.monotonic()
        if now < self._due or epoch == self._epochs:
            return
        self._due = now + self.INTERVAL
        seconds = (now - self._start) / epoch * (self._epochs - epoch)
        left = f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"
        click.echo(f"Domain extractor: {epoch} of {self._epochs} epochs, about {left} left.", err=True)


class Domain(ganzoo.Extractor):
    """Features of a small classifier of the dataset itself: fast, works offline, for digits, garments and the like.

    `pre128`: the penultimate layer before its ReLU, each dimension divided by its standard deviation over the training
    images. `logits`: one a class, known once bound. The weights of mnist, fashion-mnist and digits are pinned; for any
    other dataset they are trained once by the same recipe and kept in `ganzoo.cache_dir()/domain`.

    Where images have no labels, the network has the random weights of its initialisation, and batch norms of the
    training images; there are no `logits`. Naeem et al. 2020 (arXiv:2002.09797) score with such networks.

    stacked-mnist is read by the weights of mnist, each channel by itself: `pre128` is that of the three channels in a
    row (384), `logits` the log-probabilities of the 1,000 numbers the three digits write.
    """

    deviation: Tensor
    predicts = "logits"  # "" once it is bound to images without labels

    def __init__(self) -> None:
        super().__init__()
        self.layers = {"pre128": PENULTIMATE}
        self.digest = ""
        self.channels, self.size, self.stacked = 0, (0, 0), False
        self.network: Classifier | None = None
        self.register_buffer("deviation", torch.ones(PENULTIMATE))

    def bind(self, name: str, train: ganzoo.Dataset) -> None:
        """Load the weights of dataset `name`; train them on `train` if the cache does not have them."""
        if name == STACKED and (train.spec.channels, train.spec.classes) == (3, 1000):
            self.load(*load_weights(PINNED["mnist"]))
            return self._stack()
        if name in PINNED:
            weights, metadata = load_weights(PINNED[name])
            if int(metadata["channels"]) == train.spec.channels:
                return self.load(weights, metadata)
        self.load(*self._trained(name, train))
        if train.spec.classes < 2:
            self._forget_classes()

    def _stack(self) -> None:
        """Apply the network for one channel to each of three channels."""
        self.stacked, self.channels = True, 3
        self.layers = {layer: size * 3 if layer == "pre128" else size**3 for layer, size in self.layers.items()}
        self.digest = hashlib.sha256(f"stacked-1|{self.digest}".encode()).hexdigest()
        self.preprocessing += ", each channel by itself"

    def _forget_classes(self) -> None:
        """Leave only the features: there are no classes to predict."""
        self.predicts, self.layers = "", {"pre128": PENULTIMATE}
        self.digest = hashlib.sha256(f"{UNTRAINED}|{self.digest}".encode()).hexdigest()
        self.preprocessing += ", not trained"

    def _trained(self, name: str, train: ganzoo.Dataset) -> tuple[dict[str, Tensor], dict[str, str]]:
        height, width = (min(max(side, SMALLEST), LARGEST) for side in (train.spec.height, train.spec.width))
        images, labels, content = _content(train, (height, width))
        path = ganzoo.cache_dir() / "domain" / f"{content}.safetensors"
        facts = describe(images, train.spec.classes, name, epochs_for(len(images)))
        shape = {key: facts[key] for key in ("channels", "height", "width", "classes")}
        kept = _load_kept(path, shape)
        if kept is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # of several processes one trains, the others wait
                kept = _load_kept(path, shape) or self._make_and_keep(name, train.spec.classes, images, labels, path)
        return kept

    def _make_and_keep(
        self, name: str, classes: int, images: Tensor, labels: Tensor, path: Path
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        if path.exists():
            click.echo(f"{path} is damaged and will be made again.", err=True)
        epochs, start, device = epochs_for(len(images)), time.perf_counter(), self.deviation.device
        if classes < 2:
            weights = untrained_weights(images, device=device)
            save_weights(path, weights, {**describe(images, classes, name, 0), "recipe": UNTRAINED})
            return load_weights(path)
        click.echo(f"Training the domain extractor of {name}, once: {len(images)} images, {epochs} epochs.", err=True)
        shown = _EpochsDone(epochs)
        weights = train_classifier(images, labels, classes, epochs=epochs, device=device, after_epoch=shown)
        save_weights(path, weights, describe(images, classes, name, epochs))
        click.echo(f"Trained in {time.perf_counter() - start:.0f} s and kept as {path}.", err=True)
        return load_weights(path)

    def load(self, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Use these weights; `metadata` is the result of `describe`."""
        device = self.deviation.device
        self.digest = weights_digest(weights, metadata)
        self.size, self.stacked = (int(metadata["height"]), int(metadata["width"])), False
        self.preprocessing = f"{PREPROCESSING} at {self.size[0]}x{self.size[1]}"
        self.channels, classes = int(metadata["channels"]), int(metadata["classes"])
        self.layers, self.predicts = {"pre128": PENULTIMATE, "logits": classes}, "logits"
        with torch.random.fork_rng(devices=[]):
            network = Classifier(self.channels, classes).float()
        network.load_state_dict({name: value for name, value in weights.items() if name != "deviation"})
        self.network = network.to(device).to(memory_format=torch.channels_last).requires_grad_(False).eval()
        self.deviation = weights["deviation"].to(device, torch.float32)

    def train(self, mode: bool = True) -> Domain:
        """Always in evaluation mode: features must not depend on the other images of the batch."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (N, C, H, W) of any size -> float32 `pre128` (N, 128) in deviations, and `logits` (N, classes).

        Of stacked-mnist (N, 384) and (N, 1000), and without labels no logits, see above.
        """
        if self.network is None:
            raise ganzoo.GanzooError("The domain extractor has no dataset yet: call bind(name, train) first.")
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != self.channels:
            given = f"{images.dtype} {tuple(images.shape)}"
            raise ganzoo.GanzooError(
                f"The domain extractor takes uint8 images (N, {self.channels}, H, W), not {given}."
            )
        with exact(images.device):
            resized = ganzoo.resize(images, self.size)
            penultimate, logits = self.network(resized.reshape(-1, 1, *self.size) if self.stacked else resized)
            features = penultimate / self.deviation
            if not self.predicts:
                return {"pre128": features}
            if not self.stacked:
                return {"pre128": features, "logits": logits}
            red, green, blue = logits.log_softmax(dim=1).unflatten(0, (-1, 3)).unbind(dim=1)
            # (N, 10, 10, 10): the class is 100 red + 10 green + blue
            joint = red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]
            return {"pre128": features.reshape(len(images), -1), "logits": joint.flatten(1)}
