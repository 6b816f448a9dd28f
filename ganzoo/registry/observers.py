"""Observers: those who see a run, each behind a door of its own, so that an error has a name on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from ganzoo.contract.errors import GanzooError, did_you_mean
from ganzoo.contract.hooks import RunHooks
from ganzoo.contract.run_view import RunView
from ganzoo.registry.guard import Note, print_to_stderr, restoring_process_state
from ganzoo.registry.source import PLUGIN_ERRORS, error_with_line, file_of, source_location


class Observers:
    """Those who see the run, each behind a door of its own, so that an error has a name on it."""

    def __init__(self, observers: Mapping[str, object], note: Note = print_to_stderr) -> None:
        self.note = note
        self._doors: dict[str, tuple[object, Any]] = {}
        for name, observer in observers.items():
            _refuse_unknown_hooks(name, observer)
            manager = pluggy.PluginManager("ganzoo")
            manager.add_hookspecs(RunHooks)
            try:
                manager.register(observer)
            except pluggy.PluginValidationError as error:
                words = " ".join(str(error).split())
                raise GanzooError(f"Observer {name}: {words}{source_location(type(observer))}") from None
            self._doors[name] = observer, manager.hook

    def tell(self, hook: str, **facts: Any) -> None:
        """Call one hook of every observer. Raises GanzooError with the name of the one that failed."""
        if "progress" in facts:
            facts["moment"] = facts["progress"]  # the argument's old name
        for name in self._doors:
            self._call(name, hook, facts)

    def tell_end(self, run: RunView, error: BaseException | None) -> None:
        """on_run_end, to everybody, whatever some of them raise; the first such error is raised afterwards."""
        failures = []
        for name in self._doors:
            try:
                self._call(name, "on_run_end", {"run": run, "error": error})
            except GanzooError as failure:
                failures.append(failure)
        if failures and error is None:
            raise failures[0]

    def _call(self, name: str, hook: str, facts: dict[str, Any]) -> None:
        observer, door = self._doors[name]
        try:
            with restoring_process_state(f"Observer {name}", self.note):
                getattr(door, hook)(**facts)
        except PLUGIN_ERRORS as error:
            words = str(error) if isinstance(error, GanzooError) else error_with_line(error, file_of(type(observer)))
            raise GanzooError(f"Observer {name} failed in {hook}: {words}") from error


def _refuse_unknown_hooks(name: str, observer: object) -> None:
    known = [hook for hook in vars(RunHooks) if hook.startswith("on_")]
    for method in dir(type(observer)):
        mark = getattr(getattr(type(observer), method), "ganzoo_impl", None)
        # an optional hook is one of another release of ganzoo, and waits for it
        if mark and not mark["optionalhook"] and method not in known:
            raise GanzooError(
                f"Observer {name}: unknown hook {method!r}{source_location(type(observer))}."
                f"{did_you_mean(method, known)} Known: {', '.join(known)}."
            )
