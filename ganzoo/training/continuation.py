"""What a resumed run starts from: its last checkpoint, its new length, its new recipe, and what has changed since."""

from __future__ import annotations

import hashlib
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, Choice, amount_in_words
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.engine import distributed
from ganzoo.engine.progress import Progress
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.recipe_binding import check_recipe, differing_fields
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup, build_scorer
from ganzoo.training.environment import changed_environment, describe_changes


def differences(run: Run, setup: TrainingSetup, zoo: Zoo, more: Mapping[str, Any], images: str) -> list[str]:
    """What has changed since the run was started, in words; only for the process that writes.

    `images` is the fingerprint of the images that it was last trained on.
    """
    if not run.writes:
        return []
    differing = changed_environment(run, setup, zoo, more.get("capture", True), images)
    if "parts" in differing and setup.history is not None:  # parts that were changed on purpose are noted otherwise
        chosen = {field for _, fields in setup.history.changes for field in fields}
        then, now = ({f: p for f, p in parts.items() if f not in chosen} for parts in differing["parts"])
        differing["parts"] = (then, now)
    changes = describe_changes(differing)
    if changes and more.get("stop_when"):  # its time to a score would be measured on two different setups
        raise GanzooError(
            f"{run.path} was started differently ({'; '.join(changes)}): continue it as it was started, or remove it."
        )
    return changes


def last_checkpoint(run: Run) -> checkpoints.Saved | None:
    """The newest good checkpoint of a run, or None where it was stopped before its first one.

    Raises GanzooError where the run had checkpoints and they are gone: to start again would remove its results.
    """
    saved = checkpoints.load_latest(run.path / "checkpoints")
    if saved is None and run.had_checkpoint:
        raise GanzooError(
            f"{run.path} has been trained and has no checkpoint to continue from: put its folder checkpoints back, or "
            f"train again in another directory (its generators can still be sampled)."
        )
    if saved is not None:
        kept, changes = saved.meta.get("recipe"), run.recipe_changes
        saved.notes.extend(check_recipe(run.path, run.recipe, kept, "its newest checkpoint", changes))
        saved.notes.extend(run.lost_lines(saved.meta))
    return saved


def same_checkpoint(run: Run, saved: checkpoints.Saved | None) -> checkpoints.Saved | None:
    """The checkpoint `saved` of the first process, read by every process. Each must call this.

    Raises GanzooError where another process finds another one in its directory.
    """
    chosen = distributed.from_first_rank(_identity(run, saved))
    with distributed.all_or_none():
        if distributed.rank() != 0:
            saved = checkpoints.load_latest(run.path / "checkpoints", chosen[0]) if chosen else None
            if _identity(run, saved) != chosen:
                raise GanzooError(
                    f"Rank {distributed.rank()} on {socket.gethostname()} does not find the checkpoint of step "
                    f"{chosen[0]} in {run.path} that rank 0 continues from: all nodes need the same files there, on a "
                    f"file system that they share."
                )
    return saved


def _identity(run: Run, saved: checkpoints.Saved | None) -> list[Any] | None:
    """The step of a checkpoint and the sha256 of its manifest."""
    if saved is None:
        return None
    manifest = run.path / "checkpoints" / f"{saved.meta['images']:09d}" / "MANIFEST.json"
    return [saved.meta["step"], hashlib.sha256(manifest.read_bytes()).hexdigest()]


def set_length(
    run: Run,
    setup: TrainingSetup,
    zoo: Zoo,
    saved: checkpoints.Saved | None,
    length: Amount | None,
    finished_too: bool = False,
) -> None:
    """Set the run's `length` if one is given.

    Raises UsageError where nothing is left to train, unless `finished_too` is set.
    """
    progress = Progress(length or run.recipe.length, setup.feed)
    progress.step = saved.meta["step"] if saved else 0
    if saved and run.writes:  # a process that was killed while saving has not done this
        checkpoints.prune(run.path / "checkpoints", f"{saved.meta['images']:09d}", spared=run.spared)
    if (
        progress.done
        and not finished_too
        and not (length in (None, run.recipe.length) and _scores_missing(run, setup, zoo, progress.step))
    ):
        raise UsageError(_nothing_left(run.path, progress, run.recipe.length))
    if length is not None:
        run.change(run.recipe.merged({"length": length}))
        assert setup.history is not None  # noqa: S101  (restored before)
        setup.history = setup.history.with_length(progress.step, length)


def _scores_missing(run: Run, setup: TrainingSetup, zoo: Zoo, step: int) -> bool:
    """Whether some of the last scores are not there: a signal or a full disk came before them."""
    scorer = build_scorer(setup, zoo)
    return scorer is not None and not set(scorer.names) <= run.scored_at(step)


def set_recipe(run: Run, setup: TrainingSetup, saved: checkpoints.Saved | None) -> list[str]:
    """Write the recipe of the setup where it has changed, recorded in history.json. Returns the changes in words."""
    recipe = setup.recipe.merged({"length": run.recipe.length})
    if recipe == run.recipe:
        return []
    assert setup.history is not None  # noqa: S101  (restored before)
    then, now = run.recipe.to_dict(), recipe.to_dict()
    if run.writes:  # first: recipe.json is only accepted with changes that are recorded
        run.write_history(setup.history.to_dict(), saved=saved is not None)
    run.change(recipe)
    names = differing_fields(then, now)
    return [text for name in names for text in _in_words(name, then.get(name), now.get(name))]


def _in_words(name: str, then: Any, now: Any) -> list[str]:
    """A changed field in words; of a part of the same name, each option that has changed."""
    if isinstance(then, Mapping) and isinstance(now, Mapping) and then["name"] == now["name"]:
        old, new = then["options"], now["options"]
        return [f"{name}.{key} is {new[key]}, it was {old.get(key)}" for key in new if new[key] != old.get(key)]
    if isinstance(then, list) and isinstance(now, list):
        then, now = (", ".join(str(Choice.parse(one)) for one in value) for value in (then, now))
    return [f"{name} is {now or 'off'}, it was {then or 'off'}"]


def _nothing_left(path: Path, progress: Progress, whole: Amount) -> str:
    """The message that a run has reached its length, with a command that continues it; `whole` is the recipe's."""
    length, now = progress.length, progress.snapshot
    trained = int(length.count_of(now.step, now.images, now.epochs))
    unit = length.unit
    done = f"its {amount_in_words(length)}"
    if trained > length.count:
        done = f"{trained} {unit}, more than {amount_in_words(length)}"
    own = Progress(whole, progress.counts)
    own.step = progress.step
    if not own.done:
        return (
            f"{path} has already trained for {done}; `ganzoo resume {shlex.quote(str(path))}` goes on to its "
            f"{amount_in_words(whole)}."
        )
    return (
        f"{path} has already trained for {done}; to train longer, give a larger total, for example `ganzoo resume "
        f"{shlex.quote(str(path))} --{unit} {trained + -(-trained // 2)}`."
    )
