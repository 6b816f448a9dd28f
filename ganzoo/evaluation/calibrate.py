"""Calibrate: the scale of an evaluator on a dataset, from real images that are damaged more and more.

    CACHE/calibration/KEY.json

Each entry holds what one evaluator said of one condition. The key is a digest of all it depends on: the images before
the damage, the damage, the evaluator, the extractor, the reals, the versions. The facts behind it and a digest lie in
the file itself; one that is damaged, or of other facts, counts as absent. Files are whole or absent, so any number of
processes may share the folder.
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
#: training images that a generator which knows nothing else repeats
MEMORISED = 100
#: what stands for "something else altogether" where no dataset is named
_OTHERS = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}

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
    """A row for each condition and score: what real images under that damage score in the place of fakes.

    They are `samples` images (None: as the protocol says, or all there are) of the split that the reals are not from.
    `other` names the dataset of the last condition but one. Raises GanzooError where a score would mean nothing.
    """
    scale = Calibration(zoo, dataset, evaluators, device, protocol, samples, note)
    if samples is not None and samples > len(scale.pool):
        raise UsageError(
            f"--samples {samples}: {dataset} has only {len(scale.pool)} images in its {scale.split} split, which "
            f"stand for the fakes; ask for at most so many."
        )
    return [row for condition in _conditions(zoo, dataset, scale, other) for row in scale.rows(condition)]


def real_baseline(
    zoo: Zoo,
    dataset: Choice,
    evaluators: Sequence[Choice],
    device: torch.device,
    protocol: Protocol,
    samples: int | None = None,
) -> dict[str, float]:
    """What undamaged real images of the other split score, by the name of the score: nothing real does better.

    They are `samples` images, or all there are where those are fewer.
    """
    scale = Calibration(zoo, dataset, evaluators, device, protocol, samples)
    return {row["score"]: row["value"] for row in scale.rows(scale.undamaged())}


class Calibration:
    """Evaluators, and the real images that are shown to them as fakes."""

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
        self.split = "test" if protocol.split == "train" else "train"
        self.pool: Dataset = zoo.build("datasets", dataset, split=self.split)
        self.count = min(samples or protocol.samples, len(self.pool))
        self._build: Callable[[Sequence[Choice]], Scorer] = lambda chosen: Scorer(
            zoo, dataset, chosen, device, protocol, self.count
        )
        self.scorer = self._build(evaluators)
        #: by the evaluators they have: those that are asked again when the others are known
        self._scorers = {tuple(map(str, evaluators)): self.scorer}
        members = [(group, member) for group in self.scorer.groups for member in group.members]
        self.members = sorted(members, key=lambda pair: list(evaluators).index(pair[1].choice))

    def undamaged(self) -> Corruption:
        """The real images as they are."""
        return Corruption("none", 0, choose_images(self.pool, self.count))

    def rows(self, condition: Corruption) -> list[Row]:
        """The scores of a condition: what is known of it, and what is not is measured in one pass."""
        members = [pair for pair in self.members if len(condition) >= pair[1].evaluator.minimum]
        keys = {str(member.choice): self._key(group, member, condition) for group, member in members}
        known = {name: _CACHE.load_scores(key) for name, key in keys.items()}
        missing = [member for _, member in members if not known[str(member.choice)]]
        if missing:
            lines = {line["score"]: line for line in self._lines(missing, condition)}
            for member in missing:
                name = str(member.choice)
                found = {score: _told(lines[score]) for score in member.evaluator.scores}
                _CACHE.save_scores(keys[name], found)
                known[name] = found
        where = {"damage": condition.damage, "strength": condition.strength}
        return [
            {**where, "score": score, **found, "images": len(condition)}
            for scores in known.values()
            for score, found in (scores or {}).items()
        ]

    def _lines(self, members: Sequence[RunningEvaluator], condition: Corruption) -> list[dict[str, Any]]:
        self.note(f"Scoring {len(condition)} real images: {corruption_label(condition.damage, condition.strength)}.")
        names = tuple(str(member.choice) for member in members)
        if names not in self._scorers:
            self._scorers[names] = self._build([member.choice for member in members])
        subject = {"weights": "none: real images", "damage": condition.damage, "strength": condition.strength}
        return self._scorers[names].score(condition.batches(), subject)

    def _key(self, group: ExtractorGroup, member: RunningEvaluator, condition: Corruption) -> dict[str, Any]:
        """All that an entry depends on."""
        held_out = self.scorer.held_out if member.evaluator.held_out else None
        return {
            "condition": condition.facts(),
            "evaluator": dict(member.provenance),
            "extractor": group.facts(member.evaluator.layer),
            "reals": self.scorer.reals.facts,
            "held_out": held_out.facts if held_out else None,
            "versions": versions(),
        }


def _told(line: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a score."""
    return {"value": line["value"], "better": line["better"], "digest": line["card"]["digest"]}


# --- the conditions ---------------------------------------------------------------------------------------------------


def _conditions(zoo: Zoo, dataset: Choice, scale: Calibration, other: Choice | None) -> Iterator[Corruption]:
    undamaged = scale.undamaged()
    images, labels = undamaged.source
    foreign = _foreign(zoo, dataset, scale, other)  # a refusal comes before any work
    yield undamaged
    for deviation in NOISES:
        yield Corruption("noise", deviation, undamaged.source, lambda images, sd=deviation: add_noise(images, sd))
    for width in BLURS:
        yield Corruption("blur", width, undamaged.source, lambda images, sd=width: blur(images, sd))
    for missing in missing_counts(scale.pool.spec.classes):
        kept = labels >= missing
        yield Corruption("missing classes", missing, (images[kept], labels[kept]))
    memorised, their = choose_images(scale.scorer.train, MEMORISED)
    repeats = torch.arange(len(images)) % len(memorised)
    yield Corruption("memorised", len(memorised), (memorised[repeats], their[repeats]))
    if foreign is not None:
        yield foreign
    yield Corruption("uniform noise", 255, undamaged.source, uniform_noise)


def _foreign(zoo: Zoo, dataset: Choice, scale: Calibration, other: Choice | None) -> Corruption | None:
    """Images of another dataset; None where none was named and the usual one is not here, or not of this shape."""
    choice = other
    if choice is None:
        usual = _OTHERS.get(short_name(dataset))
        if usual is None:
            return None
        choice = Choice(usual, dataset.options)
    try:
        with _offline(other is None):
            found: Dataset = zoo.build("datasets", choice, split=scale.split)
    except GanzooError:
        if other is not None:
            raise
        scale.note(f"{choice} is not here: the scale has uniform noise at its end.")
        return None
    ours, theirs = scale.pool.spec, found.spec
    if str(ours) != str(theirs):
        if other is None:
            return None
        raise UsageError(f"--other {choice} has images of {theirs}, and {dataset} of {ours}: name one of that shape.")
    return Corruption("other dataset", str(choice), choose_images(found, scale.count))


class _offline:
    """Nothing is fetched inside, if so wanted: a dataset nobody asked for is taken where it is there, and only then."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def __enter__(self) -> None:
        self.before = os.environ.get("GANZOO_OFFLINE")
        if self.wanted:
            os.environ["GANZOO_OFFLINE"] = "1"

    def __exit__(self, *error: object) -> None:
        os.environ.pop("GANZOO_OFFLINE", None)
        if self.before is not None:
            os.environ["GANZOO_OFFLINE"] = self.before
