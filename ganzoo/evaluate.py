"""Evaluate: one feature pass an extractor, many scores, each with a card that says how it was made."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.assembly import Trained, open_trained, short_name
from ganzoo.contract.components import Dataset, Evaluator, Extractor
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import Moment
from ganzoo.contract.recipe import Choice
from ganzoo.engine import seeds
from ganzoo.engine.sampler import balanced_labels, draw, draw_latents
from ganzoo.observers import Observers
from ganzoo.zoo import Zoo

DEFAULT_EVALUATORS = ("fid-domain",)
_BATCH = 500


def evaluate(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    evaluators: Sequence[Choice] = (),
    samples: int = 10_000,
    split: str = "train",
    seed: int = 0,
    at: int | None = None,
) -> list[dict[str, Any]]:
    """Score the newest generator of the run in `path` (or the one at `at` images) against the real images of `split`.

    `samples` fakes are drawn from `seed`. Each score is appended to the run's scores.jsonl and returned.
    Raises GanzooError where a score would mean nothing; the run itself is never touched.
    """
    if samples < 2:
        raise UsageError(f"--samples {samples}: a score needs at least 2 images, and means little below 1000.")
    trained = open_trained(path, zoo, device, at)
    dataset_choice = trained.run.recipe.dataset
    assert dataset_choice is not None  # noqa: S101  (a run's recipe is complete)
    built = [(choice, zoo.build("evaluators", choice)) for choice in evaluators or map(Choice, DEFAULT_EVALUATORS)]
    real = zoo.build("datasets", dataset_choice, split=split)
    train = real if split == "train" else zoo.build("datasets", dataset_choice, split="train")
    seeds.reseed(seed, "evaluate")  # an evaluator may draw; what it draws is the same every time
    results = []
    for extractor_name in dict.fromkeys(evaluator.extractor for _, evaluator in built):
        group = [(choice, evaluator) for choice, evaluator in built if evaluator.extractor == extractor_name]
        extractor: Extractor = zoo.build("extractors", Choice.parse(extractor_name)).to(device)
        extractor.bind(short_name(dataset_choice), train)
        started = time.perf_counter()
        digest = _feed(extractor, group, real, _fakes(trained, samples, seed))
        seconds = time.perf_counter() - started
        for choice, evaluator in group:
            card = {
                "evaluator": zoo.provenance("evaluators", choice) | {"options": zoo.options("evaluators", choice)},
                "extractor": {"name": extractor_name, "layer": evaluator.layer, "digest": extractor.digest},
                "dataset": {"choice": str(dataset_choice), "split": split, "sha256": digest, "images": len(real)},
                "images": str(trained.images),
                "samples": samples,
                "seed": seed,
                "weights": "averaged" if trained.run.recipe.average_half_life else "raw",
                "images_seen": trained.images_seen,
                "precision": "fp32",
                "versions": {name: version(name) for name in ("torch-ganzoo", "torch", "torchmetrics")},
                "seconds": round(seconds, 1),
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            for name, value in evaluator.compute().items():
                line = {"score": name, "value": value, "better": evaluator.directions[name], "card": card}
                trained.run.append("scores.jsonl", line)
                results.append(line)
    observers = Observers({choice.name: zoo.build("observers", choice) for choice in trained.run.recipe.observers})
    observers.tell("on_score", run=trained.run, moment=_moment(trained), scores=results)
    return results


def _moment(trained: Trained) -> Moment:
    """When the generator that was scored was saved."""
    lines = [line for line in trained.run.lines("stats.jsonl") if line["images"] <= trained.images_seen]
    last: dict[str, Any] = lines[-1] if lines else {"step": 0, "epoch": 0.0}
    return Moment(last["step"], trained.images_seen, last["epoch"])


def _feed(
    extractor: Extractor, group: Sequence[tuple[Choice, Evaluator]], real: Dataset, fakes: Iterable[Tensor]
) -> str:
    """One pass over reals and one over fakes for all evaluators of an extractor; the sha256 of the real images."""
    device = next((tensor.device for tensor in extractor.state_dict().values()), torch.device("cpu"))
    for choice, evaluator in group:
        if evaluator.layer not in extractor.layers:
            known = ", ".join(extractor.layers)
            raise UsageError(f"Evaluator {choice}: its extractor has no layer {evaluator.layer!r}; it has {known}.")
        evaluator.reset(extractor.layers[evaluator.layer], device)
    sha = hashlib.sha256()
    for images in _reals(real):
        sha.update(images.numpy().tobytes())
        _update(extractor, group, images.to(device), is_real=True)
    for images in fakes:
        _update(extractor, group, images.to(device), is_real=False)
    return sha.hexdigest()


def _update(extractor: Extractor, group: Sequence[tuple[Choice, Evaluator]], images: Tensor, is_real: bool) -> None:
    features = extractor(images)
    for _, evaluator in group:
        layer = features[evaluator.layer]
        if not bool(layer.isfinite().all()):
            raise GanzooError(f"The {'real' if is_real else 'generated'} images have features that are not finite.")
        evaluator.update(layer, is_real)


def _reals(dataset: Dataset) -> Iterator[Tensor]:
    for start in range(0, len(dataset), _BATCH):
        yield dataset.read(torch.arange(start, min(start + _BATCH, len(dataset))))[0]


def _fakes(trained: Trained, samples: int, seed: int) -> Iterator[Tensor]:
    latents = draw_latents(trained.architecture, samples, trained.device, seeds.derive(seed, "evaluate"))
    labels = balanced_labels(samples, trained.images.classes, trained.device)
    return draw(trained.network, trained.architecture, latents, labels)
