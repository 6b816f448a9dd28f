"""Passes of images through extractors. The features update evaluators; statistics of the reals are cached.

images -> features: one pass of an extractor over each image, shared by all evaluators that use this extractor
features of reals -> statistics: computed once by each evaluator, and read from the cache afterwards
statistics, features of fakes -> scores: computed by each evaluator (see scorer.py)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset, Evaluator, Extractor, Origin
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import absolute_path
from ganzoo.engine.fingerprint import images_sha256
from ganzoo.evaluation.ranks import AllProcesses, BatchSequence, Features, OneProcess
from ganzoo.registry.source import file_of
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.cache import Cache

_BATCH = 500
_CACHE = Cache("statistics")
_VERSIONS = ("torch-ganzoo", "torch", "torchmetrics", "torchvision")


def versions() -> dict[str, str]:
    """The versions of the packages that scores depend on."""
    return {name: version(name) for name in _VERSIONS}


def last_part(name: str) -> str:
    """The name of a part without its distribution or folder, so that it is the same on every machine."""
    return name.rpartition("/")[2]


def full_name(provenance: Mapping[str, Any]) -> str:
    """The name of a part for messages: `torch-ganzoo/fid 0.1.0`, or its location (a file and a class)."""
    return f"{provenance['id']} {provenance['version']}" if "id" in provenance else str(provenance["location"])


def extractor_of(evaluator: Evaluator) -> Choice:
    """The extractor of an evaluator, as a choice; a relative path is relative to the evaluator's own file."""
    choice = Choice.parse(evaluator.extractor)
    if not choice.is_location:
        return choice
    path, _, attribute = choice.name.rpartition(":")
    own_file = file_of(type(evaluator))
    if own_file is not None and not path.startswith("~"):
        path = str(own_file.parent / path)
    return Choice(f"{absolute_path(path)}:{attribute}", choice.options)


@dataclass
class RunningEvaluator:
    """An evaluator that is in use, the choice it was built from, and its statistics of the real images."""

    choice: Choice
    evaluator: Evaluator
    provenance: Mapping[str, Any]
    #: statistics of the real images; None until they are computed or loaded, and for evaluators that keep none
    statistics: dict[str, Tensor] | None = None

    @property
    def name(self) -> str:
        """The evaluator's name with its distribution and version."""
        return full_name(self.provenance)


class Reals(BatchSequence):
    """The real images of one split, in batches of uint8 (n, C, H, W) and labels (n,), and a fingerprint of them."""

    def __init__(self, zoo: Zoo, choice: Choice, split: str, sha256: str = "") -> None:
        """`sha256` is that of these images where another process has computed it; else all of them are read."""
        self.dataset: Dataset = zoo.build("datasets", choice, split=split)
        self.split = split
        positions = torch.arange(len(self.dataset))
        sha256 = sha256 or images_sha256(self.dataset.read, positions, _BATCH, header=str(self.dataset.spec))
        # without the options of the dataset, such as its path: the sha256 identifies the images
        name = last_part(choice.name)
        self.facts = {"dataset": name, "split": split, "sha256": sha256, "images": len(self.dataset)}
        #: called, before a batch is read, with the number of images of the batches before it and that of all images
        self.on_read: Callable[[int, int], None] = lambda done, total: None

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / _BATCH)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        start = number * _BATCH
        self.on_read(start, len(self.dataset))
        return self.dataset.read(torch.arange(start, min(start + _BATCH, len(self.dataset))))


