"""The run directory: everything that happened, in files that are whole or absent.

recipe.json       what is computed; only its length moves, when a run is made longer
environment.json  versions, device, and the distribution of each part; written before the first step
lock              the process that writes here now
stats.jsonl       one line a tick          scores.jsonl   one line a score
diagnosis.json    only where the training diverged: the first bad step and what was bad in it
samples/          grids of fixed latents, named by images seen
generators/       the generator (its moving average, if the recipe has one), safetensors
checkpoints/      the whole state, the last two
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, Choice, short_name
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.paths import absolute_path
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.storage import checkpoints
from ganzoo.storage.files import make_directory, parse_json, sync_directory, write_atomically
from ganzoo.storage.lock import GUARD, Lock, exclusive


class Run:
    """One run directory. Opened with `writes=False` (another rank, or a reader), it may only be appended scores."""

    def __init__(self, path: Path, recipe: Recipe, writes: bool = False) -> None:
        self.path = path
        self.recipe = recipe
        self.writes = writes
        self.begun = False  # whether this process has played a step of it
        self._lock: Lock | None = None

    @property
    def taken_over(self) -> bool:
        """Whether a process that is gone had left its lock here."""
        return self._lock is not None and self._lock.taken_over

    # --- making and opening -------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, recipe: Recipe, environment: Mapping[str, Any]) -> Run:
        """A new run in `path`. Raises UsageError where something lies there, GanzooError where it cannot be made."""
        cls.refuse_taken(path)
        run = cls(path, recipe, writes=True)
        try:
            make_directory(path)
            run._lock = Lock(path)
            run._write_json("environment.json", environment)
            run._write_json("recipe.json", recipe.to_dict())
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or half a character
            run.close()
            raise GanzooError(f"Cannot write a run to {path}: {getattr(error, 'strerror', None) or error}.") from None
        return run

    @staticmethod
    def refuse_taken(path: Path) -> None:
        """Raise UsageError where no new run can be made in `path`."""
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out needs a new or empty directory.")
        if (path / "recipe.json").exists():
            raise UsageError(
                f"{path} holds a run already: continue it with `ganzoo resume {path}`, or choose another --out."
            )
        # what a process leaves that was killed before its run was there is nobody's
        halves = (".environment.json.", ".recipe.json.", GUARD)
        names = [child.name for child in path.iterdir()] if path.is_dir() else []
        if strange := [name for name in names if name != "lock" and not name.startswith(halves)]:
            if strange == ["environment.json"] and _is_environment(path / "environment.json"):
                return
            raise UsageError(f"{path} is not empty and holds no run; choose a new or empty directory for --out.")

    def discard(self) -> None:
        """Remove a run that has come to nothing: the files it is made of, and the directory if that leaves it empty."""
        for name in ("recipe.json", "environment.json", "stats.jsonl", "scores.jsonl"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("samples", "generators", "checkpoints"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        with suppress(OSError):
            self.path.rmdir()

    @classmethod
    def open(cls, path: Path, writes: bool = False) -> Run:
        """The run in `path`. Raises UsageError where there is none, GanzooError where another process writes it."""
        if not (path / "recipe.json").is_file():
            raise UsageError(
                f"{path} holds no run: there is no recipe.json. Name the directory that `ganzoo train` printed."
            )
        try:
            recipe = Recipe.from_dict(with_current_names(parse_json((path / "recipe.json").read_bytes())))
            if recipe.architecture is None or recipe.dataset is None:
                raise ValueError("it names no architecture or no dataset")
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            raise GanzooError(f"{path / 'recipe.json'} is damaged: {str(error).rstrip('.')}.") from None
        _refuse_code_within(path, recipe)
        run = cls(path, recipe, writes)
        if writes:
            run._lock = Lock(path)
        return run

    def lengthen(self, length: Amount) -> None:
        """Move the end of the run: the one field of a recipe that may change."""
        self.recipe = self.recipe.merged({"length": length})
        if self.writes:
            self._write_json("recipe.json", self.recipe.to_dict())

    @property
    def environment(self) -> dict[str, Any]:
        """What environment.json says."""
        path = self.path / "environment.json"
        try:
            facts: dict[str, Any] = dict(parse_json(path.read_bytes()).items())
            _check_environment(facts)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise GanzooError(f"{path} is damaged or missing: {error}.") from None
        return facts

    def close(self) -> None:
        """Let others write here, unless one of them does already."""
        if self._lock is not None:
            self._lock.release()

    # --- what happened ------------------------------------------------------------------------------------------

    def append(self, name: str, *lines: Mapping[str, Any]) -> None:
        """Append JSON lines to `name` (stats.jsonl, scores.jsonl), in one write: all of them or, mostly, none."""
        with exclusive(self.path / GUARD), open(self.path / name, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # a crash left a torn line
                    file.write(b"\n")
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def sync(self, name: str) -> None:
        """Make what was appended to `name` survive a power cut, and `name` itself."""
        if (self.path / name).exists():
            with open(self.path / name, "rb") as file:
                os.fsync(file.fileno())
            sync_directory(self.path)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of `name`; a torn one, left by a crash, is passed over."""
        return list(_json_lines(self.path / name))

    def cut_back(self, progress: TrainingProgress, undue: Collection[str] = ()) -> None:
        """Forget what lies beyond `moment`, so that a resumed run leaves the files of one never interrupted.

        `undue` are the folders in which the file of this very moment is forgotten as well: only the end made it.
        """
        for name in ("stats.jsonl", "scores.jsonl"):
            with exclusive(self.path / GUARD):  # `ganzoo score` may be appending in another process
                self._cut_back_lines(name, progress)
        for folder in ("samples", "generators"):
            for file in (self.path / folder).glob("*"):
                if file.stem.isdecimal() and int(file.stem) > progress.images - (folder in undue):
                    file.unlink()
        files = ("environment.json", "recipe.json", "stats.jsonl", "scores.jsonl")
        for halves in (*(f".{name}.*" for name in files), "samples/.*", "generators/.*"):
            for file in self.path.glob(halves):  # of writes that a crash broke off
                file.unlink()

    def _cut_back_lines(self, name: str, progress: TrainingProgress) -> None:
        path = self.path / name
        lines = list(_json_lines(path))
        kept = [
            line
            for line in lines
            if (name == "scores.jsonl" and not line.get("training"))  # scored by hand: not to be taken back
            or (line["step"] <= progress.step and not line.get("partial"))
        ]
        if path.exists() and (kept != lines or not path.read_bytes().endswith(b"\n")):
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def scored_at(self, step: int) -> set[str]:
        """The scores that the training has given the generator of this step."""
        lines = [line for line in self.lines("scores.jsonl") if line.get("training") and line["step"] == step]
        return {line["score"] for line in lines if "score" in line}

    def best(self, partial: bool = True) -> dict[str, Any] | None:
        """The best line of scores.jsonl among those made while training, by the recipe's `best_by`; None without one.

        Only numbers measured alike are compared: those like the last one. Without `partial`, the score of the end,
        which a longer run would take back, is left out.
        """
        lines = [line for line in self.lines("scores.jsonl") if line.get("training") and _is_score(line)]
        lines = [line for line in lines if partial or not line.get("partial")]
        name = self.recipe.best_by or (lines[0]["score"] if lines else "")
        lines = [line for line in lines if line["score"] == name]
        alike = [line for line in lines if line["card"]["digest"] == lines[-1]["card"]["digest"]]
        if not alike:
            return None
        sign = 1 if alike[0]["better"] == "lower" else -1
        return min(alike, key=lambda line: sign * line["value"])  # the first of equals

    @property
    def spared(self) -> set[str]:
        """Checkpoints that are kept for their scores: the best one, and the best one that a longer run would have."""
        return {f"{best['images']:09d}" for best in (self.best(), self.best(partial=False)) if best}

    def file(self, folder: str, progress: TrainingProgress, suffix: str) -> Path:
        """`folder/000500000.suffix`: the name is the images seen."""
        make_directory(self.path / folder)
        return self.path / folder / f"{progress.images:09d}{suffix}"

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint, good or not."""
        return checkpoints.newest(self.path / "checkpoints")

    @property
    def diagnosis(self) -> dict[str, Any] | None:
        """What diagnosis.json says of a training that diverged."""
        try:
            found: dict[str, Any] = dict(parse_json((self.path / "diagnosis.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return found

    def write_diagnosis(self, facts: Mapping[str, Any]) -> None:
        """Write down how the training diverged."""
        self._write_json("diagnosis.json", facts)

    def newest(self, folder: str, suffix: str) -> Path | None:
        """The file of `folder` with the most images seen."""
        files = [file for file in (self.path / folder).glob(f"*{suffix}") if file.stem.isdecimal()]
        return max(files, key=lambda file: int(file.stem), default=None)

    def _write_json(self, name: str, value: Any) -> None:
        write_atomically(self.path / name, (json.dumps(value, indent=2) + "\n").encode())


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().splitlines():
        with suppress(ValueError, AttributeError):
            found = parse_json(line)
            needed = found.get("step", 0 if path.name == "scores.jsonl" else None)
            if isinstance(needed, int):
                yield found


def _is_score(line: Mapping[str, Any]) -> bool:
    kinds = {"score": str, "value": int | float, "better": str, "card": dict}
    whole = all(isinstance(line.get(name), kind) for name, kind in kinds.items())
    return whole and "digest" in line["card"] and isinstance(line.get("images", 0), int)


def _is_environment(path: Path) -> bool:
    """Whether this is what a run writes down of its environment, and not a file of somebody's own."""
    try:
        _check_environment(parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return False
    return True


def _check_environment(facts: Mapping[str, Any]) -> None:
    """Raise an error that says what is wrong where a run's facts are none."""
    for name, kind in {"device": str, "images": dict, "class_names": list, "versions": dict}.items():
        if not isinstance(facts[name], kind):
            raise TypeError(f"{name} is {facts[name]!r:.40}")
    numbers = [facts["images"][name] for name in ("channels", "height", "width", "classes")]
    if not all(isinstance(number, int) and 0 < number <= 1 << 16 for number in numbers) or len(facts["images"]) > 4:
        raise ValueError(f"images is {facts['images']!r:.80}")
    for name, parts in facts.get("parts", {}).items():
        kinds = {"location": str, "imports": dict}
        if not all(isinstance(p, dict) and all(isinstance(p.get(k, t()), t) for k, t in kinds.items()) for p in parts):
            raise TypeError(f"parts has {name}: {parts!r:.40}")


def _named_within(choice: Choice) -> Iterator[Choice]:
    """The parts that options name, such as the extractor of an evaluator."""
    for value in choice.options.values():
        if isinstance(value, str) and ".py:" in value:
            with suppress(UsageError):
                yield Choice.parse(value)


def _refuse_code_within(path: Path, recipe: Recipe) -> None:
    """A run that brings its own code is not one of ours: nothing of it is executed."""
    found = [getattr(recipe, field.name) for field in dataclasses.fields(recipe)]
    values = [value for each in found for value in (each if isinstance(each, tuple) else [each])]
    named = [value for value in values if isinstance(value, Choice)]
    for choice in [*named, *(part for value in named for part in _named_within(value))]:
        if choice.is_location:
            file = absolute_path(choice.name.rpartition(":")[0])
            if file.is_relative_to(path.resolve()):
                raise GanzooError(
                    f"{path / 'recipe.json'} names code that lies in the run itself, {file.name}: read it, and if you "
                    f"trust it, move it elsewhere and name its new place there."
                )


def free_directory(recipe: Recipe, parent: Path) -> Path:
    """`parent/ARCHITECTURE-DATASET`, with the first number behind it that is free."""
    base = "-".join(short_name(c).lower() for c in (recipe.architecture, recipe.dataset))
    names = [base, *(f"{base}-{number}" for number in range(2, 10_000))]
    return next(parent / name for name in names if not (parent / name).exists())
