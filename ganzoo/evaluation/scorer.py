"""Scoring: one feature pass an extractor, many scores, each with a card that says how it was measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Architecture, Dataset, Extractor
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.protocol import Protocol
from ganzoo.contract.recipe import Recipe
from ganzoo.engine import seeds
from ganzoo.engine.sampler import balanced_labels, draw, draw_latents
from ganzoo.evaluation.features import (
    ExtractorGroup,
    Images,
    Reals,
    RunningEvaluator,
    cancellable,
    extractor_of,
    last_part,
    versions,
)
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.files import digest_of


class Scorer:
    """Scores generated images of one dataset by several evaluators, as often as asked.

    The reals are taken in once, or not at all where their statistics are known from an earlier time.
    """

    def __init__(
        self,
        zoo: Zoo,
        dataset: Choice,
        evaluators: Sequence[Choice],
        device: torch.device,
        protocol: Protocol,
        samples: int | None = None,
        seed: int = 0,
        conditional: bool = True,
    ) -> None:
        """`conditional` says whether the fakes are of the classes they are labelled with."""
        self.protocol, self.device, self.seed = protocol, device, seed
        #: number of fakes to be scored
        self.samples = samples or protocol.samples
        with seeds.aside(seed, "evaluate"):  # evaluators may draw, and a training must not see it
            self.reals = Reals(zoo, dataset, protocol.split)
            members = [
                RunningEvaluator(
                    choice,
                    zoo.build("evaluators", zoo.resolve("evaluators", choice)),
                    _provenance(zoo, "evaluators", choice),
                )
                for choice in evaluators
            ]
            _refuse_twins(members)
            self.held_out: Reals | None = None
            if any(member.evaluator.held_out for member in members):
                self.held_out = Reals(zoo, dataset, protocol.other_split)
            self.train = self._train_split(zoo, dataset)
            for member in members:
                self._refuse_meaningless(member, conditional)
                self._refuse_few(member, self.samples)
            self.groups = [
                self._group(zoo, dataset, name, [m for m in members if str(extractor_of(m.evaluator)) == name])
                for name in dict.fromkeys(str(extractor_of(member.evaluator)) for member in members)
            ]

    @property
    def names(self) -> list[str]:
        """The scores this gives."""
        return [name for group in self.groups for member in group.members for name in member.evaluator.scores]

    def _train_split(self, zoo: Zoo, dataset: Choice) -> Dataset:
        for reals in (self.reals, self.held_out):
            if reals is not None and reals.split == "train":
                return reals.dataset
        train: Dataset = zoo.build("datasets", dataset, split="train")
        return train

    def _refuse_meaningless(self, member: RunningEvaluator, conditional: bool) -> None:
        if member.evaluator.split not in ("", self.protocol.split):
            raise UsageError(
                f"Evaluator {member.name} compares with the {member.evaluator.split} images, and protocol "
                f"{self.protocol.name} with the {self.protocol.split} images: choose another protocol, or leave it out."
            )
        if member.evaluator.conditional and not conditional:
            raise UsageError(
                f"Evaluator {member.name} asks for classes, and this architecture is not conditional: leave it out."
            )

    def _refuse_few(self, member: RunningEvaluator, fakes: int) -> None:
        counts = {"generated": fakes, f"real ({self.reals.split})": len(self.reals.dataset)}
        if member.evaluator.held_out and self.held_out is not None:
            counts[f"real ({self.held_out.split})"] = len(self.held_out.dataset)
        for what, count in counts.items():
            if count < member.evaluator.minimum:
                raise UsageError(
                    f"Evaluator {member.name} needs at least {member.evaluator.minimum} images of each kind, and "
                    f"there are {count} {what} ones: ask for more samples, or for an evaluator that needs fewer."
                )

    def _group(self, zoo: Zoo, dataset: Choice, name: str, members: list[RunningEvaluator]) -> ExtractorGroup:
        choice = Choice.parse(name)
        # the protocol says how an extractor sees images, unless the evaluator itself does
        choice = Choice(choice.name, {**self.protocol.extractors.get(choice.name, {}), **choice.options})
        extractor: Extractor = zoo.build("extractors", choice).to(self.device)
        extractor.bind(short_name(dataset), self.train)
        return ExtractorGroup(choice, _provenance(zoo, "extractors", choice), extractor, members, self.device)

    def score(
        self, fakes: Images, subject: Mapping[str, Any], stopped: Callable[[], bool] = lambda: False
    ) -> list[dict[str, Any]]:
        """A line for each score of these fakes: uint8 images (n, C, H, W) and the labels (n,) asked for, in batches.

        `subject` says what was scored, and goes into the cards. The random state of the process is left as it was.
        Raises GanzooError where a score would mean nothing, and Abandoned once `stopped` says so.
        """
        started = time.perf_counter()
        with seeds.aside(0, "reals"):  # what is kept of them must not depend on the seed of the latents
            for group in self.groups:
                group.take_in_reals(self.reals, self.held_out, stopped)
        with seeds.aside(self.seed, "evaluate"):
            count = self._take_in_fakes(cancellable(stopped, fakes))
            found = []
            for group in self.groups:
                for member in group.members:
                    self._refuse_few(member, count)
                    found += [(group, member, *item) for item in _computed(member).items()]
        seconds = round(time.perf_counter() - started, 3)
        return [
            {
                "score": name,
                "value": value,
                "better": member.evaluator.scores[name].better,
                "card": self._card(group, member, name, count, subject, seconds),
            }
            for group, member, name, value in found
        ]

    def _take_in_fakes(self, fakes: Images) -> int:
        count = 0
        for images, labels in fakes:
            for group in self.groups:
                group.take_in(images, labels, "fakes", group.members)
            count += len(images)
        return count

    def _card(
        self,
        group: ExtractorGroup,
        member: RunningEvaluator,
        score: str,
        fakes: int,
        subject: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        """How a number was measured; the digest of `measure` tells whether two numbers can be compared."""
        spec = self.reals.dataset.spec
        measure = {
            "score": score,
            "evaluator": dict(member.provenance),
            "extractor": group.facts(member.evaluator.layer),
            "reals": self.reals.facts,
            **({"held_out": self.held_out.facts} if self.held_out and member.evaluator.held_out else {}),
            "fakes": fakes,
            "shape": str(spec),
            "precision": group.extractor.precision,
        }
        return {
            "protocol": self.protocol.name,
            "measure": measure,
            "digest": digest_of(measure)[:16],
            "subject": {**subject, "seed": self.seed},
            "versions": versions(),
            "seconds": seconds,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def subject_of(recipe: Recipe, images_seen: int) -> dict[str, Any]:
    """What is scored, for the card: which weights of which training."""
    weights = "averaged" if recipe.ema_half_life else "raw"
    return {"weights": weights, "images_seen": images_seen, "training_seed": recipe.seed}


def fakes_of(
    network: nn.Module, architecture: Architecture, images: ImageSpec, count: int, device: torch.device, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` fakes of a generator and their labels, in batches, as a function of `seed`; all classes alike often."""
    latents = draw_latents(architecture, count, device, seeds.derive(seed, "evaluate"))
    labels = balanced_labels(count, images.classes, device)
    start = 0
    for batch in draw(network, architecture, latents, labels):
        yield batch, labels[start : start + len(batch)]
        start += len(batch)


