"""Merge the folders of benchmarks: the trials of several machines or people in one folder with one table.

Read are only the files of the folders, so parts that are not installed here do no harm. Copied are the finished and the
failed trials, without checkpoints. A row is joined only from trials with one recipe, one card and the same versions.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import GanzooError, UsageError, counted
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.experiments.axes import VERSIONS, flat, recipe_digest
from ganzoo.experiments.folder import Folder, Result
from ganzoo.experiments.grid import ExpectedScore, Trial
from ganzoo.experiments.real_baseline import NO_REAL_SCORES, RealScores
from ganzoo.experiments.table import rows_of, write
from ganzoo.storage.files import digest_of, write_atomically

#: folders of a run that are not copied
_NOT_COPIED = ("checkpoints",)


@dataclass
class _Found:
    """A finished or failed trial of one of the folders."""

    trial: Trial
    folder: Folder
    result: Result | None
    versions: dict[str, str]
    device: str
    #: what is trained, without the seed
    digest: str
    #: name of its directories in the merged folder
    name: str = ""

    @property
    def source(self) -> str:
        """The folder, for messages."""
        return str(self.folder.path)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two trainings of the same recipe with the same seed and the same versions."""
        return self.digest, self.trial.recipe.seed, *self.versions.items()


@dataclass
class Merged:
    """The outcome of a merge."""

    rows: list[dict[str, Any]]
    #: what was not joined: architecture, dataset, score, seeds, folder and reason of each row or trial
    refused: list[dict[str, Any]] = field(default_factory=list)
    #: number of trials by folder
    trials: dict[str, int] = field(default_factory=dict)


