"""Observers: those who see a run, each behind a door of its own, so that an error has a name on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import RunHooks
from ganzoo.run import Run


class Observers:
    """Those who see the run, each behind a door of its own, so that an error has a name on it."""

    def __init__(self, observers: Mapping[str, object]) -> None:
        self._doors = {}
        for name, observer in observers.items():
            manager = pluggy.PluginManager("ganzoo")
            manager.add_hookspecs(RunHooks)
            try:
                manager.register(observer)
                manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise GanzooError(f"Observer {name}: {error}") from None
            self._doors[name] = manager.hook

    def tell(self, hook: str, **facts: Any) -> None:
        """Call one hook of every observer. Raises GanzooError with the name of the one that failed."""
        for name, door in self._doors.items():
            try:
                getattr(door, hook)(**facts)
            except GanzooError:
                raise
            except Exception as error:
                raise GanzooError(f"Observer {name} failed in {hook}: {type(error).__name__}: {error}") from error

    def tell_end(self, run: Run, error: BaseException | None) -> None:
        """on_run_end, to everybody, whatever some of them raise; the first such error is raised afterwards."""
        failures = []
        for name, door in self._doors.items():
            try:
                door.on_run_end(run=run, error=error)
            except Exception as failure:
                failures.append(f"Observer {name} failed in on_run_end: {type(failure).__name__}: {failure}")
        if failures and error is None:
            raise GanzooError(failures[0])
