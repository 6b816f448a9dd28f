"""The pluggy manager with our hook specifications. It refuses unknown hooks, and prints calls under GANZOO_DEBUG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from ganzoo.contract.errors import GanzooError, did_you_mean
from ganzoo.contract.hooks import RunHooks
from ganzoo.registry.guard import print_to_stderr


def make_manager(specifications: type) -> pluggy.PluginManager:
    """An empty plugin manager with the hooks of one class. With GANZOO_DEBUG every call is printed to stderr."""
    manager = pluggy.PluginManager("ganzoo")
    manager.add_hookspecs(specifications)
    if os.environ.get("GANZOO_DEBUG"):
        manager.add_hookcall_monitoring(_print_call, _print_failure)
    return manager


def register(manager: pluggy.PluginManager, plugin: object, name: str, location: str = "") -> None:
    """Register a plugin whose hooks all keep to their specifications.

    Raises GanzooError for an unknown hook or argument; the plugin is then not registered. `location` names its file.
    """
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        unknown = _unknown_hook(manager, plugin)
        manager.unregister(name=name)
        if not unknown:
            raise GanzooError(f"{' '.join(str(error).split())}{location}") from None
        known = sorted(hook for hook, caller in vars(manager.hook).items() if caller.has_spec())
        if unknown in vars(RunHooks) and unknown not in known:
            hint = " Only an observer has this hook: put it into a class derived from ganzoo.Observer."
        else:
            hint = f"{did_you_mean(unknown, known)} Known: {', '.join(known)}."
        raise GanzooError(f"unknown hook {unknown!r}{location}.{hint}") from None


def _unknown_hook(manager: pluggy.PluginManager, plugin: object) -> str:
    """The name of a hook of the plugin that has no specification and is not optional; empty if there is none."""
    for caller in manager.get_hookcallers(plugin) or []:
        required = any(impl.plugin is plugin and not impl.optionalhook for impl in caller.get_hookimpls())
        if required and not caller.has_spec():
            return caller.name
    return ""


def _names(implementations: Sequence[Any]) -> str:
    return ", ".join(implementation.plugin_name for implementation in reversed(implementations))


def _print_call(hook: str, implementations: Sequence[Any], arguments: Mapping[str, object]) -> None:
    if implementations:
        print_to_stderr(f"hook {hook}: calls {_names(implementations)}")


def _print_failure(
    outcome: pluggy.Result[Any], hook: str, implementations: Sequence[Any], arguments: Mapping[str, object]
) -> None:
    if outcome.exception is not None:
        error = outcome.exception
        print_to_stderr(f"hook {hook}: {_names(implementations)} raised {type(error).__name__}: {error}")
