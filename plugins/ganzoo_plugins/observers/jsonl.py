"""All events of a run as one stream of JSON lines, for programs that follow a training."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from ganzoo_plugins.observers._tracker import Event, Tracker, name_of


class JSONL(Tracker):
    """Writes events.jsonl: the recipe and the environment, then each tick, score and sample grid, then the end.

    Each line is an object with the key `event`: `start`, `tick`, `samples`, `score` or `end`. stats.jsonl and
    scores.jsonl have the same numbers; this file has them in one order, with the grids, in a place of your choice, and
    without checksums. It is written again when a run is resumed, so it is that of a run that was never stopped.
    """

    def __init__(
        self, *, path: Annotated[str, "File, or folder for NAME-OF-RUN.jsonl; default: events.jsonl in the run."] = ""
    ) -> None:
        super().__init__()
        self._chosen = path

    def start(self, run: Any, events: list[Event]) -> None:
        """Write the whole file, complete or not at all."""
        file = self._path(run)
        file.parent.mkdir(parents=True, exist_ok=True)
        begin = {"event": "start", "run": name_of(run, ""), "recipe": run.recipe.to_dict()}
        lines = [{**begin, "environment": run.environment}, *(_entry(run, event) for event in events)]
        temporary = file.with_name(f".{file.name}.new")
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(line)}\n" for line in lines)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)

    def log(self, run: Any, events: Iterable[Event]) -> None:
        """Append a line for each event, in one write."""
        self._append(run, [_entry(run, event) for event in events])

    def finish(self, run: Any, error: BaseException | None) -> None:
        """Append the last line; after a failure before the first tick, remove the file."""
        if error is not None and not run.lines("stats.jsonl"):
            self._path(run).unlink(missing_ok=True)
        else:
            reason = None if error is None else f"{type(error).__name__}: {error}"
            self._append(run, [{"event": "end", "error": reason}])

    def _append(self, run: Any, lines: Iterable[dict[str, Any]]) -> None:
        with open(self._path(run), "a", encoding="utf-8") as stream:
            stream.write("".join(f"{json.dumps(line)}\n" for line in lines))

    def _path(self, run: Any) -> Path:
        if not self._chosen:
            return Path(run.path) / "events.jsonl"
        chosen = Path(self._chosen).expanduser()
        return chosen / f"{name_of(run, '')}.jsonl" if chosen.is_dir() else chosen


def _entry(run: Any, event: Event) -> dict[str, Any]:
    line = dict(event.line)
    if event.kind == "samples":  # the path as it is in the run, which may be moved
        line = {"step": event.step, "images": event.images, "path": str(line["path"].relative_to(run.path))}
    return {"event": event.kind, **line}
