"""The observers of a run: each is called by itself, so that an error names the observer.

An error in an observer ends the run, unless the observer is `optional`: then the run goes on without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.hooks import RunHooks
from ganzoo.contract.run_view import RunView
from ganzoo.registry.guard import Note, print_to_stderr, restoring_process_state
from ganzoo.registry.plugin_manager import make_manager, register
from ganzoo.registry.source import PLUGIN_ERRORS, error_text, file_of, source_location


class Observers:
    """The observers of one run, by name. Raises GanzooError for an observer with an unknown hook or argument."""

    def __init__(self, observers: Mapping[str, object], note: Note = print_to_stderr) -> None:
        self.note = note
        self._hooks: dict[str, tuple[object, Any]] = {}
        #: names of the optional observers that have failed
        self._failed: set[str] = set()
        for name, observer in observers.items():
            manager = make_manager(RunHooks)  # one for each observer: an error in one must not keep others from a call
            try:
                register(manager, observer, name, source_location(type(observer)))
            except GanzooError as error:
                raise GanzooError(f"Observer {name}: {error}") from None
            self._hooks[name] = observer, manager.hook

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call one hook of every observer. Raises GanzooError with the name of the observer that failed.

        The failure of an optional observer is a warning, and this observer is not called again before the end.
        """
        if "progress" in arguments:
            arguments["moment"] = arguments["progress"]  # the old name of the argument
        for name in [name for name in self._hooks if name not in self._failed]:
            self._call(name, hook, arguments)

    def tell_end(self, run: RunView, error: BaseException | None) -> None:
        """Call on_run_end of every observer, also after one has failed; then raise the first of their errors."""
        failures = []
        for name in self._hooks:
            try:
                self._call(name, "on_run_end", {"run": run, "error": error})
            except GanzooError as failure:
                failures.append(failure)
        if failures and error is None:
            raise failures[0]

    def _call(self, name: str, hook: str, arguments: dict[str, Any]) -> None:
        observer, hooks = self._hooks[name]
        try:
            with restoring_process_state(f"Observer {name}", self.note):
                getattr(hooks, hook)(**arguments)
        except PLUGIN_ERRORS as error:
            cause = error_text(error, file_of(type(observer)))
            if getattr(observer, "optional", False):
                self._leave_out(name, hook, cause)
                return
            raise GanzooError(f"Observer {name} failed in {hook}: {cause}") from error

    def _leave_out(self, name: str, hook: str, cause: str) -> None:
        """Warn, once, that an optional observer has failed."""
        if name not in self._failed:
            self._failed.add(name)
            self.note(
                f"Warning: observer {name} failed in {hook}: {cause.rstrip('.')}. The run goes on without it; "
                f"`ganzoo resume` tries it again."
            )
