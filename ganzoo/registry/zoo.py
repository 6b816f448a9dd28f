"""The zoo finds parts by name. Names come from plugins without an import; a part is imported when it is first used."""

from __future__ import annotations

import functools
import hashlib
import shlex
import traceback
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import click
import pluggy

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean, sentence
from ganzoo.contract.hooks import KINDS, Command, Component, Pretrained
from ganzoo.contract.options import COMMON_OPTIONS, options_of, resolve, split_schedules
from ganzoo.contract.paths import absolute_path, is_directory, is_file
from ganzoo.registry.guard import Note, print_to_stderr, restoring_process_state
from ganzoo.registry.loading import checked_class, load_command, load_location, load_target
from ganzoo.registry.local_imports import local_imports
from ganzoo.registry.plugins import FIRST_PARTY, Plugin, PluginRegistry, normal_id
from ganzoo.registry.source import PLUGIN_ERRORS, error_with_line, file_of, refuse_other_api, source, source_location


class Zoo:
    """All parts that are available here: those of installed plugins by name, and classes in files by their location."""

    def __init__(self, sources: Iterable[Distribution] | None = None, note: Note = print_to_stderr) -> None:
        self.note = note
        self._registry = PluginRegistry(sources, note)
        #: classes that were loaded and checked, by their component, or by kind and location
        self._classes: dict[object, type[Any]] = {}
        #: titles of the parts and commands that were loaded, by module
        self._loaded: dict[str, set[str]] = {}

    # --- names ---

    @property
    def manager(self) -> pluggy.PluginManager:
        """The pluggy manager of all plugins. To unregister or block a plugin in it removes its parts from the zoo."""
        return self._registry.manager

    @property
    def plugins(self) -> dict[str, Plugin]:
        """Every plugin by the name of its distribution, disabled ones too, as the manager knows it now."""
        return self._registry.plugins

    def components(self, kind: str) -> list[Component]:
        """All parts of a kind, sorted by name, without those of disabled distributions."""
        found = [c for p in self.plugins.values() if not p.disabled for c in p.components if c.kind == kind]
        return sorted(found, key=lambda component: (component.name, component.distribution))

    def commands(self) -> list[Command]:
        """The commands that plugins add, in the order in which pluggy calls the plugins."""
        return [command for plugin in self.plugins.values() for command in plugin.commands]

    def pretrained(self) -> list[Pretrained]:
        """The trained generators that plugins ship, sorted by name, without those of disabled distributions."""
        found = [member for p in self.plugins.values() if not p.disabled for member in p.pretrained]
        return sorted(found, key=lambda member: (member.name, member.distribution))

    def names(self, kind: str) -> list[str]:
        """Short names of a kind."""
        return list(dict.fromkeys(component.name for component in self.components(kind)))

    def find(self, kind: str, name: str) -> Component:
        """The part with that short name or full id. Raises UsageError, with similar names, unless exactly one has it.

        A part of torch-ganzoo itself always keeps its short name.
        """
        given, name = name, normal_id(name)
        matches = [component for component in self.components(kind) if name in (component.name, component.id)]
        matches = [component for component in matches if component.distribution == FIRST_PARTY] or matches
        if len(matches) > 1:
            ids = " and ".join(component.id for component in matches)
            raise UsageError(f"{name!r} is the name of {len(matches)} {kind}: write the full id, {ids}.")
        if not matches:
            raise UsageError(self._no_such_part(kind, given))
        return matches[0]

    def _no_such_part(self, kind: str, name: str) -> str:
        if name.endswith(".py"):
            return f"{name!r} is a file: a part in it is named by its class, {name}:Class."
        if kind == "datasets" and name.startswith((".", "/", "~")):
            return _no_such_folder(name)
        names = self.names(kind)
        others = [other for other in KINDS if other != kind and name in self.names(other)]
        hint = did_you_mean(name, names)
        if kind == "datasets" and is_directory(absolute_path(name)):
            hint = f" It is a folder: write {shlex.quote(f'./{name}')} to train on its pictures."
        if others and not hint:
            hint = f" It is one of the {others[0]}."
        known = f" Known: {', '.join(names)}." if not hint and len(names) <= 12 else ""
        return f"There is no {_singular(kind)} {name!r}.{hint}{known} See `ganzoo list {kind}`.{self.missing_plugins()}"

    def missing_plugins(self) -> str:
        """Sentences that name one plugin that failed and all disabled ones; they may explain why a name is missing."""
        broken = [f"{p.distribution}: {p.errors[0]}" for p in self.plugins.values() if p.errors]
        disabled = [p.distribution for p in self.plugins.values() if p.disabled]
        text = f" A plugin failed to load: {sentence(broken[0])}" if broken else ""
        return text + (f" Disabled by GANZOO_DISABLE: {', '.join(disabled)}." if disabled else "")

    def full_name(self, kind: str, choice: Choice) -> str:
        """A part with its distribution and version, `ganzoo-margin/margin 0.1.0`, or its location."""
        if choice.is_location:
            return choice.name
        component = self.find(kind, choice.name)
        return f"{component.id} {component.version}".rstrip()

    def title(self, kind: str, choice: Choice) -> str:
        """The subject of a sentence about a part: `Loss ganzoo-margin/margin 0.1.0`."""
        return f"{KINDS[kind]} {self.full_name(kind, choice)}"

    def provenance(self, kind: str, choice: Choice) -> dict[str, Any]:
        """Where a part comes from: its id and version, or its file with the sha256 of it and of what it imports."""
        if choice.is_location:
            path = absolute_path(choice.name.rpartition(":")[0])
            try:
                found = {"location": choice.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            except OSError as error:
                raise GanzooError(
                    f"{path} cannot be read ({error.strerror}): put it back, or change its permissions."
                ) from None
            imports = local_imports(path)
            return {**found, "imports": imports} if imports else found
        component = self.find(kind, choice.name)
        return {"id": component.id, "version": component.version, "target": component.target}

    # --- classes ---

    def load(self, kind: str, choice: Choice) -> type[Any]:
        """The class of a part, imported and checked the first time. Raises GanzooError, naming the part and the cause.

        A file is not read again: a change of it shows in the next process.
        """
        if choice.is_location:
            path, _, attribute = choice.name.rpartition(":")
            key: object = (kind, absolute_path(path), attribute)
        else:
            key = self.find(kind, choice.name)
        if key not in self._classes:
            owner = self.title(kind, choice)
            if isinstance(key, Component):
                refuse_other_api(source(key.target), owner)
                found = load_target(key.target, owner, self.note)
            else:
                found = load_location(choice.name, self.note)
            loaded = checked_class(kind, found, owner)
            self._loaded.setdefault(loaded.__module__, set()).add(owner)
            self._classes[key] = loaded
        return self._classes[key]

    def load_command(self, command: Command) -> click.Command:
        """The click command of a plugin, imported now. Raises GanzooError, naming the plugin and the cause."""
        owner = f"The command {command.id} {command.version}".rstrip()
        loaded = load_command(command.target, owner, self.note)
        for module in {command.target.partition(":")[0], getattr(loaded.callback, "__module__", "")}:
            self._loaded.setdefault(module, set()).add(owner)
        return loaded

    def kind_of(self, location: Choice) -> str:
        """The kind of the part at a location. Raises UsageError if the class there is not a part."""
        from ganzoo.contract.components import kind_of_class

        if kind := kind_of_class(load_location(location.name, self.note)):
            return kind
        raise UsageError(f"{location.name} is not a part: it is not derived from any of {', '.join(KINDS.values())}.")

    def blame(self, error: BaseException) -> str:
        """One sentence with the part in whose code an error arose, the error and the line; empty if it was no part."""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        for frame in reversed(frames):
            titles = self._loaded.get(frame.f_globals.get("__name__", ""))
            if titles:
                return f"{' or '.join(sorted(titles))} failed: {error_with_line(error, Path(frame.f_code.co_filename))}"
        return ""

    # --- options and objects ---

    def resolve(self, kind: str, choice: Choice) -> Choice:
        """The same choice with all its options, converted and checked. Relative locations and paths become absolute."""
        name = choice.name
        if choice.is_location:
            path, _, attribute = name.rpartition(":")
            name = f"{absolute_path(path)}:{attribute}"
        loaded = self.load(kind, choice)
        options = self._options(kind, choice, loaded)
        for option in options_of(loaded).values():
            value = options.get(option.name)
            if isinstance(option.type, click.Path) and value:
                options[option.name] = str(absolute_path(value))
            elif isinstance(value, str) and (location := _absolute_location(value)):
                options[option.name] = location
        return Choice(name, options)

    def options(self, kind: str, choice: Choice) -> dict[str, Any]:
        """All options of a chosen part. Raises UsageError for an unknown option or a value that is not allowed."""
        return self._options(kind, choice, self.load(kind, choice))

    def _options(self, kind: str, choice: Choice, loaded: type[Any]) -> dict[str, Any]:
        owner = f"{_singular(kind).capitalize()} {choice.name}"
        reserved = {"split": "train"} if kind == "datasets" else {}
        for name in reserved.keys() & choice.options.keys():
            raise UsageError(f"{owner} has no option {name!r}: a run chooses it.")
        try:
            options = resolve(loaded, {**choice.options, **reserved}, owner, kind)
        except (TypeError, NameError) as error:
            raise GanzooError(
                f"{self.title(kind, choice)} breaks the contract: {error}{source_location(loaded)}"
            ) from None
        return {name: value for name, value in options.items() if name not in reserved}

    def build(self, kind: str, choice: Choice, **reserved: Any) -> Any:
        """A new object of a part. Raises UsageError for bad options, GanzooError where its constructor fails."""
        loaded = self.load(kind, choice)
        options = self._options(kind, choice, loaded)
        schedules = split_schedules(loaded, options)
        options |= {name: schedule.base for name, schedule in schedules.items()}
        # what the engine reads, and no constructor takes: the intervals and schedules of the part
        own = options_of(loaded)
        attached = {
            name: options.pop(name) for name in COMMON_OPTIONS.get(kind, ()) if name in options and name not in own
        }
        attached |= {"scheduled": schedules} if schedules else {}
        owner = self.title(kind, choice)
        try:
            with restoring_process_state(owner, self.note, draws=True):
                part = loaded(**options, **reserved)
            vars(part).update(attached)
        except (GanzooError, MemoryError):
            raise
        except ValueError as error:
            raise UsageError(f"{KINDS[kind]} {choice}: {error}") from error
        except PLUGIN_ERRORS as error:
            raise GanzooError(f"{owner} cannot be made: {error_with_line(error, file_of(loaded))}") from error
        if kind == "datasets":
            from ganzoo.registry.contract_checks import CheckedPart, check_dataset

            check_dataset(part, CheckedPart(owner, file_of(loaded)))
        return part


def _no_such_folder(path: str) -> str:
    """Why a path is no folder of pictures, and what to write instead."""
    if is_file(absolute_path(path)):
        advice = f"write npy:path={path}" if path.endswith(".npy") else "give the folder that holds the pictures"
        return f"{path} is a file, not a folder of pictures: {advice}."
    return (
        f"There is no folder {path}: give a folder of pictures, or a dataset by its name; see `ganzoo list datasets`."
    )


def _singular(kind: str) -> str:
    return KINDS[kind].lower()


def _absolute_location(value: str) -> str:
    """The location of a part in a file that exists, `./cells.py:Cells`, with an absolute path; empty for other text."""
    file, _, rest = value.partition(".py:")
    path = Path(file + ".py")
    return f"{absolute_path(path)}:{rest}" if rest and is_file(path) else ""


@functools.cache
def zoo() -> Zoo:
    """The zoo of this process."""
    return Zoo()
