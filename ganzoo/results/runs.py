"""The runs below a directory: how far each is, its state, its last score and its size; and their removal.

Nothing here imports torch, so that listing and completing run directories is quick.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, Choice, short_name
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.recipe import Recipe
from ganzoo.storage.files import parse_json
from ganzoo.storage.lines import read_last_lines
from ganzoo.storage.lock import GUARD, Lock, writer
from ganzoo.storage.missing_run import no_run_in
from ganzoo.storage.run_checks import INITIAL_WEIGHTS, read_environment, read_recipe
from ganzoo.storage.run_directory import default_directories
from ganzoo.storage.run_search import find_runs, is_run
from ganzoo.storage.saved_progress import progress_of

__all__ = [
    "STATES",
    "age_in_words",
    "find_runs",
    "foreign_files",
    "is_run",
    "last_score",
    "refuse_unsafe",
    "remove_run",
    "run_facts",
    "size_in_words",
]

#: the evaluator where neither the user nor the recipe names one
DEFAULT_EVALUATORS = (Choice("fid-domain"),)
#: what a run can be: a process trains it now; it has its whole length; it ended before; it has the weights of another
#: program and was not trained; its numbers were not finite; its files cannot be read
STATES = ("training", "finished", "interrupted", "imported", "diverged", "damaged")
#: what a training writes into a run directory
_OWN_FILES = {
    *("recipe.json", "environment.json", "history.json", "stats.jsonl", "scores.jsonl", "diagnosis.json", "lock"),
    INITIAL_WEIGHTS,
    *("samples", "generators", "checkpoints", GUARD),
}


def run_facts(path: Path) -> dict[str, Any]:
    """What `ganzoo runs` lists of one run; `reason` explains the state where it needs that.

    Keys: run, state, reason, architecture, dataset, seed, length, step, images, epoch, share (of the length, 0 to 1),
    score (of the last one: score, value, better, images), bytes, modified (seconds since 1970; None if not known).
    """
    facts: dict[str, Any] = {"run": str(path), "state": "damaged", "reason": None}
    facts |= dict.fromkeys(("architecture", "dataset", "seed", "length"))
    facts |= {"step": 0, "images": 0, "epoch": 0.0, "share": 0.0, "score": None}
    facts["bytes"], facts["modified"] = _size_and_time(path)
    try:
        recipe = read_recipe(path)
        facts |= {"architecture": short_name(recipe.architecture), "dataset": short_name(recipe.dataset)}
        facts |= {"seed": recipe.seed, "length": str(recipe.length)}
        environment = read_environment(path / "environment.json")
        last = (read_last_lines(path / "stats.jsonl") or [{}])[-1]
        progress = progress_of(path, last)
        facts |= {"step": progress.step, "images": progress.images, "epoch": progress.epochs}
        facts["share"] = _share(recipe.length, facts)
        facts["score"] = last_score(recipe, read_last_lines(path / "scores.jsonl"))
        facts["state"], facts["reason"] = _state(path, recipe.length, last)
        if facts["state"] == "interrupted" and not last and _is_import(environment):
            facts["state"] = "imported"
        if facts["state"] == "damaged":
            facts["reason"] = "none of its checkpoints is whole"
    except (GanzooError, OSError) as error:
        facts["reason"] = str(error)
    return facts


def _is_import(environment: Mapping[str, Any]) -> bool:
    """Whether a run was made by `ganzoo import`."""
    weights = environment.get("initial_weights")
    return isinstance(weights, dict) and weights.get("imported") is True


def beside_stopped_run(recipe: Recipe, out: Path) -> str:
    """What to say before a new run in `out`, where the default directories before it hold a run that was stopped.

    Empty where there is none.
    """
    before = list(itertools.takewhile(lambda path: path != out, default_directories(recipe, out.parent)))
    for path in reversed(before):
        facts = run_facts(path)
        if facts["state"] == "interrupted":
            where = f"step {facts['step']:,}" if facts["length"].endswith("steps") else f"epoch {facts['epoch']:.2f}"
            command = f"`ganzoo resume {shlex.quote(str(path))}`"
            return f"{path} was stopped at {where}: {command} goes on with it. This is a new run, {out}."
    return ""


def _size_and_time(path: Path) -> tuple[int, float | None]:
    """The bytes of all files below a directory, and when the newest was written. Links are not followed."""
    total, newest = 0, 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(folder, name))
                total += status.st_size
                newest = max(newest, status.st_mtime)
    return total, newest or None


def _share(length: Amount, done: Mapping[str, Any]) -> float:
    return min(1.0, length.count_of(done["step"], done["images"], done["epoch"]) / length.count)


def last_score(recipe: Recipe, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The score of a run to show, from these lines of scores.jsonl; None without one.

    It is that of the recipe's `best_by`, else of its first evaluator, else the first one of the last scoring.
    """
    first = short_name((recipe.evaluators or DEFAULT_EVALUATORS)[0])
    named = [line for line in lines if line["score"] == recipe.best_by]
    named = named or [line for line in lines if _evaluator_of(line) == first] or list(lines)
    if not named:
        return None
    scoring = _scoring(named[-1])
    line = next(line for line in named if _scoring(line) == scoring)
    return {name: line[name] for name in ("score", "value", "better", "images")}


