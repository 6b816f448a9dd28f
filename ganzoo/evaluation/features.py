"""Feature pass: the reals of a dataset, shown once to all evaluators that share an extractor, or known already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset, Evaluator, Extractor, Origin
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import absolute_path
from ganzoo.registry.source import file_of
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.cache import Cache

Images = Iterable[tuple[Tensor, Tensor]]
_BATCH = 500
_CACHE = Cache("statistics")
_VERSIONS = ("torch-ganzoo", "torch", "torchmetrics", "torchvision")


def versions() -> dict[str, str]:
    """Of the packages that scores depend on."""
    return {name: version(name) for name in _VERSIONS}


def last_part(name: str) -> str:
    """A part's name without its distribution or folder: the same on every machine."""
    return name.rpartition("/")[2]


def full_name(provenance: Mapping[str, Any]) -> str:
    """A part as its provenance has it: `torch-ganzoo/fid 0.1.0`, or its location."""
    return f"{provenance['id']} {provenance['version']}" if "id" in provenance else str(provenance["location"])


def extractor_of(evaluator: Evaluator) -> Choice:
    """The extractor it names; one in a file is seen from the evaluator's own file, wherever the process stands."""
    choice = Choice.parse(evaluator.extractor)
    if not choice.is_location:
        return choice
    path, _, attribute = choice.name.rpartition(":")
    own = file_of(type(evaluator))
    if own is not None and not path.startswith("~"):
        path = str(own.parent / path)
    return Choice(f"{absolute_path(path)}:{attribute}", choice.options)


@dataclass
class RunningEvaluator:
    """One evaluator at work, and what of its measure is the same for every generator."""

    choice: Choice
    evaluator: Evaluator
    provenance: Mapping[str, Any]
    #: what the statistics of the reals are, once they have been taken in
    known: dict[str, Tensor] | None = None

    @property
    def name(self) -> str:
        """The evaluator, with its distribution and version."""
        return full_name(self.provenance)


class ScoringCancelled(GanzooError):
    """Whoever asked for the scores wants them no longer."""


def cancellable(stopped: Callable[[], bool], batches: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, for as long as nobody says stop. Raises Abandoned then."""
    for batch in batches:
        if stopped():
            raise ScoringCancelled("The scoring was stopped.")
        yield batch


class Reals:
    """One split of the dataset: its images, and what tells them from all others."""

    def __init__(self, zoo: Zoo, choice: Choice, split: str) -> None:
        self.dataset: Dataset = zoo.build("datasets", choice, split=split)
        self.split = split
        sha = hashlib.sha256(str(self.dataset.spec).encode())
        for images, labels in self:
            sha.update(images.contiguous().numpy().tobytes())
            sha.update(labels.contiguous().numpy().tobytes())
        # without its options: the sha256 tells one set from another, however it was asked for and wherever it lies
        name = last_part(choice.name)
        self.facts = {"dataset": name, "split": split, "sha256": sha.hexdigest(), "images": len(self.dataset)}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.dataset)
        for start in range(0, count, _BATCH):
            yield self.dataset.read(torch.arange(start, min(start + _BATCH, count)))


class ExtractorGroup:
    """The evaluators that share an extractor."""

    def __init__(
        self,
        choice: Choice,
        provenance: Mapping[str, Any],
        extractor: Extractor,
        members: list[RunningEvaluator],
        device: torch.device,
    ) -> None:
        self.choice, self.provenance, self.extractor, self.members = choice, provenance, extractor, members
        self.device = device
        for member in members:
            if member.evaluator.layer not in extractor.layers:
                raise UsageError(
                    f"Evaluator {member.name}: its extractor {choice} has no layer {member.evaluator.layer!r}; it "
                    f"has {', '.join(extractor.layers)}."
                )

    def facts(self, layer: str) -> dict[str, Any]:
        """What the features are."""
        seen = {"digest": self.extractor.digest, "preprocessing": self.extractor.preprocessing}
        name = str(Choice(last_part(self.choice.name), self.choice.options))
        return {"name": name, **self.provenance, "layer": layer, **seen}

    def take_in_reals(self, reals: Reals, held_out: Reals | None, stopped: Callable[[], bool]) -> None:
        """Put every evaluator where it has seen all reals: from what is known of them, or by showing them."""
        unknown = []
        for member in self.members:
            evaluator = member.evaluator
            evaluator.reset(self.extractor.layers[evaluator.layer], self.device)
            if member.known is None:
                member.known = _CACHE.load_tensors(self._key(member, reals, held_out), self.device)
            if member.known is None:
                unknown.append(member)
            else:
                evaluator.restore(member.known)
        if not unknown:
            return
        for images, labels in cancellable(stopped, reals):
            self.take_in(images, labels, "reals", unknown)
        looking = [member for member in unknown if member.evaluator.held_out]
        if looking and held_out is not None:
            for images, labels in cancellable(stopped, held_out):
                self.take_in(images, labels, "held-out", looking)
        for member in unknown:
            member.known = member.evaluator.statistics()
            if member.known is not None:
                _CACHE.save_tensors(self._key(member, reals, held_out), member.known)

    def _key(self, member: RunningEvaluator, reals: Reals, held_out: Reals | None) -> dict[str, Any]:
        """All that the statistics of the reals depend on."""
        return {
            "evaluator": dict(member.provenance),
            "extractor": self.facts(member.evaluator.layer),
            "reals": reals.facts,
            "held_out": held_out.facts if held_out is not None and member.evaluator.held_out else None,
            "versions": versions(),
        }

    def take_in(self, images: Tensor, labels: Tensor, origin: Origin, members: Sequence[RunningEvaluator]) -> None:
        """Show some images of one origin to `members`. Raises GanzooError where a feature is not finite."""
        features = self.extractor(images.to(self.device))
        name = full_name(self.provenance)
        for layer in {member.evaluator.layer for member in members}:
            found, promised = features.get(layer), self.extractor.layers[layer]
            if found is None or len(found) != len(images) or found[:1].numel() != promised:
                given = "nothing" if found is None else f"features {tuple(found.shape)}"
                raise GanzooError(
                    f"Extractor {name} gave {given} for the layer {layer!r} of {len(images)} images, and promised "
                    f"{promised} numbers an image."
                )
            if not bool(features[layer].isfinite().all()):
                kind = "generated" if origin == "fakes" else "real"
                raise GanzooError(
                    f"The {kind} images have features that are not finite ({name}, {layer}): check the "
                    f"{'generator' if origin == 'fakes' else 'data'} and the extractor's weights."
                )
        for member in members:
            member.evaluator.update(features[member.evaluator.layer], labels.to(self.device), origin)
