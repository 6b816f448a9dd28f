"""Checks of an observer, in a small run of the kit's own."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pluggy
import torch

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import RunHooks, TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.registry.observers import Observers
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, require
from ganzoo.testing.process import random_state

_HOOKS = tuple(name for name in vars(RunHooks) if name.startswith("on_"))
_MOMENT = TrainingProgress(step=2, images=16, epochs=0.25)


@contextmanager
def _run() -> Iterator[Run]:
    """A run directory with a tick, a grid, a checkpoint and a score in it."""
    recipe = Recipe.from_dict({"architecture": "mlp-vanilla", "dataset": "digits", "length": "4 steps"})
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", recipe, {"device": "cpu"})
        run.append("stats.jsonl", _facts(run)["on_tick"]["scalars"])
        run.append("scores.jsonl", {**_facts(run)["on_score"]["scores"][0], "training": True})
        run.file("samples", _MOMENT, ".png").write_bytes(b"a picture")
        checkpoints.save(run.path / "checkpoints", f"{_MOMENT.images:09d}", {"x": torch.zeros(2)}, {"step": 2})
        yield run
        run.close()


def _facts(run: Run) -> dict[str, dict[str, Any]]:
    """What each hook is told between the start and the end of a run."""
    tick = {"step": 2, "images": 16, "epoch": 0.25, "discriminator_loss": 1.4, "generator_loss": 0.7, "seconds": 0.1}
    tick["images_per_second"] = 160.0
    card = {"protocol": "default", "digest": "0123456789abcdef", "measure": {"fakes": 100}}
    score = {"score": "fid-domain", "value": 12.5, "better": "lower", "step": 2, "images": 16, "epoch": 0.25}
    name = f"{_MOMENT.images:09d}"
    return {
        "on_tick": {"scalars": tick},
        "on_samples": {"path": run.path / "samples" / f"{name}.png"},
        "on_checkpoint": {"path": run.path / "checkpoints" / name},
        "on_score": {"scores": [{**score, "card": card}]},
    }


def _door(part: ExaminedPart) -> Any:
    """The hooks of a new observer, called without the guard that a training puts around them."""
    manager = pluggy.PluginManager("ganzoo")
    manager.add_hookspecs(RunHooks)
    manager.register(part.build())
    return manager.hook


def _watch_once(part: ExaminedPart, run: Run, facts: dict[str, dict[str, Any]]) -> None:
    """As `_watch`; Skipped where it does not get through, which another check says."""
    try:
        _watch(part, run, facts)
    except Exception as error:
        raise Skipped("it does not get through a run") from error


def _watch(part: ExaminedPart, run: Run, facts: dict[str, dict[str, Any]]) -> None:
    """A run from its start to its end, as an observer is told of it."""
    hooks = _door(part)
    hooks.on_run_start(run=run)
    for hook, told in facts.items():
        getattr(hooks, hook)(run=run, progress=_MOMENT, **told)
    hooks.on_run_end(run=run, error=None)


def hooks_are_known(part: ExaminedPart) -> None:
    """It has at least one hook, and each is one that a run calls, with arguments that it has."""
    observer = part.build()
    try:
        Observers({part.component.__name__: observer})
    except GanzooError as error:
        raise Failed(str(error)) from error
    marked = [name for name in dir(type(observer)) if hasattr(getattr(type(observer), name), "ganzoo_impl")]
    require(marked, f"No method is marked @ganzoo.hookimpl; the hooks are {', '.join(_HOOKS)}.")
    unmarked = [name for name in _HOOKS if name not in marked and callable(getattr(observer, name, None))]
    require(not unmarked, f"{', '.join(unmarked)} lacks @ganzoo.hookimpl and is never called.")


def run_is_watched_to_its_end(part: ExaminedPart) -> None:
    """Told of a whole run, from its start over ticks, grids, checkpoints and scores to its end, it raises nothing."""
    with _run() as run:
        _watch(part, run, _facts(run))


def run_may_be_resumed(part: ExaminedPart) -> None:
    """A new object takes up a run that another one has watched before."""
    with _run() as run:
        _watch_once(part, run, _facts(run))
        _watch(part, run, _facts(run))


def failure_is_taken_calmly(part: ExaminedPart) -> None:
    """After a failure `on_run_end` raises nothing of its own, also where the run has never begun."""
    with _run() as run:
        for begun in (True, False):
            hooks = _door(part)
            if begun:
                hooks.on_run_start(run=run)
            try:
                hooks.on_run_end(run=run, error=RuntimeError("the training has failed"))
            except Exception as failure:
                told = f"on_run_end raises {type(failure).__name__}: {failure}"
                when = "the run had begun" if begun else "nothing had begun"
                raise Failed(f"After a failure {told}; {when}.") from failure


def facts_are_left_alone(part: ExaminedPart) -> None:
    """It changes nothing of what it is told: other observers are told the same objects."""
    with _run() as run:
        facts = _facts(run)
        kept, recipe = copy.deepcopy(facts), run.recipe
        _watch_once(part, run, facts)
        changed = [hook for hook, told in facts.items() if told != kept[hook]]
        require(not changed, f"It changes what it is told in {', '.join(changed)}.")
        require(run.recipe is recipe and run.writes, "It changes the run it is told of.")


def files_of_the_run_are_left_alone(part: ExaminedPart) -> None:
    """It may add files, and changes or removes none of the run's own."""
    with _run() as run:
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        _watch_once(part, run, _facts(run))
        changed = [path for path, data in before.items() if not path.is_file() or path.read_bytes() != data]
        names = ", ".join(str(path.relative_to(run.path)) for path in changed)
        require(not changed, f"It changes {names}.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """Nothing it does draws from a global generator: whoever watches a training must not change it."""
    with _run() as run:
        before = random_state()
        _watch_once(part, run, _facts(run))
        require(random_state() == before, "It draws from a global generator.")


CHECKS = (
    hooks_are_known,
    run_is_watched_to_its_end,
    run_may_be_resumed,
    failure_is_taken_calmly,
    facts_are_left_alone,
    files_of_the_run_are_left_alone,
    random_state_is_left_alone,
)
