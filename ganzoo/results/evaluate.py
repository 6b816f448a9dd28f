"""Evaluate: score a trained generator and append the scores, with their cards, to the run's scores.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.protocol import Protocol, check_samples
from ganzoo.evaluation.scorer import Scorer, fakes_of, subject_of
from ganzoo.registry.observers import Observers
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.training_images import check_training_images
from ganzoo.storage.run import Run

DEFAULT_EVALUATORS = (Choice("fid-domain"),)
#: of datasets without labels, from which no domain extractor can learn
UNLABELLED_EVALUATORS = (Choice("sliced-wasserstein"),)


def default_evaluators(classes: int, note: Callable[[str], None]) -> tuple[Choice, ...]:
    """The evaluators for a dataset with this number of classes, where none is named. A note says what is special."""
    if classes > 1:
        return DEFAULT_EVALUATORS
    note("The images have no labels, so they are scored by sliced-wasserstein and not by fid-domain.")
    return UNLABELLED_EVALUATORS


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
    changed_images: bool = False,
    note: Callable[[str], None] = print,
    on_fakes: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Score the newest generator of the run in `path`, or the one that `at` names: see `load_generator`.

    `samples` fakes (None: as many as the protocol says) are drawn from `seed`. Each score is appended to the run's
    scores.jsonl, passed to the observers of the run, and returned. Where scores.jsonl cannot be written, they are
    returned all the same, observers are not called, and `note` receives a message. Evaluators, protocol and number of
    fakes are those of the run's recipe if they are not given; if the recipe has none, the evaluator is `fid-domain`, or
    `sliced-wasserstein` where the images have no labels.

    The dataset is compared with what the run recorded of it: other images are noted, and named in the card.
    `note` receives messages for the user. `on_fakes` is called with the number of fakes scored so far, and that of all
    fakes. Nothing but scores.jsonl is written.

    Raises UsageError for fewer than 2 samples. Raises GanzooError if shape or classes of the images have changed and
    `changed_images` is not set, if a score would be meaningless, or if a part of the recipe (also an observer) cannot
    be built.
    """
    check_samples(samples)
    trained = load_generator(path, zoo, device, at, changed_code, note)
    zoo, recipe = recorded_zoo(trained.run, zoo), trained.run.recipe
    assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
    # built before anything is computed: an observer whose file is gone must not fail after the scoring
    observers = Observers({zoo.full_name("observers", c): zoo.build("observers", c) for c in recipe.observers})
    if protocol is None:
        protocol, samples = recipe.protocol, samples or recipe.score_samples or None
    images: dict[str, str] = {}
    scorer = Scorer(
        zoo,
        recipe.dataset,
        tuple(evaluators) or recipe.evaluators or default_evaluators(trained.images.classes, note),
        device,
        Protocol.named(protocol),
        samples,
        seed,
        conditional=trained.architecture.conditional,
        check_train=lambda train: images.update(check_training_images(trained.run, train, changed_images, zoo.note)),
    )
    progress = _progress_when_saved(trained)
    when = {"step": progress.step, "images": progress.images, "epoch": progress.epochs, "training": False}
    fakes = fakes_of(trained.network, trained.architecture, trained.images, scorer.samples, device, seed)
    counted = _counted(fakes, scorer.samples, on_fakes)
    scores = scorer.score(counted, {**subject_of(recipe, trained.images_seen), **images})
    lines = [{**score, **when} for score in scores]
    _keep(trained.run, lines, progress, observers, note)
    return lines


def _keep(
    run: Run, lines: list[dict[str, Any]], progress: TrainingProgress, observers: Observers, note: Callable[[str], None]
) -> None:
    """Append the lines of scores to the run and call its observers; where it cannot be written, only note that."""
    file = run.path / "scores.jsonl"
    try:
        run.append("scores.jsonl", *lines)
    except OSError as error:
        return note(f"The scores are not kept: {file} cannot be written ({error.strerror or error}).")
    try:
        observers.tell("on_score", run=run, progress=progress, scores=lines)
    except GanzooError as error:
        raise GanzooError(f"{error} The scores are in {file}.") from error


def _counted(
    fakes: Iterable[tuple[Tensor, Tensor]], total: int, on_fakes: Callable[[int, int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of fakes; `on_fakes` is called before the first and after each."""
    done = 0
    on_fakes(done, total)
    for images, labels in fakes:
        yield images, labels
        done += len(images)
        on_fakes(done, total)


def _progress_when_saved(trained: TrainedGenerator) -> TrainingProgress:
    """The progress of the training when the generator was saved; files of version 0.1 do not hold it."""
    if trained.step is not None and trained.epochs is not None:
        return TrainingProgress(trained.step, trained.images_seen, trained.epochs)
    lines = [line for line in trained.run.lines("stats.jsonl") if line["images"] <= trained.images_seen]
    last: dict[str, Any] = lines[-1] if lines else {"step": 0, "epoch": 0.0}
    return TrainingProgress(last["step"], trained.images_seen, last.get("epoch", 0.0))
