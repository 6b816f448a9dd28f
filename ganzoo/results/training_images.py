"""Compare the images that a run was trained on with those that its dataset has now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ganzoo.contract.components import Dataset, class_names
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.recipe import parse_subset
from ganzoo.contract.run_view import RunView
from ganzoo.engine.fingerprint import training_images_sha256
from ganzoo.registry.guard import Note

#: values of `training_images` in the card of a score
SAME, OTHER, UNKNOWN = "same", "other", "not recorded"


def check_training_images(run: RunView, train: Dataset, accept: bool, note: Note) -> dict[str, str]:
    """Compare the training split `train` with what the run recorded, and return the facts for the card of a score.

    Raises GanzooError if shape, classes or class names differ, unless `accept`. Other images of the same kind are
    noted. Runs of version 0.1 have not recorded their images; only shape and classes are compared then.
    """
    changes = _changes(run, train)
    if changes and not accept:
        raise GanzooError(
            f"The images of {run.recipe.dataset} are of another kind than those that {run.path} was trained on "
            f"({'; '.join(changes)}), so a score would mean nothing: restore them, or compare with those of today "
            "by --accept-changed-images."
        )
    if changes:
        note(f"The dataset has changed since the training ({'; '.join(changes)}): the scores compare with the new one.")
        return {"training_images": OTHER, "changed": "; ".join(changes)}
    recorded = run.environment.get("training_images")
    if recorded is None:
        return {"training_images": UNKNOWN}
    if recorded == _fingerprint(run, train):
        return {"training_images": SAME}
    note(f"The images of {run.recipe.dataset} are not those that {run.path} was trained on: the card says so.")
    return {"training_images": OTHER}


def _changes(run: RunView, train: Dataset) -> list[str]:
    """What differs in shape and classes, in words."""
    then, now = ImageSpec(**run.environment["images"]), train.spec
    changes = []
    imported = run.environment.get("initial_weights", {}).get("imported", False)
    if imported and not run.environment["initial_weights"].get("conditional"):
        then = replace(then, classes=now.classes)  # the file of another program says nothing about them
    if str(then) != str(now):
        changes.append(f"{then} then, {now} now")
    if then.classes != now.classes:
        changes.append(f"{then.classes} classes then, {now.classes} now")
    old, new = [str(name) for name in run.environment["class_names"]], list(class_names(train))
    if old != new and not imported:
        changes += _named("gone", old, new) + _named("new", new, old) or ["the classes have another order"]
    return changes


def _named(word: str, names: Sequence[str], others: Sequence[str]) -> list[str]:
    """`new: cats, dogs`: the first few of the names that are not among the others."""
    found = [name for name in names if name not in set(others)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"{word}: {', '.join(found[:3])}{more}"] if found else []


def _fingerprint(run: RunView, train: Dataset) -> str:
    """The sha256 of the images of today in the run's subset; empty if they are too few for it."""
    try:
        subset = parse_subset(run.recipe.subset, len(train))
    except UsageError:
        return ""
    places = torch.tensor(subset)
    return training_images_sha256(lambda positions: train.read(places[positions]), len(subset), train.spec)
