"""Evaluate: score a trained generator, and write the scores down with the cards that say how they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.protocol import Protocol
from ganzoo.evaluation.scorer import Scorer, fakes_of, subject_of
from ganzoo.registry.observers import Observers
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator, load_generator

DEFAULT_EVALUATORS = (Choice("fid-domain"),)


def evaluate(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    evaluators: Sequence[Choice] = (),
    samples: int | None = None,
    protocol: str | None = None,
    seed: int = 0,
    at: int | str | None = None,
    changed_code: bool = False,
) -> list[dict[str, Any]]:
    """Score the newest generator of the run in `path`, the one at `at` images, or the "best" one.

    `samples` fakes (None: as many as the protocol says) are drawn from `seed`. Each score is appended to the run's
    scores.jsonl and returned. What is not given is as in the run's recipe: evaluators (the domain's Fréchet distance
    where it has none), protocol and number of fakes.
    Raises GanzooError where a score would mean nothing; the run itself is never touched.
    """
    trained = load_generator(path, zoo, device, at, changed_code)
    recipe = trained.run.recipe
    assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
    chosen = tuple(evaluators) or recipe.evaluators or DEFAULT_EVALUATORS
    if samples is not None and samples < 2:
        raise UsageError(f"--samples {samples}: a score needs at least 2 images, and means little below 1000.")
    if protocol is None:
        protocol, samples = recipe.protocol, samples or recipe.score_samples or None
    scorer = Scorer(
        zoo,
        recipe.dataset,
        chosen,
        device,
        Protocol.named(protocol),
        samples,
        seed,
        conditional=trained.architecture.conditional,
    )
    subject = subject_of(recipe, trained.images_seen)
    fakes = fakes_of(trained.network, trained.architecture, trained.images, scorer.samples, device, seed)
    progress = _moment(trained)
    when = {"step": progress.step, "images": progress.images, "epoch": progress.epochs, "training": False}
    lines = [{**line, **when} for line in scorer.score(fakes, subject)]
    for line in lines:
        trained.run.append("scores.jsonl", line)
    observers = Observers({zoo.full_name("observers", c): zoo.build("observers", c) for c in recipe.observers})
    observers.tell("on_score", run=trained.run, progress=progress, scores=lines)
    return lines


def _moment(trained: TrainedGenerator) -> TrainingProgress:
    """When the generator that was scored was saved."""
    lines = [line for line in trained.run.lines("stats.jsonl") if line["images"] <= trained.images_seen]
    last: dict[str, Any] = lines[-1] if lines else {"step": 0, "epoch": 0.0}
    return TrainingProgress(last["step"], trained.images_seen, last["epoch"])
