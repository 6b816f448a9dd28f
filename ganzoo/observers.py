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
                raise GanzooError(f"Observer {name}: {' '.join(str(error).split())}") from None
            self._doors[name] = manager.hook

    def tell(self, hook: str, **facts: Any) -> None:
        """Call one hook of every observer. Raises GanzooError with the name of the one that failed."""
        for name, door in self._doors.items():
            try:
                getattr(door, hook)(**facts)
            except Exception as error:
                raise GanzooError(_failure(name, hook, error)) from error

    def tell_end(self, run: Run, error: BaseException | None) -> None:
        """on_run_end, to everybody, whatever some of them raise; the first such error is raised afterwards."""
        failures = []
        for name, door in self._doors.items():
            try:
                door.on_run_end(run=run, error=error)
            except Exception as failure:
                failures.append(_failure(name, "on_run_end", failure))
        if failures and error is None:
            raise GanzooError(failures[0])


def _failure(name: str, hook: str, error: Exception) -> str:
    cause = str(error) if isinstance(error, GanzooError) else f"{type(error).__name__}: {error}"
    return f"Observer {name} failed in {hook}: {cause}"
