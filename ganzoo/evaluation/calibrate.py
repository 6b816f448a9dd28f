"""Calibration: the scores of real images that are corrupted by known, increasing amounts.

    CACHE/calibration/KEY.json

Each file holds the scores of one evaluator on one corruption. The key is a digest of everything they depend on: the
images before the corruption, the corruption, the evaluator, the extractor, the reals and the versions. The file also
holds these facts and a digest of itself; a damaged file, or one with other facts, is ignored. Files are written
atomically, so any number of processes may share the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.protocol import Protocol
from ganzoo.evaluation.corruptions import (
    BLURS,
    NOISES,
    Corruption,
    add_noise,
    blur,
    choose_images,
    corruption_label,
    missing_counts,
    uniform_noise,
)
from ganzoo.evaluation.features import ExtractorGroup, RunningEvaluator, versions
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.cache import Cache

_CACHE = Cache("calibration")
#: number of training images that the corruption "memorised" repeats
MEMORISED = 100
#: the dataset of the corruption "other dataset" if none is named
_DEFAULT_OTHER = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}

Row = dict[str, Any]


def calibrate(
    zoo: Zoo,
    dataset: Choice,
    evaluators: Sequence[Choice],
    device: torch.device,
    protocol: Protocol,
    samples: int | None = None,
    other: Choice | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Score corrupted real images as if they were fakes; one row for each corruption and score.

    A row has `damage` and `strength` (the corruption), `score`, `value`, `better`, `digest` (of the card) and `images`.
    `samples` real images are taken (None: as many as the protocol says, or all there are) from the split that the
    reals are not from. `other` is the dataset of the corruption "other dataset".
    Raises UsageError if there are fewer than `samples` images or the images of `other` have another shape, and
    GanzooError if a score would be meaningless.
    """
    calibration = Calibration(zoo, dataset, evaluators, device, protocol, samples, note)
    if samples is not None and samples > len(calibration.pool):
        raise UsageError(
            f"--samples {samples}: {dataset} has only {len(calibration.pool)} images in its {calibration.split} split, "
            f"which stand for the fakes; ask for at most so many."
        )
    other_images = _other_dataset(zoo, dataset, calibration, other)
    return [row for corruption in _corruptions(calibration, other_images) for row in calibration.rows(corruption)]


def real_baseline(
    zoo: Zoo,
    dataset: Choice,
    evaluators: Sequence[Choice],
    device: torch.device,
    protocol: Protocol,
    samples: int | None = None,
) -> dict[str, float]:
    """The scores of uncorrupted real images of the other split, by name: the best a generator can be expected to do.

    `samples` images are taken, or all there are if these are fewer.
    """
    calibration = Calibration(zoo, dataset, evaluators, device, protocol, samples)
    return {row["score"]: row["value"] for row in calibration.rows(calibration.uncorrupted())}


