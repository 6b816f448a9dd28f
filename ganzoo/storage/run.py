"""The run directory: all that a training leaves, in files that are complete or absent.

recipe.json       what is computed; only its length changes, when a run is made longer
environment.json  versions, device, and the distribution of each component; written before the first step
lock              the process that writes here now; .guard, for moments, where a file is appended to
history.json      the sets of images and the lengths of the training, and whether a checkpoint was saved
stats.jsonl       one line a tick          scores.jsonl   one line a score; each with a checksum
diagnosis.json    only if the training diverged: the first bad step and its bad values
samples/          grids of fixed latents, named by images seen
generators/       the generator (its moving average, if the recipe has one), safetensors
checkpoints/      the whole training state, of the last two checkpoints
initial.safetensors  the weights that the training starts from, where it was given some
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.storage import checkpoints
from ganzoo.storage.files import make_directory, naming, parse_json, sync_directory, write_atomically
from ganzoo.storage.lines import format_line, prepare_append, read_lines
from ganzoo.storage.lock import GUARD, Lock, exclusive, writer
from ganzoo.storage.recipe_binding import recipe_text, recorded_changes
from ganzoo.storage.run_checks import INITIAL_WEIGHTS, read_environment, read_recipe, refuse_own_code, sealed
from ganzoo.storage.run_directory import refuse_taken
from ganzoo.storage.saved_progress import progress_of


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
    def create(cls, path: Path, recipe: Recipe, environment: Mapping[str, Any], job: str = "") -> Run:
        """A new run in `path`, written by this process of a torchrun `job`.

        Raises UsageError if something is there, GanzooError if it cannot be made.
        """
        cls.refuse_taken(path)
        run = cls(path, recipe, writes=True)
        try:
            make_directory(path)
            run._lock = Lock(path, job)
            run._write_json("environment.json", sealed({**environment, "recipe": recipe_text(recipe, length=False)}))
            run._write_json("recipe.json", recipe.to_dict())
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or half a character
            run.close()
            raise GanzooError(f"Cannot write a run to {path}: {getattr(error, 'strerror', None) or error}.") from None
        return run

    refuse_taken = staticmethod(refuse_taken)

    def discard(self) -> None:
        """Remove the files of a run that failed before its first step, and the directory if that leaves it empty.

        Nothing is removed where another process has begun to write here.
        """
        if writer(self.path) is not None:
            return
        names = ("recipe.json", "environment.json", "history.json", "stats.jsonl", "scores.jsonl", INITIAL_WEIGHTS)
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        for name in ("samples", "generators", "checkpoints"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        with suppress(OSError):
            self.path.rmdir()

    @classmethod
    def open(cls, path: Path, writes: bool = False, job: str = "") -> Run:
        """The run in `path`. Raises UsageError if there is none, GanzooError if another process writes it."""
        recipe = read_recipe(path)
        refuse_own_code(path, recipe)
        run = cls(path, recipe, writes)
        if writes:
            run._lock = Lock(path, job)
        return run

    def change(self, recipe: Recipe) -> None:
        """Write another recipe. Changes of other fields than the length must be recorded in history.json before."""
        self.recipe = recipe
        if self.writes:
            self._write_json("recipe.json", self.recipe.to_dict())

    @property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json. Raises GanzooError if it is damaged or missing."""
        facts = read_environment(self.path / "environment.json")
        return {name: value for name, value in facts.items() if name not in ("sha256", "recipe")}

    @property
    def first_recipe(self) -> str | None:
        """The text of the recipe that the run was started with, without its length; None in runs of 0.1."""
        text: str | None = read_environment(self.path / "environment.json").get("recipe")
        return text

    @property
    def pictures(self) -> Path:
        """The folder for pictures that are drawn without naming a file: the run's own."""
        return self.path

    @property
    def progress(self) -> TrainingProgress:
        """Steps, images and epochs done, as of the last line of the statistics or the last checkpoint."""
        return progress_of(self.path, (self.lines("stats.jsonl") or [{}])[-1])

    def close(self) -> None:
        """Release the lock, if it is still that of this process."""
        if self._lock is not None:
            self._lock.release()

    # --- what happened ------------------------------------------------------------------------------------------

    def append(self, name: str, *lines: Mapping[str, Any]) -> None:
        """Append JSON lines to `name` (stats.jsonl, scores.jsonl) in one write, so that a crash seldom tears them."""
        with naming(self.path / name), exclusive(self.path / GUARD), open(self.path / name, "a+b") as file:
            prepare_append(file)
            file.write("".join(map(format_line, lines)).encode())

    def sync(self, name: str) -> None:
        """Wait until what was appended to `name` is on the disk, so that it survives a power cut."""
        if (self.path / name).exists():
            with open(self.path / name, "rb") as file:
                os.fsync(file.fileno())
            sync_directory(self.path)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of `name`, without checksums. Raises GanzooError for a damaged one; see `read_lines`."""
        return read_lines(self.path / name)

    def count_lines(self, step: int) -> dict[str, list[int]]:
        """File name -> how many lines the training has appended up to `step`, and how many of these are `partial`.

        A `partial` line was written only because the run ended there; a longer run removes it.

        A checkpoint keeps these numbers, so that lines that are lost afterwards are noticed.
        """
        counts = {}
        for name in ("stats.jsonl", "scores.jsonl"):
            lines = [line for line in self.lines(name) if line.get("training", True) and line["step"] <= step]
            counts[name] = [len(lines), sum(line.get("partial", False) for line in lines)]
        return counts

    def lost_lines(self, meta: Mapping[str, Any]) -> list[str]:
        """A note for each file of lines with fewer lines than when a checkpoint with this meta.json was saved."""
        expected, notes = meta.get("lines"), []
        if not isinstance(expected, dict):
            return []  # of an earlier version
        found = self.count_lines(meta["step"])
        for name, (count, partial) in expected.items():
            due = count if f'"length": "{self.recipe.length}"' in meta.get("recipe", "") else count - partial
            if (missing := due - found[name][0]) > 0:
                notes.append(
                    f"{self.path / name} lacks {missing} of the {due} lines that the newest checkpoint knows of; what "
                    f"depends on them is computed from those that are left."
                )
        return notes

    def cut_back(self, progress: TrainingProgress) -> None:
        """Remove what was written after `progress`: the resumed run trains these steps, and writes it, again.

        What was saved up to `progress` stays, also the generator and the grid that were saved only because the run
        ended there, and its scores at that end: they were shown to the user, and can be named. A line of statistics of
        such an end is removed, because the next line covers its steps again.
        """
        for name in ("stats.jsonl", "scores.jsonl"):
            with exclusive(self.path / GUARD):  # `ganzoo score` may be appending in another process
                self._cut_back_lines(name, progress)
        for folder in ("samples", "generators"):
            for file in (self.path / folder).glob("*"):
                if file.stem.isdecimal() and int(file.stem) > progress.images:
                    file.unlink()
        files = ("environment.json", "recipe.json", "history.json", "stats.jsonl", "scores.jsonl")
        for leftovers in (*(f".{name}.*" for name in files), "samples/.*", "generators/.*"):
            for file in self.path.glob(leftovers):  # of writes that a crash broke off
                file.unlink()

    def _cut_back_lines(self, name: str, progress: TrainingProgress) -> None:
        path, scores = self.path / name, name == "scores.jsonl"
        lines = read_lines(path)
        kept = [
            line
            for line in lines
            if (scores and not line.get("training"))  # scored by hand: kept
            or (line["step"] <= progress.step and (scores or not line.get("partial")))
        ]
        if path.exists() and (kept != lines or not path.read_bytes().endswith(b"\n")):
            write_atomically(path, "".join(map(format_line, kept)).encode())

    def scored_at(self, step: int) -> set[str]:
        """The names of the scores of this step that were computed during training."""
        lines = [line for line in self.lines("scores.jsonl") if line.get("training") and line["step"] == step]
        return {line["score"] for line in lines}

    def best(self, partial: bool = True) -> dict[str, Any] | None:
        """The best line of scores.jsonl among those of the training, by the recipe's `best_by`; None without one.

        Only values with the same measurement as the last one (the card's digest) are compared. Without `partial`,
        scores that were computed only because the run ended there are left out.
        """
        lines = [line for line in self.lines("scores.jsonl") if line.get("training")]
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
        """Names of the checkpoints that are kept although they are old: the one with the best score, if there is one.

        Scores that were computed only because the run ended there do not count: a longer run does not compute them.
        All checkpoints, if the scores cannot be read.
        """
        try:
            best = self.best(partial=False)
        except GanzooError:
            return {path.name for path in (self.path / "checkpoints").glob("*")}
        return {f"{best['images']:09d}"} if best else set()

    def file(self, folder: str, progress: TrainingProgress, suffix: str) -> Path:
        """The path `folder/000500000.suffix`, named by the number of images seen; the folder is made."""
        make_directory(self.path / folder)
        return self.path / folder / f"{progress.images:09d}{suffix}"

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint, damaged or not; None if there is none."""
        return checkpoints.newest(self.path / "checkpoints")

    def write_history(self, history: Mapping[str, Any], saved: bool) -> None:
        """Write history.json; `saved` says that a checkpoint of the run has been saved."""
        self._write_json("history.json", {**history, "checkpoint_saved": saved})

    @property
    def history(self) -> dict[str, Any] | None:
        """The content of history.json; None where it is damaged, and where there is none (runs of version 0.1.0)."""
        return self._read_json("history.json")

    @property
    def recipe_changes(self) -> list[dict[str, Any]]:
        """The fields that `ganzoo resume --set` has changed, with their new values, from history.json."""
        newest = self.newest_checkpoint()
        kept = (self._read_json(f"checkpoints/{newest.name}/meta.json") or {}).get("history") if newest else None
        return recorded_changes(self.history or kept or {})

    @property
    def had_checkpoint(self) -> bool:
        """Whether a checkpoint was saved at any time, judged by the other files of the run."""
        generators = len(list((self.path / "generators").glob("*.safetensors")))
        history = self.history
        if history is not None and history.get("checkpoint_saved") is False:
            return generators > 1  # the first generator is written just before the first checkpoint
        return generators > 0 or (self.path / "history.json").exists()

    @property
    def diagnosis(self) -> dict[str, Any] | None:
        """The content of diagnosis.json; None if the training did not diverge."""
        return self._read_json("diagnosis.json")

    def write_diagnosis(self, facts: Mapping[str, Any]) -> None:
        """Write diagnosis.json: how the training diverged."""
        self._write_json("diagnosis.json", facts)

    def newest(self, folder: str, suffix: str) -> Path | None:
        """The file of `folder` with the most images seen; None if there is none."""
        files = [file for file in (self.path / folder).glob(f"*{suffix}") if file.stem.isdecimal()]
        return max(files, key=lambda file: int(file.stem), default=None)

    def _read_json(self, name: str) -> dict[str, Any] | None:
        """The content of a file of the run; None where it is absent or damaged."""
        try:
            found: dict[str, Any] = dict(parse_json((self.path / name).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return found

    def _write_json(self, name: str, value: Any) -> None:
        write_atomically(self.path / name, (json.dumps(value, indent=2) + "\n").encode())
