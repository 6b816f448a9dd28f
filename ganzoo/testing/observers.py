"""Checks of an observer, in a small run directory that the kit makes."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pluggy
import torch
from PIL import Image

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import RunHooks, TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.registry.observers import Observers
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, require
from ganzoo.testing.process import random_state

_HOOKS = tuple(name for name in vars(RunHooks) if name.startswith("on_"))
_PROGRESS = TrainingProgress(step=2, images=16, epochs=0.25)
#: the part of environment.json that every run has
_ENVIRONMENT = {
    "versions": {"torch": torch.__version__},
    "device": "cpu",
    "images": {"channels": 1, "height": 8, "width": 8, "classes": 10},
    "class_names": [str(label) for label in range(10)],
}


def _picture() -> bytes:
    """A small PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _run() -> Iterator[Run]:
    """A run directory with the facts of a run, and a tick, a grid, a checkpoint and a score in it."""
    recipe = Recipe.from_dict({"architecture": "mlp-vanilla", "dataset": "digits", "length": "4 steps"})
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", recipe, _ENVIRONMENT)
        try:
            run.append("stats.jsonl", _arguments(run)["on_tick"]["scalars"])
            run.append("scores.jsonl", {**_arguments(run)["on_score"]["scores"][0], "training": True})
            run.file("samples", _PROGRESS, ".png").write_bytes(_picture())
            checkpoints.save(run.path / "checkpoints", f"{_PROGRESS.images:09d}", {"x": torch.zeros(2)}, {"step": 2})
            yield run
        finally:  # also after a failed check: the lock of the run is released
            run.close()


def _arguments(run: Run) -> dict[str, dict[str, Any]]:
    """Hook -> its arguments except `run` and `progress`, for all hooks but `on_run_start` and `on_run_end`."""
    tick = {"step": 2, "images": 16, "epoch": 0.25, "discriminator_loss": 1.4, "generator_loss": 0.7, "seconds": 0.1}
    tick["images_per_second"] = 160.0
    card = {"protocol": "default", "digest": "0123456789abcdef", "measure": {"fakes": 100}}
    score = {"score": "fid-domain", "value": 12.5, "better": "lower", "step": 2, "images": 16, "epoch": 0.25}
    name = f"{_PROGRESS.images:09d}"
    return {
        "on_tick": {"scalars": tick},
        "on_samples": {"path": run.path / "samples" / f"{name}.png"},
        "on_checkpoint": {"path": run.path / "checkpoints" / name},
        "on_score": {"scores": [{**score, "card": card}]},
    }


def _hooks(part: ExaminedPart) -> Any:
    """The hooks of a new observer. Unlike in a training, nothing catches their errors."""
    manager = pluggy.PluginManager("ganzoo")
    manager.add_hookspecs(RunHooks)
    manager.register(part.build())
    return manager.hook


def _started(part: ExaminedPart, run: Run) -> Any:
    """The hooks of a new observer, after on_run_start. Raises Skipped where an optional one lacks its library."""
    hooks = _hooks(part)
    try:
        hooks.on_run_start(run=run)
    except Exception as error:
        if part.component.optional and (isinstance(error, ImportError) or isinstance(error.__cause__, ImportError)):
            raise Skipped(str(error)) from error
        raise
    return hooks


def _observe_or_skip(part: ExaminedPart, run: Run, arguments: dict[str, dict[str, Any]]) -> None:
    """As `_observe`, but raises Skipped if the observer raises an error, which another check reports."""
    try:
        _observe(part, run, arguments)
    except Skipped:
        raise
    except Exception as error:
        raise Skipped("it raises an error during a run") from error


def _observe(part: ExaminedPart, run: Run, arguments: dict[str, dict[str, Any]]) -> None:
    """Call all hooks of a new observer, from the start of a run to its end."""
    hooks = _started(part, run)
    for hook, hook_arguments in arguments.items():
        # an observer written before version 0.2 takes `progress` under its old name, `moment`
        getattr(hooks, hook)(run=run, progress=_PROGRESS, moment=_PROGRESS, **hook_arguments)
    hooks.on_run_end(run=run, error=None)


def hooks_are_known(part: ExaminedPart) -> None:
    """It has at least one hook, and every hook is one that a run calls, with arguments that exist."""
    observer = part.build()
    try:
        Observers({part.component.__name__: observer})
    except GanzooError as error:
        raise Failed(str(error)) from error
    marked = [name for name in dir(type(observer)) if hasattr(getattr(type(observer), name), "ganzoo_impl")]
    require(marked, f"No method is marked @ganzoo.hookimpl; the hooks are {', '.join(_HOOKS)}.")
    unmarked = [name for name in _HOOKS if name not in marked and callable(getattr(observer, name, None))]
    require(not unmarked, f"Without @ganzoo.hookimpl it is never called: {', '.join(unmarked)}.")


def optional_is_true_or_false(part: ExaminedPart) -> None:
    """`optional`, whether a run goes on without it after an error in it, is True or False, for the whole class."""
    declared = part.component.optional
    require(isinstance(declared, bool), f"`optional` is {declared!r}: set it to True or False in the class.")


def observes_a_whole_run(part: ExaminedPart) -> None:
    """It raises no error in a whole run: start, tick, sample grid, checkpoint, score and end."""
    with _run() as run:
        _observe(part, run, _arguments(run))


def observes_a_resumed_run(part: ExaminedPart) -> None:
    """It raises no error in a resumed run, which another object of its class has observed before."""
    with _run() as run:
        _observe_or_skip(part, run, _arguments(run))
        _observe(part, run, _arguments(run))


def failed_run_raises_nothing(part: ExaminedPart) -> None:
    """`on_run_end` with an error raises nothing, also where `on_run_start` was never called."""
    with _run() as run:
        for started in (True, False):
            hooks = _started(part, run) if started else _hooks(part)
            try:
                hooks.on_run_end(run=run, error=RuntimeError("the training has failed"))
            except Exception as failure:
                problem = f"on_run_end raises {type(failure).__name__}: {failure}"
                when = "after" if started else "without"
                raise Failed(f"Where a training failed {when} on_run_start, {problem}.") from failure


def hook_arguments_are_left_alone(part: ExaminedPart) -> None:
    """It does not change the arguments of its hooks: other observers receive the same objects."""
    with _run() as run:
        arguments = _arguments(run)
        kept, recipe = copy.deepcopy(arguments), run.recipe
        _observe_or_skip(part, run, arguments)
        changed = [hook for hook, hook_arguments in arguments.items() if hook_arguments != kept[hook]]
        require(not changed, f"It changes the arguments of {', '.join(changed)}.")
        require(run.recipe is recipe and run.writes, "It changes the run object.")


def files_of_the_run_are_left_alone(part: ExaminedPart) -> None:
    """It may add files to a run, but does not change or remove the files of the run itself."""
    with _run() as run:
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        _observe_or_skip(part, run, _arguments(run))
        changed = [path for path, data in before.items() if not path.is_file() or path.read_bytes() != data]
        names = ", ".join(str(path.relative_to(run.path)) for path in changed)
        require(not changed, f"It changes {names}.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """It draws nothing from a global random generator: an observer must not change the training."""
    with _run() as run:
        before = random_state()
        _observe_or_skip(part, run, _arguments(run))
        require(random_state() == before, "It draws from a global random generator.")


CHECKS = (
    hooks_are_known,
    optional_is_true_or_false,
    observes_a_whole_run,
    observes_a_resumed_run,
    failed_run_raises_nothing,
    hook_arguments_are_left_alone,
    files_of_the_run_are_left_alone,
    random_state_is_left_alone,
)
