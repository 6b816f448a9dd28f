"""A run in Weights & Biases, offline by default: no account and no network are needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

from ganzoo_plugins.observers._tracker import Event, Tracker, key_of, name_of, not_installed, scalars_of


class WandB(Tracker):
    """Logs into a folder `wandb`, by default in the run. `wandb sync FOLDER` uploads it when and where you want.

    wandb cannot take back a point. So when a run is resumed offline, its events are written again from its own files
    into a new offline folder, which then replaces the old one. With `mode=online` the points go to the server at once;
    a resumed run goes on there, and steps that the server has already are not sent again.
    """

    def __init__(
        self,
        *,
        project: Annotated[str, "Project of the run."] = "ganzoo",
        name: Annotated[str, "Name of the run; default: the name of its directory."] = "",
        folder: Annotated[str, "Where the folder `wandb` is made; default: the run."] = "",
        mode: Annotated[Literal["offline", "online"], "online needs an account."] = "offline",
    ) -> None:
        super().__init__()
        self._project, self._name, self._folder, self._mode = project, name, folder, mode
        self._logged: Any = None
        self._cards: dict[str, Any] = {}

    def start(self, run: Any, events: list[Event]) -> None:
        """Write all events into a new offline folder, and then remove the older ones of this run."""
        try:
            import wandb
        except ImportError as error:
            raise not_installed("wandb") from error
        folder, key = self._path(run), key_of(run)
        folder.mkdir(parents=True, exist_ok=True)
        older = self._offline_folders(run)
        self._logged = wandb.init(
            project=self._project,
            name=name_of(run, self._name),
            id=key,
            dir=str(folder),
            mode=self._mode,
            resume="allow" if self._mode == "online" else None,
            reinit="create_new",
            config={"recipe": run.recipe.to_dict(), "environment": run.environment},
            settings=wandb.Settings(
                console="off",  # it must not take over the output of the training
                silent=True,
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        self._send(run, events)
        # wandb's own process has closed the files of the older folders: it handles one request after the other, and
        # this process has finished the run before. A process that was killed has left no open run behind.
        for path in older:
            shutil.rmtree(path)

    def log(self, run: Any, events: Iterable[Event]) -> None:
        """Add events of one step."""
        self._send(run, events)

    def _send(self, run: Any, events: Iterable[Event]) -> None:
        import wandb

        for step, together in groupby(events, key=lambda event: event.step):
            row: dict[str, Any] = {}
            for event in together:
                row["_timestamp"] = self.time_of(run, event)
                if event.kind == "samples":
                    row["samples"] = wandb.Image(str(event.line["path"]))
                elif event.kind == "tick":
                    row |= scalars_of(event.line)
                else:
                    row |= self._score(event)
            self._logged.log(row, step=step)

    def _score(self, event: Event) -> dict[str, Any]:
        name, card = event.line["score"], event.line["card"]
        if card["digest"] not in self._cards:
            self._cards[card["digest"]] = card
            self._logged.config.update({"cards": dict(self._cards)}, allow_val_change=True)
        return {f"scores/{name}": event.line["value"], f"cards/{name}": card["digest"]}

    def finish(self, run: Any, error: BaseException | None) -> None:
        """Close the run; after a failure before the first tick, remove its folder."""
        if self._logged is None:
            return
        self._logged.finish(exit_code=0 if error is None else 1)
        if error is not None and not self._folder and not run.lines("stats.jsonl"):
            shutil.rmtree(self._path(run) / "wandb", ignore_errors=True)

    def _path(self, run: Any) -> Path:
        return Path(self._folder).expanduser() if self._folder else Path(run.path)

    def _offline_folders(self, run: Any) -> list[Path]:
        """All offline folders of this run. wandb adds -1, -2 to the name of a second folder of the same second."""
        root, key = self._path(run) / "wandb", key_of(run)
        return [*root.glob(f"offline-run-*-{key}"), *root.glob(f"offline-run-*-{key}-*")]