class Calibration:
    """Evaluators, and the real images that they score as if they were fakes.

    The constructor reads the dataset. The scorer is built on first use, because that may train a domain extractor,
    which takes minutes: a wrong request is refused before.
    """

    def __init__(
        self,
        zoo: Zoo,
        dataset: Choice,
        evaluators: Sequence[Choice],
        device: torch.device,
        protocol: Protocol,
        samples: int | None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.note = note
        self.split = protocol.other_split
        self.pool: Dataset = zoo.build("datasets", dataset, split=self.split)
        self.count = min(samples or protocol.samples, len(self.pool))
        self._chosen = tuple(evaluators)
        self._build: Callable[[Sequence[Choice]], Scorer] = lambda chosen: Scorer(
            zoo, dataset, chosen, device, protocol, self.count
        )
        #: names of evaluators -> their scorer: all evaluators, or those whose scores are not in the cache
        self._scorers: dict[tuple[str, ...], Scorer] = {}

    @property
    def scorer(self) -> Scorer:
        """The scorer of all evaluators."""
        return self._scorer(self._chosen)

    def _scorer(self, evaluators: Sequence[Choice]) -> Scorer:
        names = tuple(map(str, evaluators))
        if names not in self._scorers:
            self._scorers[names] = self._build(evaluators)
        return self._scorers[names]

    @property
    def _running(self) -> list[tuple[ExtractorGroup, RunningEvaluator]]:
        """Each evaluator with its group, in the order they were asked for."""
        pairs = [(group, running) for group in self.scorer.groups for running in group.evaluators]
        return sorted(pairs, key=lambda pair: self._chosen.index(pair[1].choice))

    def uncorrupted(self) -> Corruption:
        """The real images as they are."""
        return Corruption("none", 0, choose_images(self.pool, self.count))

    def rows(self, corruption: Corruption) -> list[Row]:
        """The rows of a corruption. Scores come from the cache; the missing ones are computed in one pass."""
        pairs = [pair for pair in self._running if len(corruption) >= pair[1].evaluator.minimum]
        keys = {str(running.choice): self._key(group, running, corruption) for group, running in pairs}
        scores_of = {name: _CACHE.load_scores(key) for name, key in keys.items()}
        missing = [running for _, running in pairs if not scores_of[str(running.choice)]]
        if missing:
            lines = {line["score"]: line for line in self._score(missing, corruption)}
            for running in missing:
                name = str(running.choice)
                found = {score: _cached_fields(lines[score]) for score in running.evaluator.scores}
                _CACHE.save_scores(keys[name], found)
                scores_of[name] = found
        columns = {"damage": corruption.kind, "strength": corruption.strength}
        return [
            {**columns, "score": score, **found, "images": len(corruption)}
            for scores in scores_of.values()
            for score, found in (scores or {}).items()
        ]

    def _score(self, evaluators: Sequence[RunningEvaluator], corruption: Corruption) -> list[dict[str, Any]]:
        self.note(f"Scoring {len(corruption)} real images: {corruption_label(corruption.kind, corruption.strength)}.")
        subject = {"weights": "none: real images", "damage": corruption.kind, "strength": corruption.strength}
        return self._scorer([running.choice for running in evaluators]).score(corruption.batches(), subject)

    def _key(self, group: ExtractorGroup, running: RunningEvaluator, corruption: Corruption) -> dict[str, Any]:
        """Everything that the scores depend on: the key of their cache entry."""
        held_out = self.scorer.held_out if running.evaluator.held_out else None
        return {
            "condition": corruption.facts(),
            "evaluator": dict(running.provenance),
            "extractor": group.facts(running.evaluator.layer),
            "reals": self.scorer.reals.facts,
            "held_out": held_out.facts if held_out else None,
            "versions": versions(),
        }


def _cached_fields(line: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a score that are cached."""
    return {"value": line["value"], "better": line["better"], "digest": line["card"]["digest"]}


# --- the corruptions --------------------------------------------------------------------------------------------------


def _corruptions(calibration: Calibration, other_images: Corruption | None) -> Iterator[Corruption]:
    """All corruptions of a calibration, the real images as they are first."""
    uncorrupted = calibration.uncorrupted()
    images, labels = uncorrupted.source
    yield uncorrupted
    for deviation in NOISES:
        yield Corruption("noise", deviation, uncorrupted.source, lambda images, sd=deviation: add_noise(images, sd))
    for width in BLURS:
        yield Corruption("blur", width, uncorrupted.source, lambda images, sd=width: blur(images, sd))
    for missing in missing_counts(calibration.pool.spec.classes):
        kept = labels >= missing
        yield Corruption("missing classes", missing, (images[kept], labels[kept]))
    memorised, memorised_labels = choose_images(calibration.scorer.train, MEMORISED)
    repeats = torch.arange(len(images)) % len(memorised)
    yield Corruption("memorised", len(memorised), (memorised[repeats], memorised_labels[repeats]))
    if other_images is not None:
        yield other_images
    yield Corruption("uniform noise", 255, uncorrupted.source, uniform_noise)


def _other_dataset(zoo: Zoo, dataset: Choice, calibration: Calibration, other: Choice | None) -> Corruption | None:
    """Images of another dataset, as a corruption.

    Without `other`, the default dataset is used; None if there is none, it is not on this machine, or its shape
    differs.

    Raises UsageError if the images of `other` have another shape.
    """
    choice = other
    if choice is None:
        default_name = _DEFAULT_OTHER.get(short_name(dataset))
        if default_name is None:
            return None
        choice = Choice(default_name, dataset.options)
    try:
        with _offline(other is None):
            found: Dataset = zoo.build("datasets", choice, split=calibration.split)
    except GanzooError:
        if other is not None:
            raise
        calibration.note(f"{choice} is not on this machine: the calibration goes without images of another dataset.")
        return None
    ours, theirs = calibration.pool.spec, found.spec
    if str(ours) != str(theirs):
        if other is None:
            return None
        raise UsageError(f"--other {choice} has images of {theirs}, and {dataset} of {ours}: name one of that shape.")
    return Corruption("other dataset", str(choice), choose_images(found, calibration.count))


class _offline:
    """Context manager that forbids downloads if `active`: a dataset the user did not name must not be downloaded."""

    def __init__(self, active: bool) -> None:
        self.active = active

    def __enter__(self) -> None:
        self.before = os.environ.get("GANZOO_OFFLINE")
        if self.active:
            os.environ["GANZOO_OFFLINE"] = "1"

    def __exit__(self, *error: object) -> None:
        os.environ.pop("GANZOO_OFFLINE", None)
        if self.before is not None:
            os.environ["GANZOO_OFFLINE"] = self.before
