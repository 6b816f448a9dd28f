"""A run in TensorBoard: curves, scores, sample grids, recipe and environment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from ganzoo_plugins.observers._tracker import Event, Tracker, key_of, name_of, not_installed, scalars_of, texts_of


class TensorBoard(Tracker):
    """Writes event files for `tensorboard --logdir`, by default into the folder `tensorboard` of the run.

    When a run is resumed, its events are written again from its own files into a new event file, which then replaces
    the old one. The new file begins with a mark that lets a TensorBoard that is open forget the old points.
    """

    def __init__(
        self,
        *,
        folder: Annotated[str, "A log folder of several runs; default: the folder `tensorboard` of the run."] = "",
        name: Annotated[str, "Name of the run in that folder; default: the name of its directory."] = "",
    ) -> None:
        super().__init__()
        self._folder, self._name = folder, name
        self._writer: Any = None
        self._digests: dict[str, str] = {}

    def start(self, run: Any, events: list[Event]) -> None:
        """Write all events into a new file, and then remove the older files of this run."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise not_installed("tensorboard") from error
        folder = self._path(run)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f".ganzoo-{key_of(run)}"
        older = list(folder.glob(f"events.out.tfevents.*{suffix}"))
        self._writer = SummaryWriter(str(folder), purge_step=0, filename_suffix=suffix)
        for name, text in texts_of(run).items():
            self._writer.add_text(name, _code(text), 0, walltime=self._begin(run))
        self.log(run, events)
        for path in older:
            path.unlink(missing_ok=True)

    def log(self, run: Any, events: Iterable[Event]) -> None:
        """Write events, and flush them to the disk."""
        for event in events:
            self._write(event, self.time_of(run, event))
        self._writer.flush()

    def _write(self, event: Event, time: float) -> None:
        if event.kind == "samples":
            import numpy as np
            from PIL import Image

            with Image.open(event.line["path"]) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image("samples", pixels, event.step, walltime=time, dataformats="HWC")
        elif event.kind == "tick":
            for name, value in scalars_of(event.line).items():
                self._writer.add_scalar(name, value, event.step, walltime=time)
        else:
            name, card = event.line["score"], event.line["card"]
            self._writer.add_scalar(f"scores/{name}", event.line["value"], event.step, walltime=time)
            if self._digests.get(name) != card["digest"]:  # a text only where it is another measurement than before
                self._digests[name] = card["digest"]
                text = f"card {card['digest']}\n\n{_code(json.dumps(card, indent=2))}"
                self._writer.add_text(f"cards/{name}", text, event.step, walltime=time)

    def finish(self, run: Any, error: BaseException | None) -> None:
        """Close the file; after a failure before the first tick, remove it."""
        if self._writer is None:
            return
        self._writer.close()
        if error is not None and not run.lines("stats.jsonl"):
            for path in self._path(run).glob(f"events.out.tfevents.*.ganzoo-{key_of(run)}"):
                path.unlink(missing_ok=True)
            if not any(self._path(run).iterdir()):
                self._path(run).rmdir()

    def _path(self, run: Any) -> Path:
        if not self._folder:
            return Path(run.path) / "tensorboard"
        return Path(self._folder).expanduser() / name_of(run, self._name)

    def _begin(self, run: Any) -> float:
        return float((run.path / "environment.json").stat().st_mtime)


def _code(text: str) -> str:
    """Text as a code block: TensorBoard reads texts as Markdown."""
    return "".join(f"    {line}\n" for line in text.splitlines())
