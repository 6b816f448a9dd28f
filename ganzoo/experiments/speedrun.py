"""Speedrun: how long a training takes until a score is good enough, over seeds.

Each seed is an ordinary run that ends at its target. What came of it is read from the run itself: the first score that
is good enough and that a checkpoint stands behind. So the same question again goes on where it was stopped.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_old_names
from ganzoo.experiments.grid import ExpectedScore, Trial, expected_scores, make_trial, share
from ganzoo.experiments.table import spread
from ganzoo.experiments.worker import run_to_end
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.files import digest_of, write_atomically
from ganzoo.storage.run import Run
from ganzoo.training.signals import Interrupted

#: scores a run, where nothing else is asked for: the target is met within a hundredth of the length
SCORES = 100
#: what is averaged over the seeds
MEASURED = ("training_seconds", "scoring_seconds", "images", "steps")
_SYMBOLS = {"lower": "<=", "higher": ">="}
#: of a run's environment, what the seconds depend on
_MACHINE = (
    "device",
    "device_name",
    "instructions",
    "threads",
    "memory_format",
    "capture",
    "compile",
    "platform",
    "versions",
)


@dataclass(frozen=True)
class Target:
    """A score that is good enough."""

    promise: ExpectedScore
    value: float

    def met(self, value: float) -> bool:
        """Whether a value is as good, or better."""
        return value <= self.value if self.promise.better == "lower" else value >= self.value

    def met_by(self, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one of these lines of scores.jsonl meets it."""
        return any(line["score"] == self.promise.score and self.met(line["value"]) for line in lines)

    def __str__(self) -> str:
        return f"{self.promise.score}{_SYMBOLS[self.promise.better]}{self.value:g}"


def parse_target(text: str, zoo: Zoo, evaluator: Choice | None = None) -> Target:
    """The target that `fid-domain<=30` names; its evaluator is found by the score, where none is given.

    Raises UsageError where there is no such score, or where it could not be meant.
    """
    words = re.fullmatch(r"\s*([a-z0-9-]+)\s*(<=|>=)\s*(\S+)\s*", text)
    if not words:
        raise UsageError(f"--target {text!r} is not written SCORE<=NUMBER or SCORE>=NUMBER, such as 'fid-domain<=30'.")
    score, symbol, number = words.groups()
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--target {text!r}: {number!r} is no number; write for example {score}{symbol}30.")
    promise = _promise(text, score, zoo, evaluator)
    right = _SYMBOLS[promise.better]
    if symbol != right:
        raise UsageError(f"--target {text!r}: of {score}, {promise.better} is better; write {score}{right}{number}.")
    bounds = zoo.build("evaluators", Choice.parse(promise.evaluator)).scores[score]
    if not bounds.low <= value <= bounds.high:
        raise UsageError(f"--target {text!r}: {score} lies between {bounds.low:g} and {bounds.high:g}.")
    return Target(promise, value)


def _promise(text: str, score: str, zoo: Zoo, evaluator: Choice | None) -> ExpectedScore:
    """The promise of that score: of the evaluator given, or of the one that gives it."""
    found: list[ExpectedScore] = []
    # one of that very name is asked first: to ask all of them takes seconds
    names = [score] if score in zoo.names("evaluators") else zoo.names("evaluators")
    for choice in [evaluator] if evaluator else map(Choice, names):
        try:
            found += expected_scores(zoo, [(str(choice), choice)])
        except GanzooError:
            if evaluator:
                raise
            # somebody else's evaluator that cannot be made gives no scores
    known = sorted({promise.score for promise in found})
    if score not in known:
        hint = did_you_mean(score, known) or f" There are: {', '.join(known)}."
        where = f"{evaluator} does not give" if evaluator else "no evaluator gives"
        raise UsageError(f"--target {text!r}: {where} a score {score!r}.{hint}")
    same = [promise for promise in found if promise.score == score]
    if len(same) > 1:
        owners = " and ".join(promise.evaluator for promise in same)
        raise UsageError(f"--target {text!r}: {owners} give a score of that name; choose one with -e.")
    return same[0]


def trials_for_seeds(
    zoo: Zoo, architecture: Choice, dataset: Choice, recipe: Recipe, target: Target, seeds: Sequence[int], often: bool
) -> list[Trial]:
    """A cell for each seed; `often` if nobody said how often to score."""
    evaluator = zoo.resolve("evaluators", Choice.parse(target.promise.evaluator))
    fields: dict[str, Any] = {"evaluators": (evaluator,), "best_by": target.promise.score}
    fields |= {"score_every": share(recipe.length, SCORES)} if often else {}
    names = str(architecture), str(dataset)
    return [make_trial(zoo, *names, (target.promise,), recipe.merged({**fields, "seed": seed})) for seed in seeds]


