"""What a run was trained on so far: read from its last checkpoint, and set in the feed of a resumed training."""

from __future__ import annotations

from fractions import Fraction

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.engine.history import BatchPlan, History, Segment
from ganzoo.storage.checkpoints import Saved
from ganzoo.storage.recipe_binding import changes_since
from ganzoo.storage.run import Run
from ganzoo.training.build import TrainingSetup


def history_of(setup: TrainingSetup, run: Run, saved: Saved | None) -> History:
    """The history of the run up to the checkpoint `saved`; without one, that of a run that begins.

    The fingerprint of the last segment is that of the images that the run must be continued with.
    Raises GanzooError where the checkpoint has a history that cannot be read.
    """
    lengths = ((0, run.recipe.length),)
    if saved is None:
        first = Segment(0, 0, Fraction(0), setup.feed.length, run.environment.get("training_images") or "")
        return History((first,), lengths)
    if "history" not in saved.meta:
        return History(_segments_of_old_run(setup, run, saved), lengths)
    try:
        return History.from_dict(saved.meta["history"]).up_to(saved.meta["step"])
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise GanzooError(f"The history in the checkpoint of step {saved.meta['step']} is damaged: {error}.") from None


def restore_history(setup: TrainingSetup, run: Run, saved: Saved | None) -> None:
    """Let the setup continue the history of the run after the checkpoint `saved`, with the images that are there now.

    Another set of images or another batch size begins a new segment. `setup.history` also gets the present length of
    the run, and what has changed in its recipe since the checkpoint.
    """
    step = saved.meta["step"] if saved else 0
    then = saved.meta.get("recipe") if saved else run.first_recipe
    made = changes_since(run.path, setup.recipe, then, "its newest checkpoint")
    history = history_of(setup, run, saved).with_changes(step, made)
    if "batch_size" in made:
        history = history.with_batch_size(made["batch_size"]["from"])
    setup.feed.continue_from(history.segments, step)
    setup.history = history.with_segments(setup.feed.segments).with_length(step, run.recipe.length)


def _segments_of_old_run(setup: TrainingSetup, run: Run, saved: Saved) -> tuple[Segment, ...]:
    """The segments of a run of version 0.1.0, whose checkpoints have no history.

    Normally it is one. The number of images of a set that has changed since is estimated from the epochs in
    stats.jsonl. That version counted the images of all steps anew when a set had changed, so a later checkpoint could
    have fewer images: such a run is counted from its highest number on.
    """
    feed, step, images = setup.feed, saved.meta["step"], saved.meta["images"]
    known = run.environment.get("training_images") or ""
    if feed.images_at(step) == images and known in ("", feed.fingerprint):
        return (Segment(0, 0, Fraction(0), feed.length, known),)
    lines = [line for line in run.lines("stats.jsonl") if line["step"] <= step and line.get("epoch")]
    length = max(1, round(lines[-1]["images"] / lines[-1]["epoch"])) if lines else feed.length
    first = Segment(0, 0, Fraction(0), length, known)
    names = [path.name for path in (run.path / "checkpoints").iterdir()]
    highest = max([images, *(int(name) for name in names if name.isascii() and name.isdecimal())])
    if BatchPlan(length, feed.batch_size, feed.minibatches, feed.batch_order).images_at(step) == highest:
        return (first,)
    return (first, Segment(step, highest, Fraction(highest, length), length, known))
