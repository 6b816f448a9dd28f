"""The training images that are nearest to a generated one, in pixels or in the features of an extractor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Dataset, Extractor, class_names
from ganzoo.contract.errors import UsageError
from ganzoo.contract.recipe import parse_subset
from ganzoo.evaluation.features import last_part
from ganzoo.registry.zoo import Zoo
from ganzoo.results.training_images import check_training_images
from ganzoo.storage.run import Run

if TYPE_CHECKING:
    pass

#: numbers that are kept in memory for the training images of one space, at most; of more, evenly spread images are used
_NUMBERS = 1 << 28
#: images that are read and compared at a time
_BATCH = 1000
PIXELS = "pixels"


@dataclass(frozen=True)
class Neighbour:
    """One training image."""

    #: uint8 (C, H, W)
    image: Tensor
    #: its index in the training split of the dataset
    index: int
    class_name: str
    #: root mean square difference of pixels, in grey levels 0 to 255; in features, the Euclidean distance
    distance: float


class TrainingImages:
    """The training images of a run, and their features. They are read when they are first asked for."""

    def __init__(self, path: Path, zoo: Zoo, device: torch.device, extractor: Choice | None) -> None:
        self.path, self.zoo, self.device, self.choice = path, zoo, device, extractor
        self._dataset: Dataset | None = None
        self._spaces: dict[str, _Space] = {}
        #: sentences about the images: that they are not those of the training, or that only some are compared
        self.notes: list[str] = []

    @property
    def spaces(self) -> list[str]:
        """The names of the spaces in which distances can be measured."""
        return list(dict.fromkeys([PIXELS, *([last_part(str(self.choice))] if self.choice else [])]))

    def nearest(self, images: Tensor, space: str, count: int) -> list[Neighbour]:
        """The `count` training images nearest to the uint8 image (1, C, H, W), the nearest first.

        Raises UsageError for an unknown space, GanzooError where the dataset is missing or of another kind.
        """
        if space not in self.spaces:
            raise UsageError(f"space={space[:40]!r} is not one of {', '.join(self.spaces)}.")
        dataset = self._training_split()
        if space not in self._spaces:
            self._spaces[space] = self._read(dataset, space)
        found = self._spaces[space]
        distances, places = found.nearest(images, min(count, len(found.indices)))
        indices = found.indices[places]
        nearby, labels = dataset.read(indices)
        names = class_names(dataset)
        return [
            Neighbour(image, int(index), str(names[int(label)]), float(distance))
            for image, index, label, distance in zip(nearby, indices, labels, distances, strict=True)
        ]

    def _training_split(self) -> Dataset:
        if self._dataset is None:
            run = Run.open(self.path)
            assert run.recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
            dataset: Dataset = self.zoo.build("datasets", run.recipe.dataset, split="train")
            check_training_images(run, dataset, False, self.notes.append)
            self._dataset = dataset
        return self._dataset

    def _read(self, dataset: Dataset, space: str) -> _Space:
        """All training images, or features of them, in batches."""
        run = Run.open(self.path)
        subset = torch.tensor(parse_subset(run.recipe.subset, len(dataset)))
        features = _pixels if space == PIXELS else self._extractor_features(dataset)
        numbers = features(dataset.read(subset[:1])[0]).shape[1]
        step = -(-len(subset) * numbers // _NUMBERS)
        indices = subset[::step]
        if step > 1:
            self.notes.append(f"Only {len(indices):,} of {len(subset):,} training images are compared, evenly spread.")
        rows = [features(dataset.read(some)[0]) for some in torch.split(indices, _BATCH)]
        return _Space(indices, torch.cat(rows), features, scale=numbers**-0.5 if space == PIXELS else 1.0)

    def _extractor_features(self, dataset: Dataset) -> Callable[[Tensor], Tensor]:
        """Function from uint8 images (N, C, H, W) to the extractor's features (N, D) on the CPU."""
        assert self.choice is not None  # noqa: S101  (a space of this name is known)
        extractor: Extractor = self.zoo.build("extractors", self.choice).to(self.device)
        extractor.bind(short_name(Run.open(self.path).recipe.dataset), dataset)
        layer = [name for name in extractor.layers if name != extractor.predicts][-1]

        def features(images: Tensor) -> Tensor:
            with torch.no_grad():
                found: Tensor = extractor(images.to(self.device))[layer]
            return found.flatten(1).float().cpu()

        return features


def _pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


@dataclass
class _Space:
    """Features (N, D) of the training images at `indices` (N,); pixels stay uint8 until they are compared."""

    indices: Tensor
    rows: Tensor
    features: Callable[[Tensor], Tensor]
    scale: float

    def nearest(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(count,) distances of the nearest rows to one image, and (count,) their places."""
        point = self.features(images).float()
        found = [(rows.float() - point).square().sum(dim=1) for rows in torch.split(self.rows, _BATCH)]
        smallest = torch.cat(found).topk(count, largest=False)
        return smallest.values.sqrt() * self.scale, smallest.indices
