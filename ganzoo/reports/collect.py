"""Read runs and benchmarks into the records of a report. What is damaged becomes a failure with a sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Choice, short_name
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.experiments.axes import recipe_digest
from ganzoo.reports.memory import Memory, states_of
from ganzoo.reports.model import Failure, Measurement, RunRecord
from ganzoo.reports.sources import find_sources
from ganzoo.storage.files import digest_of, parse_json
from ganzoo.storage.run import Run
from ganzoo.storage.saved_progress import progress_of

#: the most points of a curve of one run
_POINTS = 240
#: a training that has written nothing for so many seconds is taken for a stopped one
_SILENT = 3600
#: columns of stats.jsonl that are no curves
_NO_CURVES = {"step", "partial", "seconds"}
#: the files of a run that a record is read from
_FILES = ("recipe.json", "environment.json", "stats.jsonl", "scores.jsonl", "diagnosis.json")
#: the records of the newest report, of so many runs at most
_records = Memory[RunRecord](most=1000)


def collect(paths: Sequence[Path]) -> tuple[list[RunRecord], list[Failure], dict[tuple[str, str], dict[str, Any]]]:
    """The runs below `paths`, what failed, and what benchmarks measured on real images.

    The last is the `floor`, `floor_images` and `calibration` of the rows of tables by (score, digest of the card).
    Raises UsageError for a path below which there is no run.
    """
    sources = find_sources(paths)
    runs, failures = [], []
    for path in sources.runs:
        try:
            runs.append(_remembered(path))
        except GanzooError as error:
            failures.append(Failure(str(path), str(error)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            failures.append(Failure(str(path), f"{path} cannot be read as a run: {type(error).__name__}: {error}."))
    _records.keep({_key(path) for path in sources.runs})
    failures += [
        Failure(str(path), f"{path} holds no run: there is no recipe.json beside its other files.")
        for path in sources.damaged
    ]
    reals: dict[tuple[str, str], dict[str, Any]] = {}
    for folder in sources.benchmarks:
        failures += _failed_trials(folder)
        reals |= _real_images(folder)
    return runs, failures, reals


def _key(path: Path) -> tuple[str, str]:
    """What a record depends on beside the files: how the run is named, and where it is."""
    return str(path), os.path.realpath(path)


def _remembered(path: Path) -> RunRecord:
    """The record of a run, read anew if one of its files has changed. The caller may add to it."""
    state = states_of(path / name for name in _FILES), _is_written(path)
    record = _records.get(_key(path), state)
    if record is None:
        record = _read(path)
        _records.put(_key(path), state, record)
    return dataclasses.replace(record, notes=list(record.notes), drawings={})


def _read(path: Path) -> RunRecord:
    run = Run.open(path)
    recipe, notes = run.recipe, []
    environment: dict[str, Any] = {}
    try:
        environment = run.environment
    except GanzooError as error:
        notes.append(str(error))
    record = RunRecord(
        id="r" + digest_of({"path": os.path.realpath(path)})[:12],
        path=str(path),
        name=path.resolve().name,
        architecture=short_name(recipe.architecture),
        dataset=_dataset_name(recipe.dataset),
        seed=recipe.seed,
        recipe=recipe.to_dict(),
        recipe_digest=recipe_digest(recipe, environment.get("parts")),
        state="unfinished",
        environment=_environment(environment),
        class_names=[str(name) for name in environment.get("class_names", [])][:1000],
        notes=notes,
    )
    if images := environment.get("images"):
        record.shape = [images[name] for name in ("channels", "height", "width")]
    stats: list[dict[str, Any]] = []
    try:
        stats = run.lines("stats.jsonl")
    except GanzooError as error:
        notes.append(str(error))
    _add_stats(record, stats)
    progress = progress_of(run.path, stats[-1] if stats else {})
    record.step, record.images, record.epoch = progress.step, progress.images, progress.epochs
    try:
        record.measurements = measurements(run)
    except GanzooError as error:
        notes.append(str(error))
    record.state = _state(run, record, stats)
    record.row, record.axes = _place_in_study(_json(path.parent.parent / "cells" / path.name / "cell.json"))
    if record.state == "diverged":
        notes.append(_divergence(run.diagnosis or {}))
    return record


def _dataset_name(choice: Choice | None) -> str:
    """The dataset with the options that are its own: `digits`, `digits:size=8`; a folder without those above it."""
    if choice is None:
        return ""
    options = {name: value for name, value in choice.options.items() if name in ("size", "path") and value}
    options = {name: Path(str(value)).name if name == "path" else value for name, value in options.items()}
    return str(Choice(short_name(choice), options))


def _environment(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader wants to know of the machine and the software, without long lists."""
    names = ("device", "device_name", "threads", "platform", "compile", "capture", "world_size", "training_images")
    found = {name: facts[name] for name in names if facts.get(name) not in (None, [], "")}
    return found | {f"version of {package}": version for package, version in facts.get("versions", {}).items()}


