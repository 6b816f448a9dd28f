"""Speedrun: how long a training takes until a score reaches a target, over several seeds.

Each seed is an ordinary run that stops at the target. The outcome is read from the files of the run: the first score
that reaches the target and is covered by a checkpoint. So an interrupted speedrun is resumed by the same command.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, Choice, amount_in_words
from ganzoo.contract.errors import GanzooError, UsageError, counted, did_you_mean
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_old_names
from ganzoo.experiments.grid import ExpectedScore, Trial, expected_scores, make_trial, share
from ganzoo.experiments.table import card_of_seeds, spread
from ganzoo.experiments.worker import run_to_end
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.files import digest_of, write_atomically
from ganzoo.storage.run import Run
from ganzoo.training.signals import Interrupted, signal_in_words

#: default number of scores per run; the target is then found within a hundredth of the length
SCORES = 100
#: numbers that are averaged over the seeds
MEASURED = ("training_seconds", "scoring_seconds", "images", "steps")
_SYMBOLS = {"lower": "<=", "higher": ">="}
#: entries of a run's environment that affect the seconds
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
    """A score and the value that it has to reach."""

    expected: ExpectedScore
    value: float

    def met(self, value: float) -> bool:
        """Whether a value reaches the target."""
        return value <= self.value if self.expected.better == "lower" else value >= self.value

    def met_by(self, lines: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one of these lines of scores.jsonl reaches the target."""
        return any(line["score"] == self.expected.score and self.met(line["value"]) for line in lines)

    def __str__(self) -> str:
        return f"{self.expected.score}{_SYMBOLS[self.expected.better]}{self.value:g}"


def parse_target(text: str, zoo: Zoo, evaluator: Choice | None = None) -> Target:
    """The target of a text such as `fid-domain<=30`. Without `evaluator`, the evaluator that has this score is used.

    Raises UsageError for an unknown score, a wrong direction, and a value that the score cannot have.
    """
    match = re.fullmatch(r"\s*([a-z0-9-]+)\s*(<=|>=)\s*(\S+)\s*", text)
    if not match:
        raise UsageError(f"--target {text!r} is not written SCORE<=NUMBER or SCORE>=NUMBER, such as 'fid-domain<=30'.")
    score, symbol, number = match.groups()
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--target {text!r}: {number!r} is no number; write for example {score}{symbol}30.")
    expected = _find_score(text, score, zoo, evaluator)
    right = _SYMBOLS[expected.better]
    if symbol != right:
        raise UsageError(f"--target {text!r}: of {score}, {expected.better} is better; write {score}{right}{number}.")
    bounds = zoo.build("evaluators", Choice.parse(expected.evaluator)).scores[score]
    if not bounds.low <= value <= bounds.high:
        raise UsageError(f"--target {text!r}: {score} lies between {bounds.low:g} and {bounds.high:g}.")
    return Target(expected, value)


def _find_score(text: str, score: str, zoo: Zoo, evaluator: Choice | None) -> ExpectedScore:
    """The score of this name, of the given evaluator or of the only evaluator that has it."""
    found: list[ExpectedScore] = []
    # an evaluator often has the name of its score; building all evaluators would take seconds
    names = [score] if score in zoo.names("evaluators") else zoo.names("evaluators")
    for choice in [evaluator] if evaluator else map(Choice, names):
        try:
            found += expected_scores(zoo, [(str(choice), choice)])
        except GanzooError:
            if evaluator:
                raise
            # skip an installed evaluator that cannot be built
    known = sorted({one.score for one in found})
    if score not in known:
        hint = did_you_mean(score, known) or f" There are: {', '.join(known)}."
        where = f"{evaluator} does not give" if evaluator else "no evaluator gives"
        raise UsageError(f"--target {text!r}: {where} a score {score!r}.{hint}")
    same = [one for one in found if one.score == score]
    if len(same) > 1:
        owners = " and ".join(one.evaluator for one in same)
        raise UsageError(f"--target {text!r}: {owners} give a score of that name; choose one with -e.")
    return same[0]


def trials_for_seeds(
    zoo: Zoo, architecture: Choice, dataset: Choice, recipe: Recipe, target: Target, seeds: Sequence[int], often: bool
) -> list[Trial]:
    """One trial for each seed. With `often` it is scored at every hundredth of its length, else every `score_every`."""
    evaluator = zoo.resolve("evaluators", Choice.parse(target.expected.evaluator))
    fields: dict[str, Any] = {"evaluators": (evaluator,), "best_by": target.expected.score}
    fields |= {"score_every": share(recipe.length, SCORES)} if often else {}
    names = str(architecture), str(dataset)
    return [make_trial(zoo, *names, (target.expected,), recipe.merged({**fields, "seed": seed})) for seed in seeds]