def merge(paths: Sequence[Path], out: Path, note: Callable[[str], None] = print) -> Merged:
    """Join the benchmarks in `paths` in the new folder `out`, and return the rows of its table.

    A row that was measured unlike the same score of the same dataset in an earlier folder is refused with its reason,
    and so is a trial that two folders have with different scores; the others are joined. Raises UsageError for a path
    that is no benchmark, for a single one, and where `out` holds something.
    """
    folders = _folders(paths, out)
    found: list[_Found] = []
    real_scores: dict[str, RealScores] = {}
    for folder in folders:
        rows = _table(folder)
        trials, unfinished = _trials(folder, rows)
        if unfinished:
            note(f"{folder.path}: {counted(unfinished, 'unfinished trial')} left out.")
        found += trials
        _add_real_scores(real_scores, rows)
    if not found:
        raise UsageError("None of the folders has a finished or failed trial, so there is nothing to merge.")
    merged = Merged([])
    found = _tell_recipes_apart(_tell_versions_apart(_named_alike(_without_repeated(found, merged))))
    temporary = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}"
    try:
        for name in ("runs", "cells", "logs"):
            (temporary / name).mkdir(parents=True)
        copied = [_copied(one, Folder(temporary)) for one in found]
        merged.rows = _joined(copied, Folder(temporary), real_scores, found, merged)
        for one in found:
            merged.trials[one.source] = merged.trials.get(one.source, 0) + 1
        facts = {"sources": merged.trials, "refused": merged.refused}
        write_atomically(temporary / "merge.json", (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
        write(merged.rows, temporary)
        if out.is_dir():
            out.rmdir()  # it is empty
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return merged


# --- reading ----------------------------------------------------------------------------------------------------------


def _folders(paths: Sequence[Path], out: Path) -> list[Folder]:
    real = [os.path.realpath(path) for path in paths]
    if len(paths) < 2:
        raise UsageError("Name at least two folders of benchmarks to merge.")
    for place, path in enumerate(paths):
        if real[place] in real[:place]:
            raise UsageError(f"{path} is named twice; each folder is merged once.")
        if not path.exists():
            raise UsageError(f"There is no folder {path}: name folders that `ganzoo benchmark` wrote.")
        if not ((path / "cells").is_dir() and (path / "runs").is_dir()):
            raise UsageError(f"{path} is not the folder of a benchmark: it has no cells and runs in it.")
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not empty: name a new folder with -o.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"-o {out}: there is no directory {out.parent}.")
    return [Folder(path) for path in paths]


def _table(folder: Folder) -> list[dict[str, Any]]:
    """The rows of the table of a benchmark; none where it was not written or is damaged."""
    found = _json(folder.path / "table.json")
    return [row for row in found if isinstance(row, dict) and "recipe" in row] if isinstance(found, list) else []


def _trials(folder: Folder, rows: Sequence[Mapping[str, Any]]) -> tuple[list[_Found], int]:
    """The finished and failed trials of a folder, and the number of the others."""
    known = {_row_digest(row): row for row in reversed(rows)}
    scores = {row["score"]: ExpectedScore(row["evaluator"], row["score"], row["better"]) for row in rows}
    found, unfinished = [], 0
    for path in sorted((folder.path / "cells").iterdir()):
        request = _json(path / "cell.json")
        if not isinstance(request, dict) or "recipe" not in request:
            unfinished += 1  # its parts do not fit together, so that it was never started, or its file is damaged
            continue
        try:
            recipe = Recipe.from_dict(with_current_names(request["recipe"]))
            trial = _trial(path.name, request, recipe, known, scores)
        except (GanzooError, TypeError, AttributeError, KeyError) as error:
            raise GanzooError(f"{path / 'cell.json'} cannot be read: {error}") from None
        result = folder.result(trial)
        if result is None and not folder.reason(trial):
            unfinished += 1
            continue
        environment = _json(folder.run(trial) / "environment.json")
        environment = environment if isinstance(environment, dict) else {}
        versions = {name: str(environment.get("versions", {}).get(_PACKAGES[name], "unknown")) for name in VERSIONS}
        device = str(environment.get("device_name") or environment.get("device") or "unknown")
        digest = recipe_digest(_without_folders(recipe), environment.get("parts"))
        found.append(_Found(trial, folder, result, versions, device, digest))
    return found, unfinished


#: name of a version -> the package in environment.json
_PACKAGES = {"ganzoo": "torch-ganzoo", "torch": "torch"}


def _row_digest(row: Mapping[str, Any]) -> str:
    return digest_of({name: value for name, value in with_current_names(row["recipe"]).items() if name != "seed"})


def _trial(
    name: str,
    request: Mapping[str, Any],
    recipe: Recipe,
    known: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, ExpectedScore],
) -> Trial:
    """A trial from its request. What older versions did not write into it is taken from the row of the table."""
    row: Mapping[str, Any] = known.get(_row_digest({"recipe": recipe.to_dict()}), {})
    default: dict[str, Any] = {"row": "", "axes": {}}
    default |= {"architecture": short_name(recipe.architecture), "dataset": short_name(recipe.dataset)}
    texts = {key: request.get(key, row.get(key, default[key])) for key in default}
    expected = tuple(scores.get(score, ExpectedScore("", score, "lower")) for score in request["scores"])
    return Trial(texts["architecture"], texts["dataset"], expected, recipe, name, dict(texts["axes"]), texts["row"])


def _without_folders(recipe: Recipe) -> Recipe:
    """The recipe with the files and folders of its parts without where they lie, which differs between machines."""
    fields = recipe.to_dict()
    for name, value in fields.items():
        if name in KIND_OF_FIELD:
            fields[name] = (
                [_without_folder(one) for one in value] if isinstance(value, list) else _without_folder(value)
            )
    return Recipe.from_dict(fields)


