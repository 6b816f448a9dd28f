"""Scoring: evaluators compare fakes with reals. Each score has a card, which describes how it was measured."""

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
from ganzoo.evaluation.classifier import accuracy_of
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
    """Scores fake images of one dataset by several evaluators, any number of times.

    The real images pass through the extractors once, at the first score, or not at all if their statistics are cached.
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
        check_train: Callable[[Dataset], None] = lambda train: None,
        unconditional: str = "this architecture is not conditional",
    ) -> None:
        """`samples` is the number of fakes of each score (None: the protocol's), `seed` the seed of their latents.

        `conditional`: whether a fake is of the class of its label; if not, `unconditional` is the reason for messages.
        `check_train` is called with the training split before an extractor sees it; it may raise.
        Raises UsageError if two evaluators have a score of the same name, or if a score would be meaningless: the wrong
        split of reals, too few images, or an evaluator of class labels with an unconditional generator.
        """
        self.protocol, self.device, self.seed = protocol, device, seed
        self._unconditional = unconditional
        #: number of fakes of each score
        self.samples = samples or protocol.samples
        with seeds.aside(seed, "evaluate"):  # evaluators may draw random numbers; the training must not depend on that
            running = [
                RunningEvaluator(
                    choice,
                    zoo.build("evaluators", zoo.resolve("evaluators", choice)),
                    _provenance(zoo, "evaluators", choice),
                )
                for choice in evaluators
            ]
            # these checks need no dataset: they come before it is read or downloaded
            _require_unique_scores(running)
            for each in running:
                self._require_meaningful(each, conditional)
                _require_enough(each, {"generated": self.samples})
            self.reals = Reals(zoo, dataset, protocol.split)
            self.held_out: Reals | None = None
            if any(each.evaluator.held_out for each in running):
                self.held_out = Reals(zoo, dataset, protocol.other_split)
            self.train = self._train_split(zoo, dataset)
            check_train(self.train)
            for each in running:
                _require_enough(each, self._real_counts(each))
            self.groups = [
                self._group(zoo, dataset, name, [each for each in running if str(extractor_of(each.evaluator)) == name])
                for name in dict.fromkeys(str(extractor_of(each.evaluator)) for each in running)
            ]

    @property
    def names(self) -> list[str]:
        """The names of all scores."""
        return [name for group in self.groups for running in group.evaluators for name in running.evaluator.scores]

    def _train_split(self, zoo: Zoo, dataset: Choice) -> Dataset:
        for reals in (self.reals, self.held_out):
            if reals is not None and reals.split == "train":
                return reals.dataset
        train: Dataset = zoo.build("datasets", dataset, split="train")
        return train

    def _require_meaningful(self, running: RunningEvaluator, conditional: bool) -> None:
        if running.evaluator.split not in ("", self.protocol.split):
            raise UsageError(
                f"Evaluator {running.name} compares with the {running.evaluator.split} images, and protocol "
                f"{self.protocol.name} with the {self.protocol.split} images: choose another protocol, or leave it out."
            )
        if running.evaluator.conditional and not conditional:
            raise UsageError(f"Evaluator {running.name} asks for classes, and {self._unconditional}: leave it out.")

    def _real_counts(self, running: RunningEvaluator) -> dict[str, int]:
        """The numbers of real images that an evaluator compares with, for `_require_enough`."""
        counts = {f"real ({self.reals.split})": len(self.reals.dataset)}
        if running.evaluator.held_out and self.held_out is not None:
            counts[f"real ({self.held_out.split})"] = len(self.held_out.dataset)
        return counts

    def _group(self, zoo: Zoo, dataset: Choice, name: str, evaluators: list[RunningEvaluator]) -> ExtractorGroup:
        choice = Choice.parse(name)
        # options that the evaluator sets override those of the protocol
        choice = Choice(choice.name, {**self.protocol.extractors.get(choice.name, {}), **choice.options})
        extractor: Extractor = zoo.build("extractors", choice).to(self.device)
        unlabelled = self.train.spec.classes < 2
        for running in evaluators:  # before the extractor is bound, which may train it for minutes
            if unlabelled and extractor.predicts and running.evaluator.layer == extractor.predicts:
                raise UsageError(
                    f"Evaluator {running.name} needs the class of each image, and the images of {dataset} have no "
                    "labels: leave it out."
                )
        extractor.bind(short_name(dataset), self.train)
        group = ExtractorGroup(choice, _provenance(zoo, "extractors", choice), extractor, evaluators, self.device)
        group.accuracy = accuracy_of(group, str(dataset), lambda: self._test_reals(zoo, dataset), zoo.note)
        return group

    def _test_reals(self, zoo: Zoo, dataset: Choice) -> Reals:
        for reals in (self.reals, self.held_out):
            if reals is not None and reals.split == "test":
                return reals
        return Reals(zoo, dataset, "test")

    def score(
        self,
        fakes: Images,
        subject: Mapping[str, Any],
        stopped: Callable[[], bool] = lambda: False,
        resized: str = "",
    ) -> list[dict[str, Any]]:
        """Score fakes and return one dictionary a score: `score` (its name), `value`, `better` and `card`.

        `fakes` are batches of uint8 images (n, C, H, W) and the labels (n,) they were generated for. `subject`
        describes the generator and is stored in the cards. `resized` says how fakes of another size were brought to
        that of the reals: such scores compare with others that were resized alike. The random state of the process is
        unchanged afterwards.
        Raises GanzooError if a score would be meaningless, and ScoringCancelled once `stopped()` is true.
        """
        started = time.perf_counter()
        with seeds.aside(0, "reals"):  # the cached statistics of reals must not depend on the seed of the latents
            for group in self.groups:
                group.load_or_compute_reals(self.reals, self.held_out, stopped)
        with seeds.aside(self.seed, "evaluate"):
            count = self._update_fakes(cancellable(stopped, fakes))
            found = []
            for group in self.groups:
                for running in group.evaluators:
                    _require_enough(running, {"generated": count, **self._real_counts(running)})
                    found += [(group, running, *item) for item in _compute(running).items()]
        seconds = round(time.perf_counter() - started, 3)
        return [
            {
                "score": name,
                "value": value,
                "better": running.evaluator.scores[name].better,
                "card": self._card(group, running, name, count, {**subject, "seed": self.seed}, resized, seconds),
            }
            for group, running, name, value in found
        ]

    def _update_fakes(self, fakes: Images) -> int:
        count = 0
        for images, labels in fakes:
            for group in self.groups:
                group.update(images, labels, "fakes", group.evaluators)
            count += len(images)
        return count

    def _card(
        self,
        group: ExtractorGroup,
        running: RunningEvaluator,
        score: str,
        fakes: int,
        subject: Mapping[str, Any],
        resized: str,
        seconds: float,
    ) -> dict[str, Any]:
        """The card of a score. Two scores can be compared only if the digests of their `measure` are equal."""
        spec = self.reals.dataset.spec
        measure = {
            "score": score,
            "evaluator": dict(running.provenance),
            "extractor": group.facts(running.evaluator.layer),
            "reals": self.reals.facts,
            **({"held_out": self.held_out.facts} if self.held_out and running.evaluator.held_out else {}),
            "fakes": fakes,
            **({"fakes_resized": resized} if resized else {}),
            "shape": str(spec),
            "precision": group.extractor.precision,
        }
        return {
            "protocol": self.protocol.name,
            "measure": measure,
            "digest": digest_of(measure)[:16],
            **({"classifier": group.accuracy} if group.accuracy else {}),
            "subject": subject,
            "versions": versions(),
            "seconds": seconds,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def subject_of(recipe: Recipe, images_seen: int) -> dict[str, Any]:
    """The description of a generator for the card: EMA ("averaged") or raw weights, images seen, training seed."""
    weights = "averaged" if recipe.ema_half_life else "raw"
    return {"weights": weights, "images_seen": images_seen, "training_seed": recipe.seed}


def fakes_of(
    network: nn.Module, architecture: Architecture, images: ImageSpec, count: int, device: torch.device, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` fakes of a generator and their labels, in batches; they depend on `seed` only. Classes are balanced.

    The images are uint8 (n, C, H, W) and the labels int64 (n,), both on `device`.
    """
    latents = draw_latents(architecture, count, device, seeds.derive(seed, "evaluate"))
    labels = balanced_labels(count, images.classes, device)
    start = 0
    for batch in draw(network, architecture, latents, labels):
        yield batch, labels[start : start + len(batch)]
        start += len(batch)


def _provenance(zoo: Zoo, kind: str, choice: Choice) -> dict[str, Any]:
    """Distribution and version (or file name and sha256) of a part and its options: the same on every machine."""
    found = zoo.provenance(kind, choice)
    if "location" in found:
        found["location"] = last_part(found["location"])
    options = zoo.options(kind, choice).items()
    return {**found, "options": {k: last_part(v) if isinstance(v, str) and ".py:" in v else v for k, v in options}}


def _require_enough(running: RunningEvaluator, counts: Mapping[str, int]) -> None:
    """Raises UsageError if a number of `counts` (kind of image -> number) is below the evaluator's minimum."""
    for kind, count in counts.items():
        if count < running.evaluator.minimum:
            raise UsageError(
                f"Evaluator {running.name} needs at least {running.evaluator.minimum} images of each kind, and "
                f"there are {count} {kind} ones: ask for more samples, or for an evaluator that needs fewer."
            )


def _require_unique_scores(evaluators: Sequence[RunningEvaluator]) -> None:
    """Raises UsageError if two evaluators have a score of the same name."""
    owners: dict[str, Choice] = {}
    for running in evaluators:
        for name in running.evaluator.scores:
            if name in owners:
                raise UsageError(f"{owners[name]} and {running.choice} both give the score {name!r}: name one of them.")
            owners[name] = running.choice


def _compute(running: RunningEvaluator) -> dict[str, float]:
    """The scores of an evaluator. Raises GanzooError if they are not those it declares, within their bounds."""
    computed = running.evaluator.compute()
    declared = running.evaluator.scores
    if computed.keys() != declared.keys():
        raise GanzooError(
            f"Evaluator {running.name} returned the scores {', '.join(computed) or 'none'}, and declares "
            f"{', '.join(declared)}."
        )
    for name, value in computed.items():
        low, high = declared[name].low, declared[name].high
        if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise GanzooError(
                f"Evaluator {running.name} computed {name} = {value!r}, which is not a number between {low} and {high}."
            )
    return {name: float(value) for name, value in computed.items()}