class ExtractorGroup:
    """An extractor and the evaluators that use it. Each image passes through the extractor once for all of them."""

    def __init__(
        self,
        choice: Choice,
        provenance: Mapping[str, Any],
        extractor: Extractor,
        evaluators: list[RunningEvaluator],
        device: torch.device,
    ) -> None:
        """Raises UsageError if the extractor lacks a layer that an evaluator needs."""
        self.choice, self.provenance, self.extractor, self.evaluators = choice, provenance, extractor, evaluators
        self.device = device
        #: how well the extractor classifies the test images (see classifier.py); None if it does not predict classes
        self.accuracy: dict[str, Any] | None = None
        for running in evaluators:
            if running.evaluator.layer not in extractor.layers:
                raise UsageError(
                    f"Evaluator {running.name}: its extractor {choice} has no layer {running.evaluator.layer!r}; it "
                    f"has {', '.join(extractor.layers)}."
                )

    @property
    def layers(self) -> list[str]:
        """The layers that the evaluators need, each once."""
        return list(dict.fromkeys(running.evaluator.layer for running in self.evaluators))

    def facts(self, layer: str) -> dict[str, Any]:
        """Everything that the features of a layer depend on besides the images, for cards and cache keys."""
        inputs = {"digest": self.extractor.digest, "preprocessing": self.extractor.preprocessing}
        name = str(Choice(last_part(self.choice.name), self.choice.options))
        return {"name": name, **self.provenance, "layer": layer, **inputs}

    def load_or_compute_reals(
        self, reals: Reals, held_out: Reals | None, stopped: Callable[[], bool], processes: OneProcess | AllProcesses
    ) -> None:
        """Reset every evaluator and restore its statistics of the reals; compute and cache those that are missing.

        `processes` compute the features. Raises ScoringCancelled if `stopped()` becomes true during the passes.
        """
        missing = processes.decided(lambda: self._restore(reals, held_out))
        if not missing:
            return
        self._pass(reals, "reals", missing, stopped, processes)
        need_held_out = [number for number in missing if self.evaluators[number].evaluator.held_out]
        if need_held_out and held_out is not None:
            self._pass(held_out, "held-out", need_held_out, stopped, processes)
        processes.decided(lambda: self._keep_statistics(missing, reals, held_out))

    def _restore(self, reals: Reals, held_out: Reals | None) -> list[int]:
        """Reset every evaluator and restore its statistics; the positions of the evaluators that have none yet."""
        missing = []
        for number, running in enumerate(self.evaluators):
            evaluator = running.evaluator
            evaluator.reset(self.extractor.layers[evaluator.layer], self.device)
            if running.statistics is None:
                running.statistics = _CACHE.load_tensors(self._key(running, reals, held_out), self.device)
            if running.statistics is None:
                missing.append(number)
            else:
                evaluator.restore(running.statistics)
        return missing

    def _pass(
        self,
        reals: Reals,
        origin: Origin,
        numbers: Sequence[int],
        stopped: Callable[[], bool],
        processes: OneProcess | AllProcesses,
    ) -> None:
        """Update the evaluators at these positions with the features of all `reals`."""
        evaluators = [self.evaluators[number] for number in numbers]

        def extract(images: Tensor, labels: Tensor) -> Features:
            return self.extract(images, origin, evaluators)

        def use(features: Features, labels: Tensor) -> None:
            self.use(features, labels, origin, evaluators)

        processes.each_batch(reals, extract, use, stopped)

    def _keep_statistics(self, missing: Sequence[int], reals: Reals, held_out: Reals | None) -> None:
        for running in (self.evaluators[number] for number in missing):
            running.statistics = running.evaluator.statistics()
            if running.statistics is not None:
                _CACHE.save_tensors(self._key(running, reals, held_out), running.statistics)

    def _key(self, running: RunningEvaluator, reals: Reals, held_out: Reals | None) -> dict[str, Any]:
        """Everything that the statistics of the reals depend on: the key of their cache entry."""
        return {
            "evaluator": dict(running.provenance),
            "extractor": self.facts(running.evaluator.layer),
            "reals": reals.facts,
            "held_out": held_out.facts if held_out is not None and running.evaluator.held_out else None,
            "versions": versions(),
        }

    def extract(self, images: Tensor, origin: Origin, evaluators: Sequence[RunningEvaluator]) -> Features:
        """The features of uint8 images (n, C, H, W) that `evaluators` need, by layer.

        Raises GanzooError if a feature is not finite, or if the features do not have the shape the extractor declares.
        """
        features = self.extractor(images.to(self.device))
        layers = {running.evaluator.layer for running in evaluators}
        for layer in layers:
            self._check(features.get(layer), layer, len(images), origin)
        return {layer: features[layer] for layer in layers}

    def use(self, features: Features, labels: Tensor, origin: Origin, evaluators: Sequence[RunningEvaluator]) -> None:
        """Pass features by layer to `evaluators`, with the labels (n,) of the images."""
        labels = labels.to(self.device)
        for running in evaluators:
            running.evaluator.update(features[running.evaluator.layer].to(self.device), labels, origin)

    def _check(self, features: Tensor | None, layer: str, images: int, origin: Origin) -> None:
        name, expected = full_name(self.provenance), self.extractor.layers[layer]
        if features is None or len(features) != images or features[:1].numel() != expected:
            returned = "nothing" if features is None else f"features {tuple(features.shape)}"
            raise GanzooError(
                f"Extractor {name} returned {returned} for the layer {layer!r} of {images} images; it declares "
                f"{expected} numbers an image."
            )
        if not bool(features.isfinite().all()):
            kind = "generated" if origin == "fakes" else "real"
            raise GanzooError(
                f"The {kind} images have features that are not finite ({name}, {layer}): check the "
                f"{'generator' if origin == 'fakes' else 'data'} and the extractor's weights."
            )
