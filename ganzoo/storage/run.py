"""The run directory: all that a training leaves, in files that are complete or absent.

recipe.json       what is computed; only its length changes, when a run is made longer
environment.json  versions, device, and the distribution of each component; written before the first step
lock              the process that writes here now; .guard, for moments, where a file is appended to
stats.jsonl       one line a tick          scores.jsonl   one line a score
diagnosis.json    only if the training diverged: the first bad step and its bad values
samples/          grids of fixed latents, named by images seen
generators/       the generator (its moving average, if the recipe has one), safetensors
checkpoints/      the whole training state, of the last two checkpoints
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganzoo.contract.choice import Amount, short_name
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.renamed_fields import with_current_names
from ganzoo.storage import checkpoints
from ganzoo.storage.files import make_directory, parse_json, sync_directory, write_atomically
from ganzoo.storage.lock import GUARD, Lock, exclusive
from ganzoo.storage.run_checks import check_environment, is_environment, is_score, json_lines, refuse_own_code


class Run:
    """One run directory. With `writes=False` (another rank, or a reader) only scores may be appended."""

    def __init__(self, path: Path, recipe: Recipe, writes: bool = False) -> None:
        self.path = path
        self.recipe = recipe
        self.writes = writes
        self.begun = False  # whether this process has trained a step of it
        self._lock: Lock | None = None

    @property
    def taken_over(self) -> bool:
        """Whether a process that no longer exists had left its lock here."""
        return self._lock is not None and self._lock.taken_over

    # --- making and opening -------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, recipe: Recipe, environment: Mapping[str, Any]) -> Run:
        """A new run in `path`. Raises UsageError if something is there, GanzooError if it cannot be made."""
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
        """Raise UsageError if no new run can be made in `path`."""
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out needs a new or empty directory.")
        if (path / "recipe.json").exists():
            raise UsageError(
                f"{path} holds a run already: continue it with `ganzoo resume {path}`, or choose another --out."
            )
        # leftovers of a process that was killed before its run was complete may be overwritten
        leftovers = (".environment.json.", ".recipe.json.", GUARD)
        names = [child.name for child in path.iterdir()] if path.is_dir() else []
        if strange := [name for name in names if name != "lock" and not name.startswith(leftovers)]:
            if strange == ["environment.json"] and is_environment(path / "environment.json"):
                return
            raise UsageError(f"{path} is not empty and holds no run; choose a new or empty directory for --out.")

    def discard(self) -> None:
        """Remove the files of a run that failed before its first step, and the directory if that leaves it empty."""
        for name in ("recipe.json", "environment.json", "stats.jsonl", "scores.jsonl"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("samples", "generators", "checkpoints"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        with suppress(OSError):
            self.path.rmdir()

    @classmethod
    def open(cls, path: Path, writes: bool = False) -> Run:
        """The run in `path`. Raises UsageError if there is none, GanzooError if another process writes it."""
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
        refuse_own_code(path, recipe)
        run = cls(path, recipe, writes)
        if writes:
            run._lock = Lock(path)
        return run

    def lengthen(self, length: Amount) -> None:
        """Change the length of the run: the one field of a recipe that may change."""
        self.recipe = self.recipe.merged({"length": length})
        if self.writes:
            self._write_json("recipe.json", self.recipe.to_dict())

    @property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json. Raises GanzooError if it is damaged or missing."""
        path = self.path / "environment.json"
        try:
            facts: dict[str, Any] = dict(parse_json(path.read_bytes()).items())
            check_environment(facts)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise GanzooError(f"{path} is damaged or missing: {error}.") from None
        return facts

    def close(self) -> None:
        """Release the lock, if it is still that of this process."""
        if self._lock is not None:
            self._lock.release()

    # --- what happened ------------------------------------------------------------------------------------------

    def append(self, name: str, *lines: Mapping[str, Any]) -> None:
        """Append JSON lines to `name` (stats.jsonl, scores.jsonl) in one write, so that a crash seldom tears them."""
        with exclusive(self.path / GUARD), open(self.path / name, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # a crash left a torn line
                    file.write(b"\n")
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())

    def sync(self, name: str) -> None:
        """Wait until what was appended to `name` is on the disk, so that it survives a power cut."""
        if (self.path / name).exists():
            with open(self.path / name, "rb") as file:
                os.fsync(file.fileno())
            sync_directory(self.path)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of `name`; a torn one, left by a crash, is left out."""
        return list(json_lines(self.path / name))

    def cut_back(self, progress: TrainingProgress, undue: Collection[str] = ()) -> None:
        """Remove what was written after `progress`, so that a resumed run leaves the files of an uninterrupted one.

        `undue` are the folders in which the file of this same step is removed too: it was written only because the run
        ended there.
        """
        for name in ("stats.jsonl", "scores.jsonl"):
            with exclusive(self.path / GUARD):  # `ganzoo score` may be appending in another process
                self._cut_back_lines(name, progress)
        for folder in ("samples", "generators"):
            for file in (self.path / folder).glob("*"):
                if file.stem.isdecimal() and int(file.stem) > progress.images - (folder in undue):
                    file.unlink()
        files = ("environment.json", "recipe.json", "stats.jsonl", "scores.jsonl")
        for leftovers in (*(f".{name}.*" for name in files), "samples/.*", "generators/.*"):
            for file in self.path.glob(leftovers):  # of writes that a crash broke off
                file.unlink()

    def _cut_back_lines(self, name: str, progress: TrainingProgress) -> None:
        path = self.path / name
        lines = list(json_lines(path))
        kept = [
            line
            for line in lines
            if (name == "scores.jsonl" and not line.get("training"))  # written by `ganzoo score`: kept
            or (line["step"] <= progress.step and not line.get("partial"))
        ]
        if path.exists() and (kept != lines or not path.read_bytes().endswith(b"\n")):
            write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def scored_at(self, step: int) -> set[str]:
        """The names of the scores of this step that were computed during training."""
        lines = [line for line in self.lines("scores.jsonl") if line.get("training") and line["step"] == step]
        return {line["score"] for line in lines if "score" in line}

    def best(self, partial: bool = True) -> dict[str, Any] | None:
        """The best line of scores.jsonl among those of the training, by the recipe's `best_by`; None without one.

        Only values with the same measurement as the last one (the card's digest) are compared. Without `partial`, the
        score at the end of the run is left out, because a longer run would not have it.
        """
        lines = [line for line in self.lines("scores.jsonl") if line.get("training") and is_score(line)]
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
        """Checkpoints that are kept for their scores: the best one, and the best one without the score at the end."""
        return {f"{best['images']:09d}" for best in (self.best(), self.best(partial=False)) if best}

    def file(self, folder: str, progress: TrainingProgress, suffix: str) -> Path:
        """The path `folder/000500000.suffix`, named by the number of images seen; the folder is made."""
        make_directory(self.path / folder)
        return self.path / folder / f"{progress.images:09d}{suffix}"

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint, damaged or not; None if there is none."""
        return checkpoints.newest(self.path / "checkpoints")

    @property
    def diagnosis(self) -> dict[str, Any] | None:
        """The content of diagnosis.json; None if the training did not diverge."""
        try:
            found: dict[str, Any] = dict(parse_json((self.path / "diagnosis.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return found

    def write_diagnosis(self, facts: Mapping[str, Any]) -> None:
        """Write diagnosis.json: how the training diverged."""
        self._write_json("diagnosis.json", facts)

    def newest(self, folder: str, suffix: str) -> Path | None:
        """The file of `folder` with the most images seen; None if there is none."""
        files = [file for file in (self.path / folder).glob(f"*{suffix}") if file.stem.isdecimal()]
        return max(files, key=lambda file: int(file.stem), default=None)

    def _write_json(self, name: str, value: Any) -> None:
        write_atomically(self.path / name, (json.dumps(value, indent=2) + "\n").encode())


def free_directory(recipe: Recipe, parent: Path) -> Path:
    """The first free one of `parent/ARCHITECTURE-DATASET`, `parent/ARCHITECTURE-DATASET-2`, and so on."""
    base = "-".join(short_name(c).lower() for c in (recipe.architecture, recipe.dataset))
    names = [base, *(f"{base}-{number}" for number in range(2, 10_000))]
    return next(parent / name for name in names if not (parent / name).exists())
