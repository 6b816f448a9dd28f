"""Scoring: evaluators compare fakes with reals. Each score has a card, which describes how it was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Dataset, Extractor
from ganzoo.contract.errors import UsageError
from ganzoo.contract.protocol import Protocol
from ganzoo.engine import distributed, seeds
from ganzoo.engine.device import device_name
from ganzoo.evaluation.classifier import accuracy_of
from ganzoo.evaluation.fakes import FakeBatches
from ganzoo.evaluation.features import ExtractorGroup, Reals, RunningEvaluator, extractor_of, last_part, versions
from ganzoo.evaluation.ranks import AllProcesses, Features, Images, OneProcess, RandomFeatures, ScoringCancelled
from ganzoo.evaluation.score_checks import checked_scores, require_enough, require_unique_scores
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
        known_sha256: Mapping[str, str] | None = None,
    ) -> None:
        """`samples` is the number of fakes of each score (None: the protocol's), `seed` the seed of their latents.

        `conditional`: whether a fake is of the class of its label; if not, `unconditional` is the reason for messages.
        `known_sha256` holds the sha256 of the images of splits that need not be read for it, see `sha256_of_reals`.
        `check_train` is called with the training split before an extractor sees it; it may raise.
        Raises UsageError if two evaluators have a score of the same name, or if a score would be meaningless: the wrong
        split of reals, too few images, or an evaluator of class labels with an unconditional generator.
        """
        self.protocol, self.device, self.seed = protocol, device, seed
        self._unconditional = unconditional
        #: the sha256 of the images of each split that is in use
        self.sha256_of_reals = dict(known_sha256 or {})
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
            require_unique_scores(running)
            for each in running:
                self._require_meaningful(each, conditional)
                require_enough(each, {"generated": self.samples})
            self.reals = self._open_reals(zoo, dataset, protocol.split)
            self.held_out: Reals | None = None
            if any(each.evaluator.held_out for each in running):
                self.held_out = self._open_reals(zoo, dataset, protocol.other_split)
            self.train = self._train_split(zoo, dataset)
            check_train(self.train)
            for each in running:
                require_enough(each, self._real_counts(each))
            self.groups = [
                self._group(zoo, dataset, name, [each for each in running if str(extractor_of(each.evaluator)) == name])
                for name in dict.fromkeys(str(extractor_of(each.evaluator)) for each in running)
            ]

    @property
    def names(self) -> list[str]:
        """The names of all scores."""
        return [name for group in self.groups for running in group.evaluators for name in running.evaluator.scores]

    def _open_reals(self, zoo: Zoo, dataset: Choice, split: str) -> Reals:
        reals = Reals(zoo, dataset, split, self.sha256_of_reals.get(split, ""))
        self.sha256_of_reals[split] = str(reals.facts["sha256"])
        return reals

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
        return self._open_reals(zoo, dataset, "test")

    def score(
        self,
        fakes: Images,
        subject: Mapping[str, Any],
        stopped: Callable[[], bool] = lambda: False,
        prepared: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[dict[str, Any]]:
        """Score fakes and return one dictionary a score: `score` (its name), `value`, `better` and `card`.

        `fakes` are batches of uint8 images (n, C, H, W) and the labels (n,) they were generated for. `subject`
        describes the generator and is stored in the cards. `prepared` holds facts of how the fakes were made ready,
        `fakes_resized` and `standing_statistics`: such scores compare with others of the same facts. The random state
        of the process is unchanged afterwards.
        Raises GanzooError if a score would be meaningless, and ScoringCancelled once `stopped()` is true.
        """
        return self._scored(fakes, subject, stopped, prepared, OneProcess())

    def score_on_all_processes(
        self, fakes: FakeBatches, subject: Mapping[str, Any], stopped: Callable[[], bool] = lambda: False
    ) -> list[dict[str, Any]]:
        """What `score` returns, with the same bits, computed by all processes of a training. Each must call this.

        Only the first process gets the scores, the others an empty list. It computes them alone where features need
        random numbers, or where the processes differ in what the last digits of features depend on. Raises as `score`
        does, on all processes; `stopped()` may become true on any of them.
        """
        if distributed.world_size() == 1:
            return self.score(fakes, subject, stopped)
        if distributed.same_on_all_ranks(self._decisive_facts()):
            try:
                return self._scored(fakes, subject, stopped, {}, AllProcesses())
            except RandomFeatures:
                pass  # every process is told of it in the same round
        found: list[dict[str, Any]] | None = []
        with distributed.all_or_none():
            if distributed.rank() == 0:
                try:
                    found = self.score(fakes, subject, stopped)
                except ScoringCancelled:
                    found = None
        if distributed.any_rank(found is None):
            raise ScoringCancelled("The scoring was stopped.")
        return found or []

    def _decisive_facts(self) -> str:
        """What the last digits of features depend on, in this process: device, threads, versions and extractors."""
        facts = [group.facts(layer) for group in self.groups for layer in group.extractor.layers]
        machine = [device_name(self.device), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()]
        return json.dumps([machine, versions(), facts, self.reals.facts, self.samples], sort_keys=True, default=str)

    def _scored(
        self,
        fakes: Images,
        subject: Mapping[str, Any],
        stopped: Callable[[], bool],
        prepared: Mapping[str, Any],
        processes: OneProcess | AllProcesses,
    ) -> list[dict[str, Any]]:
        started = time.perf_counter()
        with seeds.aside(0, "reals"):  # the cached statistics of reals must not depend on the seed of the latents
            for group in self.groups:
                group.load_or_compute_reals(self.reals, self.held_out, stopped, processes)
        with seeds.aside(self.seed, "evaluate"):
            count = 0

            def use(features: Features, labels: Tensor) -> None:
                nonlocal count
                for number, group in enumerate(self.groups):
                    own = {layer: features[f"{number} {layer}"] for layer in group.layers}
                    group.use(own, labels, "fakes", group.evaluators)
                count += len(labels)

            processes.each_batch(fakes, self._features_of_fakes, use, stopped)
            found = processes.decided(lambda: self._computed(count))
        if not processes.holds_evaluators:
            return []
        seconds = round(time.perf_counter() - started, 3)
        pairs = [(group, running) for group in self.groups for running in group.evaluators]
        about = {**subject, "seed": self.seed}
        return [
            {
                "score": name,
                "value": value,
                "better": running.evaluator.scores[name].better,
                "card": self._card(group, running, name, count, about, prepared, seconds),
            }
            for (group, running), values in zip(pairs, found, strict=True)
            for name, value in values.items()
        ]

    def _features_of_fakes(self, images: Tensor, labels: Tensor) -> Features:
        """The features of all extractors, named by the position of the extractor and the layer."""
        return {
            f"{number} {layer}": features
            for number, group in enumerate(self.groups)
            for layer, features in group.extract(images, "fakes", group.evaluators).items()
        }

    def _computed(self, count: int) -> list[dict[str, float]]:
        """The scores of each evaluator after `count` fakes."""
        found = []
        for running in (running for group in self.groups for running in group.evaluators):
            require_enough(running, {"generated": count, **self._real_counts(running)})
            found.append(checked_scores(running))
        return found

    def _card(
        self,
        group: ExtractorGroup,
        running: RunningEvaluator,
        score: str,
        fakes: int,
        subject: Mapping[str, Any],
        prepared: Mapping[str, Any],
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
            **prepared,
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


def _provenance(zoo: Zoo, kind: str, choice: Choice) -> dict[str, Any]:
    """Distribution and version (or file name and sha256) of a part and its options: the same on every machine."""
    found = zoo.provenance(kind, choice)
    if "location" in found:
        found["location"] = last_part(found["location"])
    options = zoo.options(kind, choice).items()
    return {**found, "options": {k: last_part(v) if isinstance(v, str) and ".py:" in v else v for k, v in options}}