def _provenance(zoo: Zoo, kind: str, choice: Choice) -> dict[str, Any]:
    """Where a part comes from and how it is set; of a file its name and its sha256, wherever it lies."""
    found = zoo.provenance(kind, choice)
    if "location" in found:
        found["location"] = last_part(found["location"])
    options = zoo.options(kind, choice).items()
    return {**found, "options": {k: last_part(v) if isinstance(v, str) and ".py:" in v else v for k, v in options}}


def _refuse_twins(members: Sequence[RunningEvaluator]) -> None:
    """Two evaluators that give a score of one name would be told apart by nobody."""
    owners: dict[str, Choice] = {}
    for member in members:
        for name in member.evaluator.scores:
            if name in owners:
                raise UsageError(f"{owners[name]} and {member.choice} both give the score {name!r}: name one of them.")
            owners[name] = member.choice


def _computed(member: RunningEvaluator) -> dict[str, float]:
    """The scores of an evaluator, held to what it promises. Raises GanzooError for one that is not."""
    found = member.evaluator.compute()
    promised = member.evaluator.scores
    if found.keys() != promised.keys():
        raise GanzooError(
            f"Evaluator {member.name} gave the scores {', '.join(found) or 'none'}, and promised {', '.join(promised)}."
        )
    for name, value in found.items():
        low, high = promised[name].low, promised[name].high
        if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise GanzooError(
                f"Evaluator {member.name} gave {name} = {value!r}, which is no number between {low} and {high}."
            )
    return {name: float(value) for name, value in found.items()}