def speedrun(
    zoo: Zoo,
    cells: Sequence[Trial],
    target: Target,
    out: Path,
    device: str = "auto",
    note: Callable[[str], None] = print,
    extra_observers: Callable[[], Mapping[str, object]] = dict,
    **more: Any,
) -> dict[str, Any]:
    """Train every cell until it meets the target, and give the record, which is written into `out` as well.

    `extra_observers` makes the observers of a run; `more` goes to `start` or `resume`. Raises Interrupted, with all
    saved, on a signal.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("A speedrun is played by one process: start it without torchrun.")
    found = []
    for index, cell in enumerate(cells):
        path = out / cell.name
        try:
            if _hit(path, cell, target) is None and not _diverged(path):
                scores = [target.promise.score]
                asked = {"stop_when": target.met_by, "note": note, "extra_observers": extra_observers(), **more}
                run_to_end(path, cell.recipe, device, scores, zoo, **asked)
        except Interrupted as stopped:
            number = stopped.exit_code - 128
            raise Interrupted(
                number,
                f"Stopped by {signal.Signals(number).name} with {len(cells) - index} of {len(cells)} seeds to play; "
                f"everything is saved in {out}. Go on with the same command.",
            ) from None
        except GanzooError as error:
            if not _diverged(path):
                raise
            note(str(error))
        found.append(_outcome(cell, path, target))
        note(f"{cell.name}: {_told(found[-1], target)}")
    record = _record(cells, found, target, out)
    write_atomically(out / f"{record['name']}.json", (json.dumps(record, indent=1) + "\n").encode())
    return record


def _told(seed: Mapping[str, Any], target: Target) -> str:
    if not seed["reached"]:
        return str(seed["reason"])
    return f"{target} after {seed['training_seconds']:.1f} s of training, {seed['images']:,} images"


def _lines(path: Path, cell: Trial, target: Target) -> list[dict[str, Any]]:
    """The scores of the run in `path` that a checkpoint stands behind; none where there is no run."""
    if not (path / "recipe.json").is_file():
        return []
    saved = checkpoints.load_latest(path / "checkpoints")
    last = saved.meta["step"] if saved else -1
    lines = [line for line in Run.open(path).lines("scores.jsonl") if line.get("training")]
    lines = [line for line in lines if line["score"] == target.promise.score and line["step"] <= last]
    # a run may have been made longer by hand
    return [line for line in lines if _before_end(line, cell.recipe.length)]


def _before_end(line: Mapping[str, Any], length: Amount) -> bool:
    """Whether the last step before a score was begun within the length of the run."""
    done = length.count_of(line["step"], line["images"], line["epoch"])
    return bool(done - done / line["step"] < length.count)


def _hit(path: Path, cell: Trial, target: Target) -> dict[str, Any] | None:
    """The first score that is good enough."""
    return next((line for line in _lines(path, cell, target) if target.met(line["value"])), None)


def _diverged(path: Path) -> bool:
    return (path / "recipe.json").is_file() and Run.open(path).diagnosis is not None


def _outcome(cell: Trial, path: Path, target: Target) -> dict[str, Any]:
    """What came of a seed: the line that met the target, or the last one, and why it did not."""
    lines, hit = _lines(path, cell, target), _hit(path, cell, target)
    seed: dict[str, Any] = {"seed": cell.recipe.seed, "reached": hit is not None, "run": cell.name}
    line = hit or (lines[-1] if lines else None)
    if line is not None:
        seconds = {"training_seconds": line["seconds"] - line["scoring_seconds"]}
        seconds |= {"scoring_seconds": line["scoring_seconds"]}
        seed |= {"value": line["value"], "images": line["images"], "steps": line["step"], "epochs": line["epoch"]}
        seed |= {name: round(value, 3) for name, value in seconds.items()}
    if hit is None:
        bests = sorted((line["value"] for line in lines), reverse=target.promise.better == "higher")
        best = f"; the best was {bests[0]:.4g}" if bests else ""
        why = "the training diverged" if _diverged(path) else f"{cell.recipe.length} were not enough"
        seed["reason"] = f"{target} not reached: {why}{best}"
    return seed


def _record(cells: Sequence[Trial], found: list[dict[str, Any]], target: Target, out: Path) -> dict[str, Any]:
    """All seeds; their means only where every one of them reached the target and all were measured alike."""
    recipe = {name: value for name, value in cells[0].recipe.to_dict().items() if name != "seed"}
    old_recipe = with_old_names(recipe)
    lines = [line for cell in cells for line in _lines(out / cell.name, cell, target)[:1]]
    digests = sorted({line["card"]["digest"] for line in lines})
    card = {name: lines[0]["card"][name] for name in ("protocol", "measure", "digest")} if lines else None
    environments = [Run.open(out / cell.name).environment for cell in cells]
    machines = [{name: facts.get(name) for name in _MACHINE} for facts in environments]
    ways = max(len(digests), sum(machine not in machines[:index] for index, machine in enumerate(machines)))
    whole = ways == 1 and all(seed["reached"] for seed in found)
    name, digest = cells[0].name.partition("-seed")[0], digest_of(old_recipe)[:16]
    told = digest_of({**old_recipe, "seeds": [cell.recipe.seed for cell in cells]})[:8]
    return {
        "name": f"{name}-{target.promise.score}-{target.value:g}-{told}",
        "target": str(target),
        "dataset": cells[0].dataset,
        "architecture": cells[0].architecture,
        "evaluator": target.promise.evaluator,
        "reached": sum(seed["reached"] for seed in found),
        "seeds": found,
        **{what: spread([seed[what] for seed in found]) if whole else None for what in MEASURED},
        "ways": ways,
        "card": card,
        "recipe": recipe,
        "recipe_digest": digest,
        "machine": machines[0],
        "time": max((line["card"]["time"] for line in lines), default=None),
    }
