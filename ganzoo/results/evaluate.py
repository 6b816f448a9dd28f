"""Evaluate: score a trained generator and append the scores, with their cards, to the run's scores.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError
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
    scores.jsonl, passed to the observers of the run, and returned. Evaluators, protocol and number of fakes are those
    of the run's recipe if they are not given; the evaluator is `fid-domain` if the recipe has none.
    Raises GanzooError if a score would be meaningless, or if a part (also an observer) of the recipe cannot be built.
    Nothing but scores.jsonl is written.
    """
    if samples is not None and samples < 2:
        raise UsageError(f"--samples {samples}: a score needs at least 2 images, and means little below 1000.")
    trained = load_generator(path, zoo, device, at, changed_code)
    recipe = trained.run.recipe
    assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
    # built before anything is computed: an observer whose file is gone must not fail after the scoring
    observers = Observers({zoo.full_name("observers", c): zoo.build("observers", c) for c in recipe.observers})
    if protocol is None:
        protocol, samples = recipe.protocol, samples or recipe.score_samples or None
    scorer = Scorer(
        zoo,
        recipe.dataset,
        tuple(evaluators) or recipe.evaluators or DEFAULT_EVALUATORS,
        device,
        Protocol.named(protocol),
        samples,
        seed,
        conditional=trained.architecture.conditional,
    )
    progress = _progress_when_saved(trained)
    when = {"step": progress.step, "images": progress.images, "epoch": progress.epochs, "training": False}
    fakes = fakes_of(trained.network, trained.architecture, trained.images, scorer.samples, device, seed)
    scores = scorer.score(fakes, subject_of(recipe, trained.images_seen))
    lines = [{**score, **when} for score in scores]
    trained.run.append("scores.jsonl", *lines)
    try:
        observers.tell("on_score", run=trained.run, progress=progress, scores=lines)
    except GanzooError as error:
        raise GanzooError(f"{error} The scores are in {trained.run.path / 'scores.jsonl'}.") from error
    return lines


def _progress_when_saved(trained: TrainedGenerator) -> TrainingProgress:
    """The progress of the training when the generator was saved."""
    lines = [line for line in trained.run.lines("stats.jsonl") if line["images"] <= trained.images_seen]
    last: dict[str, Any] = lines[-1] if lines else {"step": 0, "epoch": 0.0}
    return TrainingProgress(last["step"], trained.images_seen, last["epoch"])
