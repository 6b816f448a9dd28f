"""Training images beside generated ones: any, of the same classes, or the nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Dataset, Evaluator, Extractor
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import parse_subset
from ganzoo.engine.seeds import derive
from ganzoo.evaluation.features import extractor_of, versions
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator
from ganzoo.results.runs import DEFAULT_EVALUATORS
from ganzoo.results.training_images import SAME, check_training_images
from ganzoo.storage.cache import Cache

#: images that are read at a time, and training images that are compared at a time
_BATCH, _COMPARED = 500, 10_000
#: numbers that are kept in memory for the training images, at most; of more, evenly spread images are compared
_NUMBERS = 1 << 28
#: compare pixels, not features
PIXELS = "pixels"
#: features of the training images with the extractor's digest, so that the next picture needs no pass over them
_CACHE = Cache("statistics")


@dataclass
class Neighbours:
    """The nearest training images of each of N generated ones, nearest first."""

    #: uint8 (N, K, C, H, W)
    images: Tensor
    #: (N, K): their positions in the training split, and their classes
    positions: Tensor
    labels: Tensor
    #: (N, K): Euclidean distances between features; between pixels the root mean square difference, in grey levels
    distances: Tensor
    #: what is compared, in words: `pixels`, or an extractor and its layer
    by: str


class TrainingImages:
    """The images that a run was trained on, read from its dataset."""

    def __init__(self, trained: TrainedGenerator, zoo: Zoo, option: str, note: Callable[[str], None]) -> None:
        """Raises GanzooError where the dataset cannot be read, or has images of another shape than the generator."""
        self.trained, self.zoo, self.note = trained, recorded_zoo(trained.run, zoo), note
        recipe = trained.run.recipe
        assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
        self.choice: Choice = recipe.dataset
        try:
            self.dataset: Dataset = self.zoo.build("datasets", self.choice, split="train")
        except GanzooError as error:
            raise type(error)(
                f"{option} shows images of {short_name(self.choice)}, which cannot be read: {error}"
            ) from None
        if str(self.dataset.spec) != str(trained.images):
            raise GanzooError(
                f"{option}: the images of {short_name(self.choice)} are {self.dataset.spec} now, and the generator "
                f"draws {trained.images}: restore the images that it was trained on."
            )
        self.facts = check_training_images(trained.run, self.dataset, True, note)
        self.positions = torch.tensor(parse_subset(recipe.subset, len(self.dataset)))
        self._spaces: dict[str, _Space] = {}

    def _shuffled(self, seed: int) -> Tensor:
        """The positions of the training images in an order that depends on the seed."""
        generator = torch.Generator().manual_seed(derive(seed, "reals"))
        return self.positions[torch.randperm(len(self.positions), generator=generator)]

    def _batches(self, positions: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Positions (n,), images (n, C, H, W) and labels (n,) of the images at these positions."""
        for part in torch.split(positions, _BATCH):
            images, labels = self.dataset.read(part)
            yield part, images.cpu(), labels.cpu()

    def any(self, count: int, seed: int) -> Tensor:
        """`count` different training images, uint8 (count, C, H, W), as a function of the seed."""
        if count > len(self.positions):
            raise GanzooError(
                f"{short_name(self.choice)} has {len(self.positions)} training images: draw fewer than {count}."
            )
        return torch.cat([images for _, images, _ in self._batches(self._shuffled(seed)[:count])])

    def of_classes(self, labels: Tensor, seed: int) -> Tensor:
        """A different training image of the class of each label (N,), uint8 (N, C, H, W), as a function of the seed."""
        missing = {int(label): int((labels == label).sum()) for label in torch.unique(labels).tolist()}
        found: dict[int, list[Tensor]] = {label: [] for label in missing}
        for _, images, of_images in self._batches(self._shuffled(seed)):
            for label, count in missing.items():
                found[label].extend(images[of_images == label][: count - len(found[label])])
            if all(len(found[label]) == count for label, count in missing.items()):
                break
        for label, count in missing.items():
            if len(found[label]) < count:
                raise GanzooError(
                    f"{short_name(self.choice)} has {len(found[label])} training images of the class "
                    f"{self.trained.class_names[label]}: draw fewer of it than {count}."
                )
        iterators = {label: iter(images) for label, images in found.items()}
        return torch.stack([next(iterators[int(label)]) for label in labels])

    def nearest(self, images: Tensor, count: int, by: Choice | str | None = None) -> Neighbours:
        """The `count` nearest training images of uint8 images (N, C, H, W).

        `by` is PIXELS, an extractor, of which the last layer that predicts nothing is compared, or None: the features
        of the evaluator that scores such a dataset by default, as in the memorisation scores. These are those of a
        classifier of the dataset where it has labels, else those of an untrained network. What is compared is kept in
        memory for the next call.
        """
        if str(by) not in self._spaces:
            self._spaces[str(by)] = self._space(by)
        space = self._spaces[str(by)]
        points = space.features(images).float()
        # exact: with matrix products, the distance between equal images is not 0
        parts = [
            torch.cdist(points, part.float(), compute_mode="donot_use_mm_for_euclid_dist")
            for part in torch.split(space.rows, _COMPARED)
        ]
        distances, places = torch.cat(parts, dim=1).topk(min(count, len(space.rows)), largest=False)
        positions = space.positions[places.cpu()]
        batches = list(self._batches(positions.flatten()))
        nearest, labels = (torch.cat([batch[place] for batch in batches]) for place in (1, 2))
        shape = positions.shape
        distances = distances.cpu() * space.unit
        return Neighbours(
            nearest.reshape(*shape, *nearest.shape[1:]), positions, labels.reshape(shape), distances, space.name
        )

    def _space(self, by: Choice | str | None) -> _Space:
        if by == PIXELS:
            positions = self._comparable(self.dataset.spec.pixels)
            rows = torch.cat([_pixels(images) for _, images, _ in self._batches(positions)])
            return _Space(PIXELS, _pixels, rows, positions, self.dataset.spec.pixels**-0.5)
        extractor, layer, name = self._extractor(by)
        device = self.trained.device
        positions = self._comparable(extractor.layers[layer])
        rows = self._training_features(extractor, layer, positions)
        return _Space(name, lambda images: _features(extractor, layer, images, device), rows, positions)

    def _comparable(self, numbers: int) -> Tensor:
        """The positions of the images that are compared: all, if `numbers` for each of them fit in memory."""
        step = -(-len(self.positions) * max(1, numbers) // _NUMBERS)
        positions = self.positions[::step]
        if step > 1:
            count = f"{len(positions):,} of {len(self.positions):,}"
            self.note(f"Only {count} training images are compared, evenly spread.")
        return positions

    def _extractor(self, by: Choice | str | None) -> tuple[Extractor, str, str]:
        """An extractor, the name of a layer, and both in words."""
        evaluator: Evaluator = self.zoo.build("evaluators", DEFAULT_EVALUATORS[0])
        choice = extractor_of(evaluator) if by is None else Choice.parse(by) if isinstance(by, str) else by
        extractor: Extractor = self.zoo.build("extractors", choice).to(self.trained.device)
        extractor.bind(short_name(self.choice), self.dataset)
        last = [name for name in extractor.layers if name != extractor.predicts][-1]
        layer = evaluator.layer if by is None else last
        words = short_name(choice) if short_name(choice) == layer else f"{short_name(choice)} features"
        return extractor, layer, words

    def _training_features(self, extractor: Extractor, layer: str, positions: Tensor) -> Tensor:
        """The features (M, D) of the training images at these positions, from the cache where it has them."""
        recorded = self.trained.run.environment.get("training_images")
        facts = {
            "kind": "features of training images",
            "extractor": [extractor.digest, extractor.preprocessing, layer],
            "images": recorded,
            "versions": versions(),
        }
        # features as large as the images are not worth a file; images that are not those of the training have no name
        small = extractor.layers[layer] < self.dataset.spec.pixels and len(positions) == len(self.positions)
        keeps = small and recorded is not None and self.facts.get("training_images") == SAME
        kept = _CACHE.load_tensors(facts, self.trained.device) if keeps else None
        if kept is not None:
            return kept["features"]
        batches = self._batches(positions)
        features = torch.cat([_features(extractor, layer, images, self.trained.device) for _, images, _ in batches])
        if keeps:
            _CACHE.save_tensors(facts, {"features": features.cpu()})
        return features


@dataclass(frozen=True)
class _Space:
    """What is compared: `features` of images, uint8 (N, C, H, W) -> (N, D)."""

    name: str
    features: Callable[[Tensor], Tensor]
    #: (M, D) of the training images at `positions` (M,); pixels are uint8 until they are compared
    rows: Tensor
    positions: Tensor
    #: by which Euclidean distances are multiplied
    unit: float = 1.0


def _pixels(images: Tensor) -> Tensor:
    return images.cpu().flatten(1)


@torch.no_grad()
def _features(extractor: Extractor, layer: str, images: Tensor, device: torch.device) -> Tensor:
    """The features (N, D) of uint8 images (N, C, H, W), float32."""
    return torch.cat([extractor(part.to(device))[layer].flatten(1).float() for part in torch.split(images, _BATCH)])
