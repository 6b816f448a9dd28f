"""Evaluate: score a generator, or other images. Each score has a card; those of a run are added to scores.jsonl."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.paths import is_directory
from ganzoo.contract.protocol import Protocol, check_samples
from ganzoo.evaluation.fakes import fakes_of, subject_of
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.observers import Observers
from ganzoo.registry.recorded import recorded_zoo
from ganzoo.registry.zoo import Zoo
from ganzoo.results.image_arrays import SUFFIXES, ImageArray
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.runs import DEFAULT_EVALUATORS
from ganzoo.results.standing import check_standing_statistics, standing_facts, with_standing_statistics
from ganzoo.results.subjects import (
    Batches,
    count_of,
    fitted,
    is_run,
    open_subject,
    reals_choice,
    resize_words,
    shape_of,
    source_of,
)
from ganzoo.results.training_images import SAME, check_training_images
from ganzoo.storage.files import write_atomically
from ganzoo.storage.run import Run

#: what is done at first, and with the fakes, for messages
_READING, _FAKES = "reading the real images, loading the extractors", "drawing fakes and their features"


def default_evaluators(classes: int, note: Callable[[str], None]) -> tuple[Choice, ...]:
    """The evaluators for a dataset with this number of classes, where none is named. A note says what is special."""
    if classes < 2:
        note(
            "The images have no labels, so the features of fid-domain are of a network that is not trained: it sees "
            "noise and blur, and less of the content."
        )
    return DEFAULT_EVALUATORS


@dataclasses.dataclass(frozen=True)
class _Request:
    """How images are scored."""

    zoo: Zoo
    device: torch.device
    evaluators: tuple[Choice, ...]
    samples: int | None
    protocol: str | None
    seed: int
    against: Choice | Path | None
    resize: bool
    standing_statistics: int | None
    note: Callable[[str], None]
    on_progress: Callable[[int, int, str], None]


def evaluate(
    path: Path | ImageArray,
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
    on_progress: Callable[[int, int, str], None] = lambda done, total, doing: None,
    *,
    against: Choice | Path | None = None,
    resize: bool = False,
    save_fakes: Path | None = None,
    standing_statistics: int | None = None,
) -> list[dict[str, Any]]:
    """Score a generator of the run in `path`, the newest or the one that `at` names (see `load_generator`); or images.

    `path` may also be a `.npy` or `.npz` file of images, a folder of pictures, or an array. `against` is then the
    dataset to compare with: one of the zoo, a folder of pictures, or a file of an array.

    `samples` fakes (None: as many as the protocol says) are drawn from `seed`. Each score of a run is appended to its
    scores.jsonl, passed to the observers of the run, and returned. Where scores.jsonl cannot be written, they are
    returned all the same, observers are not called, and `note` receives a message. Evaluators, protocol and number of
    fakes are those of the run's recipe if they are not given; if there are none, the evaluator is `fid-domain`.

    The dataset is compared with what the run recorded of it: other images are noted, and named in the card. With
    `against`, a run is compared with another dataset: its scores are then returned and not appended, unless the images
    are those of the training. `resize` brings fakes of another size to that of the reals. `save_fakes` (.npy, or .npz
    with the labels) is written with the fakes of a run: to score that file gives the same scores. With
    `standing_statistics`, the statistics of batch norm are recomputed over so many batches of fakes, and the card says
    it, so that such scores have a digest of their own.
    `note` receives messages for the user. `on_progress` is called with the number of images that are done, that of all
    images, and what is done with them; the numbers are 0 where they are not known. Nothing else is written.

    Raises UsageError for fewer than 2 samples, and for images without a dataset to compare with. Raises GanzooError if
    shape or classes of the images have changed and `changed_images` is not set, if a score would be meaningless, or if
    a part of the recipe (also an observer) cannot be built.
    """
    check_samples(samples)
    check_standing_statistics(standing_statistics)
    how = (samples, protocol, seed, against, resize, standing_statistics)
    request = _Request(zoo, device, tuple(evaluators), *how, note, on_progress)
    source = source_of(path)
    if isinstance(source, Path) and is_run(source):
        return _evaluate_run(source, request, at, changed_code, changed_images, save_fakes)
    name = source.name if isinstance(source, ImageArray) else str(source)
    if isinstance(source, Path) and not any(source.iterdir()):
        Run.open(source)  # raises: it is empty
    given = {"--at": at is not None, "--accept-changed-code": changed_code, "--save-fakes": save_fakes is not None}
    given |= {"--standing-statistics": standing_statistics is not None}
    _check_images(name, given, against)
    return _evaluate_images(source, name, request)


def _check_images(name: str, given: Mapping[str, bool], against: Choice | Path | None) -> None:
    """Raises UsageError for images with options that only a run has, and without a dataset to compare with."""
    if wrong := [option for option, is_given in given.items() if is_given]:
        raise UsageError(f"{name} is no run, its images are there already: leave out {' and '.join(wrong)}.")
    if against is None:
        raise UsageError(
            f"{name} holds no run (there is no recipe.json), so say what to compare its images with: --against mnist, "
            "or --against FOLDER for a folder of pictures."
        )


def _evaluate_run(
    path: Path, request: _Request, at: int | str | None, changed_code: bool, changed_images: bool, save: Path | None
) -> list[dict[str, Any]]:
    _check_save(save)
    note, against = request.note, request.against
    trained = load_generator(path, request.zoo, request.device, at, changed_code, note)
    trained = with_standing_statistics(trained, request.standing_statistics, request.seed)
    zoo, recipe = recorded_zoo(trained.run, request.zoo), trained.run.recipe
    assert recipe.dataset is not None  # noqa: S101  (a run's recipe is complete)
    dataset = recipe.dataset if against is None else reals_choice(against, lambda channels: trained.images)
    # built before anything is computed: an observer whose file is gone must not fail after the scoring
    observers = Observers({zoo.full_name("observers", c): zoo.build("observers", c) for c in recipe.observers})
    protocol, samples = request.protocol, request.samples
    if protocol is None:
        protocol, samples = recipe.protocol, samples or recipe.score_samples or None
    facts: dict[str, Any] = {}

    def check_train(train: Dataset) -> None:
        words = zoo.note if against is None else lambda text: None
        facts.update(check_training_images(trained.run, train, changed_images or against is not None, words))
        if resized := resize_words(str(path), trained.images, train.spec, str(dataset), request.resize):
            facts["resized"] = resized

    request.on_progress(0, 0, _READING)
    scorer = Scorer(
        zoo,
        dataset,
        request.evaluators or recipe.evaluators or default_evaluators(trained.images.classes, note),
        request.device,
        Protocol.named(protocol),
        samples,
        request.seed,
        conditional=trained.architecture.conditional,
        check_train=check_train,
    )
    progress = _progress_when_saved(trained)
    when = {"step": progress.step, "images": progress.images, "epoch": progress.epochs, "training": False}
    drawn = fakes_of(
        trained.network, trained.architecture, trained.images, scorer.samples, request.device, request.seed
    )
    saved: list[tuple[Tensor, Tensor]] = []
    fakes = fitted(_kept(drawn, saved) if save else drawn, scorer.reals.dataset.spec)
    counted = _counted(fakes, scorer, request.on_progress)
    prepared = _prepared(facts.pop("resized", "")) | standing_facts(trained, request.standing_statistics)
    scores = scorer.score(counted, {**subject_of(recipe, trained.images_seen), **facts}, prepared=prepared)
    lines = [{**score, **when} for score in scores]
    if against is None or facts["training_images"] == SAME:
        _keep(trained.run, lines, progress, observers, note)
    else:
        note(f"The scores are not kept in {path}: they are against {dataset}, which it was not trained on.")
    if save:
        _save(save, saved)
    return lines


def _evaluate_images(source: Path | ImageArray, name: str, request: _Request) -> list[dict[str, Any]]:
    """The scores of images that no run draws."""
    assert request.against is not None  # noqa: S101  (checked before)
    zoo, protocol = request.zoo, Protocol.named(request.protocol or "default")
    request.on_progress(0, 0, _READING)
    dataset = reals_choice(request.against, functools.partial(shape_of, source, zoo))
    reals: Dataset = zoo.build("datasets", dataset, split=protocol.split)
    subject = open_subject(source, zoo, reals, request.resize)
    resized = resize_words(name, subject.spec, reals.spec, str(dataset), request.resize)
    count = count_of(subject, request.samples, protocol, request.note)
    scorer = Scorer(
        zoo,
        dataset,
        request.evaluators or default_evaluators(reals.spec.classes, request.note),
        request.device,
        protocol,
        count,
        request.seed,
        conditional=subject.labelled,
        unconditional=f"{name} has no labels that are classes of {dataset}",
    )
    # the digest of the pixels is added when all of them have been read, before the cards are made
    facts: dict[str, Any] = {**subject.facts, "images": count, "of": subject.available, "shape": str(subject.spec)}
    fakes = fitted(subject.batches(count, request.seed), reals.spec, facts)
    counted = _counted(fakes, scorer, request.on_progress)
    scores = scorer.score(counted, facts, prepared=_prepared(resized))
    return [{**score, "step": None, "images": None, "epoch": None, "training": False} for score in scores]


def _prepared(resized: str) -> dict[str, Any]:
    """What the card says of fakes that were resized; nothing of others."""
    return {"fakes_resized": resized} if resized else {}


# --- files ------------------------------------------------------------------------------------------------------------


def _check_save(out: Path | None) -> None:
    """Raises UsageError, before anything is drawn, for a file that cannot be written or has another suffix."""
    if out is None:
        return
    if out.suffix not in SUFFIXES or is_directory(out):
        raise UsageError(f"--save-fakes {out}: name a file that ends in .npy, or in .npz to keep the labels too.")
    if not is_directory(out.parent) or not os.access(out.parent, os.W_OK | os.X_OK):
        raise UsageError(f"--save-fakes {out}: {out.parent} is no folder that can be written.")


def _kept(batches: Batches, kept: list[tuple[Tensor, Tensor]]) -> Batches:
    for images, labels in batches:
        kept.append((images.cpu(), labels.cpu()))
        yield images, labels


def _save(out: Path, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write the fakes of a run: uint8 (N, C, H, W), in an archive with their labels (N,) as `images` and `labels`."""
    images, labels = (torch.cat(tensors).numpy() for tensors in zip(*batches, strict=True))
    data = io.BytesIO()
    if out.suffix == ".npz":
        np.savez(data, images=images, labels=labels)
    else:
        np.save(data, images, allow_pickle=False)
    write_atomically(out, data.getvalue())


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
    fakes: Iterable[tuple[Tensor, Tensor]], scorer: Scorer, on_progress: Callable[[int, int, str], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of fakes; `on_progress` is called before the first and after each, and while the reals are read."""

    def of_reals(done: int, total: int) -> None:
        on_progress(done, total, "features of the real images")

    for reals in (scorer.reals, scorer.held_out):
        if reals is not None:
            reals.on_read = of_reals
    return _each_fake(fakes, scorer.samples, on_progress)


def _each_fake(
    fakes: Iterable[tuple[Tensor, Tensor]], total: int, on_progress: Callable[[int, int, str], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    done = 0
    on_progress(done, total, _FAKES)
    for images, labels in fakes:
        yield images, labels
        done += len(images)
        on_progress(done, total, _FAKES)
    on_progress(0, 0, "distances between real images and fakes")


def _progress_when_saved(trained: TrainedGenerator) -> TrainingProgress:
    """The progress of the training when the generator was saved; files of version 0.1 do not hold it."""
    if trained.step is not None and trained.epochs is not None:
        return TrainingProgress(trained.step, trained.images_seen, trained.epochs)
    lines = [line for line in trained.run.lines("stats.jsonl") if line["images"] <= trained.images_seen]
    last: dict[str, Any] = lines[-1] if lines else {"step": 0, "epoch": 0.0}
    return TrainingProgress(last["step"], trained.images_seen, last.get("epoch", 0.0))