def _evaluator_of(line: Mapping[str, Any]) -> str:
    """The short name of the evaluator on the card of a score; empty where the card lacks it."""
    try:
        evaluator = line["card"]["measure"]["evaluator"]
        return str(evaluator.get("id") or evaluator["location"]).rpartition("/")[2].rpartition(":")[2]
    except (KeyError, TypeError, AttributeError):
        return ""


def _scoring(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the lines of one scoring have in common."""
    card = line.get("card") or {}
    return line.get("step"), line.get("training"), card.get("time"), card.get("seconds")


def _state(path: Path, length: Amount, last: Mapping[str, Any]) -> tuple[str, str | None]:
    """(state, reason) of a run whose lines can be read; `last` is the last line of its statistics."""
    if owner := writer(path):
        return "training", f"process {owner.pid}" + ("" if owner.is_here else f" on {owner.host}, if it still exists")
    diagnosis = _diagnosis(path)
    if diagnosis and last.get("step", 0) <= diagnosis.get("noticed_at_step", diagnosis.get("step", 0)):
        return "diverged", f"in step {diagnosis.get('step')}"
    # the last line of a run that ended is `partial`, also where it ended early because its target was reached
    done = {name: last.get(name, 0) for name in ("step", "images", "epoch")}
    ended = _share(length, done) >= 1.0 or last.get("partial", False)
    if ended and not os.path.lexists(path / "lock"):  # a lock: its process was killed while it saved the end
        return "finished", None
    saved = [found for found in (path / "checkpoints").glob("*") if found.name.isdecimal()]
    return ("damaged" if saved and not any(map(_looks_whole, saved)) else "interrupted"), None


def _diagnosis(path: Path) -> dict[str, Any] | None:
    try:
        return dict(parse_json((path / "diagnosis.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _looks_whole(checkpoint: Path) -> bool:
    """Whether the files of a checkpoint have the sizes in its manifest. Their digests are checked when it is loaded."""
    try:
        files = parse_json((checkpoint / "MANIFEST.json").read_bytes())["files"]
        return all((checkpoint / name).stat().st_size == facts["bytes"] for name, facts in files.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def refuse_unsafe(path: Path, doing: str) -> None:
    """Raise UsageError unless `path` is a directory with a run, and GanzooError if a process writes in it.

    `doing` is what would be done, for the message.
    """
    if path.is_symlink():
        raise UsageError(f"{path} is a link, and is not {doing}: name the directory itself.")
    if not path.is_dir() or not is_run(path):
        raise UsageError(f"{path} holds no run, and is not {doing}. {no_run_in(path)}")
    if owner := writer(path):
        where = "" if owner.is_here else f" on {owner.host}"
        advice = "stop that one first" if owner.is_here else f"if that one is gone, remove {path / 'lock'}"
        raise GanzooError(f"{path} is being written by process {owner.pid}{where}, and is not {doing}: {advice}.")


def foreign_files(path: Path) -> list[str]:
    """What a run directory holds that no training wrote there."""
    return sorted(name for name in os.listdir(path) if name not in _OWN_FILES and not name.startswith("."))


def remove_run(path: Path) -> int:
    """Remove the run in a directory, and the directory. Returns the number of bytes. Links are removed, not followed.

    Raises UsageError where there is no run, GanzooError where another process writes it.
    """
    refuse_unsafe(path, "removed")
    total, _ = _size_and_time(path)
    lock = None
    with suppress(OSError):  # a folder without permission to write: the removal says so
        lock = Lock(path)  # so that no training begins in it meanwhile
    try:
        for entry in sorted(path.iterdir()):
            # what makes it a run goes last: a removal that is stopped half-way can be repeated
            if entry.name not in ("recipe.json", "environment.json", "history.json", "lock"):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for name in ("environment.json", "history.json", "recipe.json", "lock"):
            (path / name).unlink(missing_ok=True)
        path.rmdir()
    finally:
        if lock is not None:
            lock.release()
    return total


def age_in_words(modified: float | None) -> str:
    """How long ago something was written: `12 s`, `5 min`, `3 h`, `2 days`; empty where it is not known."""
    seconds = max(0.0, time.time() - (modified or 0.0))
    if modified is None or seconds > 25 * 365 * 86_400:  # files of an archive have no time
        return ""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= (2 if unit == "days" else 1) * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def size_in_words(count: int) -> str:
    """A number of bytes as `12 kB`, `3.4 MB`, `1.2 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{count} B"