def speedrun(
    zoo: Zoo,
    trials: Sequence[Trial],
    target: Target,
    out: Path,
    device: str = "auto",
    note: Callable[[str], None] = print,
    extra_observers: Callable[[], Mapping[str, object]] = dict,
    **more: Any,
) -> dict[str, Any]:
    """Train every trial until it reaches the target; returns the record, which is also written to `out`.

    `note` receives messages for the user. `extra_observers` is called for each run and returns its observers by name.
    `more` are keyword arguments of `training.train`. Raises UsageError under torchrun, and Interrupted, with everything
    saved, after a signal.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("A speedrun needs a single process: start it without torchrun.")
    outcomes = []
    for index, trial in enumerate(trials):
        path = out / trial.name
        try:
            if _first_hit(path, trial, target) is None and not _diverged(path):
                scores = [target.expected.score]
                run_arguments = {
                    "stop_when": target.met_by,
                    "note": note,
                    "extra_observers": extra_observers(),
                    **more,
                }
                run_to_end(path, trial.recipe, device, scores, zoo, **run_arguments)
        except Interrupted as stopped:
            number = stopped.exit_code - 128
            raise Interrupted(
                number,
                f"Stopped by {signal_in_words(number)} with {len(trials) - index} of "
                f"{counted(len(trials), 'seed')} left to run; everything is saved in {out}. "
                f"Continue with the same command.",
            ) from None
        except GanzooError as error:
            if not _diverged(path):
                raise
            note(str(error))
        outcomes.append(_outcome(trial, path, target))
        note(f"{trial.name}: {_message(outcomes[-1], target)}")
    record = _record(trials, outcomes, target, out)
    write_atomically(out / f"{record['name']}.json", (json.dumps(record, indent=1) + "\n").encode())
    return record


def _message(seed: Mapping[str, Any], target: Target) -> str:
    if not seed["reached"]:
        return str(seed["reason"])
    return f"{target} after {seed['training_seconds']:.1f} s of training, {seed['images']:,} images"


def _lines(path: Path, trial: Trial, target: Target) -> list[dict[str, Any]]:
    """The lines of the target's score that have a checkpoint at or after their step; empty if there is no run."""
    if not (path / "recipe.json").is_file():
        return []
    saved = checkpoints.load_latest(path / "checkpoints")
    last = saved.meta["step"] if saved else -1
    lines = [line for line in Run.open(path).lines("scores.jsonl") if line.get("training")]
    lines = [line for line in lines if line["score"] == target.expected.score and line["step"] <= last]
    # the user may have resumed the run to a greater length
    return [line for line in lines if _before_end(line, trial.recipe.length)]


def _before_end(line: Mapping[str, Any], length: Amount) -> bool:
    """Whether the last step before a score started within the length of the run."""
    done = length.count_of(line["step"], line["images"], line["epoch"])
    return bool(done - done / line["step"] < length.count)


def _first_hit(path: Path, trial: Trial, target: Target) -> dict[str, Any] | None:
    """The first saved line that reaches the target; None if there is none."""
    return next((line for line in _lines(path, trial, target) if target.met(line["value"])), None)


def _diverged(path: Path) -> bool:
    return (path / "recipe.json").is_file() and Run.open(path).diagnosis is not None


def _outcome(trial: Trial, path: Path, target: Target) -> dict[str, Any]:
    """The entry of a seed in the record: the line that reached the target, or the last line and the reason."""
    lines, hit = _lines(path, trial, target), _first_hit(path, trial, target)
    seed: dict[str, Any] = {"seed": trial.recipe.seed, "reached": hit is not None, "run": trial.name}
    line = hit or (lines[-1] if lines else None)
    if line is not None:
        seconds = {"training_seconds": line["seconds"] - line["scoring_seconds"]}
        seconds |= {"scoring_seconds": line["scoring_seconds"]}
        seed |= {"value": line["value"], "images": line["images"], "steps": line["step"], "epochs": line["epoch"]}
        seed |= {name: round(value, 3) for name, value in seconds.items()}
    if hit is None:
        ordered = sorted((line["value"] for line in lines), reverse=target.expected.better == "higher")
        best = f"; the best was {ordered[0]:.4g}" if ordered else ""
        length = trial.recipe.length
        short = f"{amount_in_words(length)} {'was' if length.count == 1 else 'were'} not enough"
        why = "the training diverged" if _diverged(path) else short
        seed["reason"] = f"{target} not reached: {why}{best}"
    return seed


def _record(trials: Sequence[Trial], seeds: list[dict[str, Any]], target: Target, out: Path) -> dict[str, Any]:
    """The record of all seeds. Means are None unless all seeds reached the target and were measured in the same way."""
    recipe = {name: value for name, value in trials[0].recipe.to_dict().items() if name != "seed"}
    old_recipe = with_old_names(recipe)
    lines = [line for trial in trials for line in _lines(out / trial.name, trial, target)[:1]]
    digests = sorted({line["card"]["digest"] for line in lines})
    card = card_of_seeds(lines[0]["card"]) if lines else None
    environments = [Run.open(out / trial.name).environment for trial in trials]
    machines = [{name: facts.get(name) for name in _MACHINE} for facts in environments]
    ways = max(len(digests), sum(machine not in machines[:index] for index, machine in enumerate(machines)))
    comparable = ways == 1 and all(seed["reached"] for seed in seeds)
    name, digest = trials[0].name.partition("-seed")[0], digest_of(old_recipe)[:16]
    request_digest = digest_of({**old_recipe, "seeds": [trial.recipe.seed for trial in trials]})[:8]
    return {
        "name": f"{name}-{target.expected.score}-{target.value:g}-{request_digest}",
        "target": str(target),
        "dataset": trials[0].dataset,
        "architecture": trials[0].architecture,
        "evaluator": target.expected.evaluator,
        "reached": sum(seed["reached"] for seed in seeds),
        "seeds": seeds,
        **{name: spread([seed[name] for seed in seeds]) if comparable else None for name in MEASURED},
        "ways": ways,
        "card": card,
        "recipe": recipe,
        "recipe_digest": digest,
        "machine": machines[0],
        "time": max((line["card"]["time"] for line in lines), default=None),
    }