def _without_folder(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part.replace("\\", "/").rpartition("/")[2] if isinstance(part, str) and ".py:" in part else part
    options = {k: Path(str(v)).name if k == "path" and v else v for k, v in part.get("options", {}).items()}
    return {"name": _without_folder(part["name"]), "options": options}


def _json(path: Path) -> Any:
    """The JSON value in a file; None if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _add_real_scores(known: dict[str, RealScores], rows: Sequence[Mapping[str, Any]]) -> None:
    """Add what the rows of a table say about real images, by dataset; the first folder counts."""
    for row in rows:
        if row.get("card") and row.get("floor") is not None:
            of_dataset: Any = known.setdefault(row["dataset"], {name: {} for name in NO_REAL_SCORES})
            facts = {name: row.get(name) for name in ("floor", "floor_images", "calibration")}
            facts["reals"] = row["card"]["measure"]["reals"]["sha256"]
            for name, value in facts.items():
                of_dataset[name].setdefault(row["score"], value)


# --- which trials -----------------------------------------------------------------------------------------------------


def _without_repeated(found: Sequence[_Found], merged: Merged) -> list[_Found]:
    """Each training once. A training that two folders have with different scores is refused in both."""
    groups: dict[tuple[Any, ...], list[_Found]] = {}
    for one in found:
        groups.setdefault(one.key, []).append(one)
    kept = []
    for group in groups.values():
        finished = [one for one in group if one.result] or group[:1]
        first = finished[0]
        other = next((one for one in finished[1:] if _values(one, first) != _values(first, one)), None)
        if other is None:
            kept.append(first)
            # what was measured in another way in another folder is a row of its own, which may be refused
            kept += [one for one in finished[1:] if not _values(one, first)]
            continue
        score = next(name for name, value in _values(first, other).items() if value != _values(other, first)[name])
        values = _values(first, other)[score], _values(other, first)[score]
        reason = (
            f"seed {first.trial.recipe.seed} has {score} {values[0]:.6g} in {first.source} ({first.device}) and "
            f"{values[1]:.6g} in {other.source} ({other.device}); neither is taken"
        )
        merged.refused.append(_refusal(first.trial, score, [first.trial.recipe.seed], other.source, reason))
    return kept


def _values(one: _Found, other: _Found) -> dict[str, float]:
    """The scores of a trial that the other one has with the same card."""
    mine, others = (one.result.last if one.result else {}), (other.result.last if other.result else {})
    alike = [name for name in mine if name in others and mine[name]["card"]["digest"] == others[name]["card"]["digest"]]
    return {name: float(mine[name]["value"]) for name in alike}


def _named_alike(found: Sequence[_Found]) -> list[_Found]:
    """The trials of one recipe with the architecture, dataset, row and axes of the first of them."""
    first: dict[str, Trial] = {}
    changed = []
    for one in found:
        trial = first.setdefault(one.digest, one.trial)
        same = {name: getattr(trial, name) for name in ("architecture", "dataset", "axes", "row")}
        changed.append(replace(one, trial=replace(one.trial, **same)))
    return changed


def _tell_versions_apart(found: Sequence[_Found]) -> list[_Found]:
    """Trials with their versions as axes, where not all have the same, and with names that no other trial has."""
    differing = [name for name in VERSIONS if len({one.versions[name] for one in found}) > 1]
    taken, changed = set[str](), []
    for one in found:
        name, number = one.trial.name, 2
        while name in taken:
            name, number = f"{one.trial.name}-{number}", number + 1
        taken.add(name)
        axes = {**one.trial.axes, **{version: one.versions[version] for version in differing}}
        changed.append(replace(one, trial=replace(one.trial, axes=axes), name=name))
    return changed


def _tell_recipes_apart(found: Sequence[_Found]) -> list[_Found]:
    """Trials of different recipes under the same names, with the fields in which they differ as axes."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, str]]] = {}
    for one in found:
        groups.setdefault(one.trial.configuration, {})[one.digest] = flat(one.trial.recipe.to_dict())
    changed = []
    for one in found:
        recipes = groups[one.trial.configuration]
        mine = recipes[one.digest]
        names = dict.fromkeys(name for recipe in recipes.values() for name in recipe)
        axes = {n: mine.get(n, "-") for n in names if len({recipe.get(n) for recipe in recipes.values()}) > 1}
        if sum(recipe == mine for recipe in recipes.values()) > 1:  # the code of a part differs
            axes["code"] = one.digest[:6]
        changed.append(replace(one, trial=replace(one.trial, axes={**one.trial.axes, **axes})))
    return changed


# --- writing ----------------------------------------------------------------------------------------------------------


def _copied(one: _Found, out: Folder) -> Trial:
    """Copy the run, the outcome and the log of a trial; the trial under its name in the new folder."""
    trial = replace(one.trial, name=one.name)
    old = one.folder
    if old.run(one.trial).is_dir():
        shutil.copytree(old.run(one.trial), out.run(trial), ignore=_not_copied)
    shutil.copytree(old.status_dir(one.trial), out.status_dir(trial), ignore=_not_copied)
    path = out.status_dir(trial) / "cell.json"
    request = _json(path) | {name: getattr(trial, name) for name in ("architecture", "dataset", "row", "axes")}
    request |= {"run": os.path.relpath(out.run(trial), out.status_dir(trial)), "source": one.source}
    write_atomically(path, (json.dumps(request, indent=1) + "\n").encode())
    if old.log(one.trial).is_file():
        shutil.copyfile(old.log(one.trial), out.log(trial))
    return trial


def _not_copied(folder: str, names: list[str]) -> list[str]:
    passing = [name for name in names if name.startswith(".") or name in ("lock", *_NOT_COPIED)]
    return passing + [name for name in names if (Path(folder) / name).is_symlink()]


def _joined(
    trials: Sequence[Trial],
    folder: Folder,
    real_scores: Mapping[str, RealScores],
    found: Sequence[_Found],
    merged: Merged,
) -> list[dict[str, Any]]:
    """The rows of the table, without those that were measured unlike a row before."""
    first: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
    sources: dict[tuple[Any, ...], str] = {}
    for one in found:
        for score, line in (one.result.last if one.result else {}).items():
            first.setdefault((one.trial.dataset, score), (line["card"], one.source))
            sources.setdefault((one.trial.configuration, score, line["card"]["digest"]), one.source)
    kept = []
    for row in rows_of(trials, folder, real_scores):
        card, source = first.get((row["dataset"], row["score"]), ({}, ""))
        if row["card"] is None or row["card"]["digest"] == card["digest"]:
            kept.append(row | {"note": ""})
            continue
        configuration = row["architecture"], row["dataset"], row["row"], *row["axes"].items()
        of_row = sources[configuration, row["score"], row["card"]["digest"]]
        reason = f"it was measured unlike {source}: {_difference(row['card'], card)}"
        merged.refused.append(_refusal(row, row["score"], row["finished"], of_row, reason))
    return kept


def _refusal(of: Any, score: str, seeds: Sequence[int], source: str, reason: str) -> dict[str, Any]:
    """What was not joined, and why; `of` is a trial or a row."""
    names = ("architecture", "dataset", "row", "axes")
    facts = {name: of[name] if isinstance(of, Mapping) else getattr(of, name) for name in names}
    return {**facts, "score": score, "seeds": list(seeds), "folder": source, "reason": reason}


def _difference(card: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How two cards differ: `fakes 500, not 1000; protocol fast, not default`."""
    names = ("protocol", "measure", "classifier")
    mine, others = (dict(_leaves({name: one.get(name) for name in names})) for one in (card, other))
    words = [
        f"{name} {mine.get(name)}, not {others.get(name)}"
        for name in dict.fromkeys([*mine, *others])
        if mine.get(name) != others.get(name)
    ]
    return "; ".join(words[:4]) or f"card {card['digest']}, not {other['digest']}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, key if key == "measure" or name in ("", "measure") else f"{name} {key}")
    else:
        yield name, value


def refusal_in_words(one: Mapping[str, Any]) -> str:
    """A refusal as a sentence."""
    row = f", row {one['row']}" if one["row"] else ""
    subject = f"{one['architecture']} on {one['dataset']}{row}, {one['score']} of {one['folder']}"
    return f"{subject} is not joined: {one['reason']}."