def _add_stats(record: RunRecord, lines: Sequence[Mapping[str, Any]]) -> None:
    if not lines:
        return
    last = lines[-1]
    record.step, record.images = int(last["step"]), int(last["images"])
    record.epoch, record.seconds = float(last.get("epoch", 0.0)), last.get("seconds")
    chosen = thinned(lines, _POINTS)
    names = [name for name in dict.fromkeys(key for line in chosen for key in line) if name not in _NO_CURVES]
    record.stats = {name: [_rounded(line.get(name)) for line in chosen] for name in names}


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _state(run: Run, record: RunRecord, stats: Sequence[Mapping[str, Any]]) -> str:
    if run.diagnosis is not None:
        return "diverged"
    length = run.recipe.length
    done = length.count_of(record.step, record.images, record.epoch)
    # the last batch of an epoch, or of a number of images, may go beyond or end just before the length
    if done >= length.count * 0.9999 or (length.unit == "epochs" and done >= length.count - 0.01):
        return "finished"
    return "training" if _is_written(run.path) else "unfinished"


def _is_written(path: Path) -> bool:
    """Whether a process trains the run in `path`: there is a lock, and it or the statistics have changed lately."""
    if not (path / "lock").exists():
        return False
    with suppress(OSError):  # a lock may be left of a process that was killed
        newest = max((path / name).stat().st_mtime for name in ("lock", "stats.jsonl"))
        return time.time() - newest < _SILENT
    return True


def _divergence(facts: Mapping[str, Any]) -> str:
    step = facts.get("step")
    return f"The training diverged{f' at step {step}' if step is not None else ''}; see diagnosis.json."


def measurements(run: Run) -> list[Measurement]:
    """The scores of a run, one entry for each score and each way it was measured. Raises GanzooError for damage.

    `last` and `best` are those of a benchmark's table: the newest generator, and the one that was best by `best_by`.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in run.lines("scores.jsonl"):
        groups.setdefault((line["score"], line["card"]["digest"]), []).append(line)
    best = run.best()
    return [_measurement(lines, best["step"] if best else None) for lines in groups.values()]


def _measurement(lines: Sequence[dict[str, Any]], best_step: int | None) -> Measurement:
    ordered = sorted(lines, key=lambda line: (line["images"], not line.get("training", False)))
    newest = ordered[-1]["images"]
    # the score of the training counts; without one, the first that was measured afterwards
    last = next(line for line in ordered if line["images"] == newest)
    chosen = [line for line in ordered if line["step"] == best_step]
    best = chosen[0] if chosen else last
    seeds: dict[Any, float] = {}
    for line in ordered:
        if line["images"] == newest:
            seeds.setdefault(line["card"].get("subject", {}).get("seed"), line["value"])
    names = ("images", "epoch", "value", "training")
    points = [{name: _rounded(line.get(name)) for name in names} for line in thinned(ordered, _POINTS)]
    return Measurement(
        score=last["score"],
        better=last["better"],
        digest=last["card"]["digest"],
        card={name: value for name, value in last["card"].items() if name != "time"},
        points=points,
        last=float(last["value"]),
        best=float(best["value"]),
        last_images=newest,
        best_images=best["images"],
        fakes=list(seeds.values()),
    )


# --- benchmarks -------------------------------------------------------------------------------------------------------


def _failed_trials(folder: Path) -> list[Failure]:
    """The failed trials of a benchmark, with the architecture, the dataset and the seed of their request."""
    found = []
    for path in sorted((folder / "cells").glob("*/failed.json")):
        reason = str(_json(path).get("reason", "")) or "It failed for a reason that was not recorded."
        failure = Failure(str(folder / "runs" / path.parent.name), reason)
        with suppress(GanzooError, ValueError, TypeError, KeyError, AttributeError):
            request = _json(path.parent / "cell.json")
            failure.row, failure.axes = _place_in_study(request)
            recipe = Recipe.from_dict(with_current_names(request["recipe"]))
            failure.architecture, failure.dataset = short_name(recipe.architecture), _dataset_name(recipe.dataset)
            failure.seed, failure.recipe_digest = recipe.seed, recipe_digest(recipe)
        found.append(failure)
    return found


def _place_in_study(request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The named row of a trial and its values of axes, from its cell.json; empty where it is none of a study."""
    row, axes = request.get("row"), request.get("axes")
    return str(row or ""), dict(axes) if isinstance(axes, dict) else {}


def _real_images(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The scores of real images in the table of a benchmark, by (score, digest of the card)."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    try:
        rows = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return found
    for row in rows if isinstance(rows, list) else []:
        with suppress(TypeError, KeyError, AttributeError, ValueError):
            facts = {"floor": row["floor"], "floor_images": row["floor_images"], "scale": row["calibration"] or []}
            if row["card"] and isinstance(facts["floor"], int | float):
                facts["scale"] = [{**one, "value": float(one["value"])} for one in facts["scale"]]
                found[row["score"], row["card"]["digest"]] = facts
    return found


def _json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
