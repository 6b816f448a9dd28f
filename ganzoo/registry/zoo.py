"""The zoo finds parts by name. Names live in package metadata; nothing of a part is imported until it is named."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import traceback
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

import click
import pluggy

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.hooks import KINDS, Component, ComponentHooks
from ganzoo.contract.options import options_of, resolve
from ganzoo.contract.paths import absolute_path
from ganzoo.registry.guard import SLOW_LISTING, Note, guarded_import, print_to_stderr, restoring_process_state
from ganzoo.registry.loading import checked_class, load_location, load_target
from ganzoo.registry.local_imports import local_imports
from ganzoo.registry.source import PLUGIN_ERRORS, error_with_line, file_of, refuse_other_api, source, source_location

FIRST_PARTY = "torch-ganzoo"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SINGULAR = {kind: KINDS[kind].lower() for kind in KINDS}


@dataclasses.dataclass
class Plugin:
    """One distribution that offers parts."""

    distribution: str
    version: str
    components: list[Component] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    disabled: bool = False


class Zoo:
    """All parts that can be had here."""

    def __init__(self, sources: Iterable[Distribution] | None = None, note: Note = print_to_stderr) -> None:
        self.plugins: dict[str, Plugin] = {}
        self.note = note
        #: titles of the parts that were loaded, by module
        self._loaded: dict[str, set[str]] = {}
        disabled = {_normal(name) for name in os.environ.get("GANZOO_DISABLE", "").split(",") if name.strip()}
        for distribution in sources if sources is not None else distributions():
            try:
                points = [point for point in distribution.entry_points if point.group.partition(".")[0] == "ganzoo"]
                name, version = (_normal(distribution.name), str(distribution.version)) if points else ("", "")
            except Exception:  # noqa: S112  (what is left of a removed package; it may be anybody's)
                continue
            if points and name not in self.plugins:
                self.plugins[name] = plugin = Plugin(name, version, disabled=name in disabled)
                self._add(plugin, points)

    def _add(self, plugin: Plugin, points: list[EntryPoint]) -> None:
        for point in points:
            if point.group != "ganzoo":
                self._offer(plugin, Component(point.group.removeprefix("ganzoo."), point.name, point.value))
            elif not plugin.disabled:
                self._offer_module(plugin, point)
        if plugin.disabled:
            plugin.errors.clear()  # whoever disabled it knows

    def _offer_module(self, plugin: Plugin, point: EntryPoint) -> None:
        """A module with `ganzoo_components`: imported now, in a try and behind a door of its own."""
        manager = pluggy.PluginManager("ganzoo")
        manager.add_hookspecs(ComponentHooks)
        owner, file = f"{plugin.distribution} {plugin.version}, module {point.value}", source(point.value)
        try:
            refuse_other_api(file, "it")
            with guarded_import(owner, self.note, SLOW_LISTING):
                manager.register(import_module(point.module))
                manager.check_pending()
                if not manager.hook.ganzoo_components.get_hookimpls():
                    raise GanzooError("it has no function ganzoo_components marked @ganzoo.hookimpl")
                offers = [component for answer in manager.hook.ganzoo_components() for component in answer]
            for component in offers:
                self._offer(plugin, component)
        except PLUGIN_ERRORS as error:
            plugin.errors.append(f"module {point.value}: {error_with_line(error, file)}")

    @staticmethod
    def _offer(plugin: Plugin, component: Component) -> None:
        """Take in one part; note the error of one that nobody could ask for."""
        if component.kind not in KINDS:
            plugin.errors.append(f"the kind {component.kind!r} is unknown.{did_you_mean(component.kind, KINDS)}")
        elif not _NAME.fullmatch(component.name):
            plugin.errors.append(
                f"{component.kind}: the name {component.name!r} is not made of a-z, 0-9 and single dashes"
            )
        elif any((c.kind, c.name) == (component.kind, component.name) for c in plugin.components):
            plugin.errors.append(f"{component.kind}: the name {component.name!r} is offered twice")
        else:
            owned = dataclasses.replace(component, distribution=plugin.distribution, version=plugin.version)
            plugin.components.append(owned)

    def components(self, kind: str) -> list[Component]:
        """All parts of a kind, by name; disabled distributions left out."""
        found = [c for p in self.plugins.values() if not p.disabled for c in p.components if c.kind == kind]
        return sorted(found, key=lambda component: (component.name, component.distribution))

    def names(self, kind: str) -> list[str]:
        """Short names of a kind."""
        return list(dict.fromkeys(component.name for component in self.components(kind)))

    def find(self, kind: str, name: str) -> Component:
        """The part of that short name or full id. Raises UsageError, with near names, where no one part has it."""
        known = self.components(kind)
        matches = [component for component in known if name in (component.name, component.id)]
        own = [component for component in matches if component.distribution == FIRST_PARTY]
        matches = own or matches  # a first-party name never changes meaning
        if len(matches) > 1:
            ids = " and ".join(component.id for component in matches)
            raise UsageError(f"{name!r} is the name of {len(matches)} {kind}: write the full id, {ids}.")
        if not matches:
            raise UsageError(self._miss(kind, name))
        return matches[0]

    def _miss(self, kind: str, name: str) -> str:
        if name.endswith(".py"):
            return f"{name!r} is a file: a part in it is named by its class, {name}:Class."
        names = self.names(kind)
        others = [other for other in KINDS if other != kind and name in self.names(other)]
        hint = did_you_mean(name, names)
        if others and not hint:
            hint = f" It is one of the {others[0]}."
        broken = [f"{p.distribution}: {p.errors[0]}" for p in self.plugins.values() if p.errors]
        blocked = [p.distribution for p in self.plugins.values() if p.disabled]
        extra = f" A plugin failed to load: {broken[0]}." if broken else ""
        extra += f" Disabled by GANZOO_DISABLE: {', '.join(blocked)}." if blocked else ""
        known = f" Known: {', '.join(names)}." if not hint and len(names) <= 12 else ""
        return f"There is no {_SINGULAR[kind]} {name!r}.{hint}{known} See `ganzoo list {kind}`.{extra}"

    def full_name(self, kind: str, choice: Choice) -> str:
        """A part with its distribution and version, `ganzoo-margin/margin 0.1.0`, or its location."""
        if choice.is_location:
            return choice.name
        component = self.find(kind, choice.name)
        return f"{component.id} {component.version}"

    def title(self, kind: str, choice: Choice) -> str:
        """What a sentence about a part begins with: `Loss ganzoo-margin/margin 0.1.0`."""
        return f"{KINDS[kind]} {self.full_name(kind, choice)}"

    def load(self, kind: str, choice: Choice) -> type[Any]:
        """The class of a part, imported now. Raises GanzooError naming the part and the cause where it cannot be."""
        owner = self.title(kind, choice)
        if choice.is_location:
            found = load_location(choice.name, self.note)
        else:
            target = self.find(kind, choice.name).target
            refuse_other_api(source(target), owner)
            found = load_target(target, owner, self.note)
        loaded = checked_class(kind, found, owner)
        self._loaded.setdefault(loaded.__module__, set()).add(owner)
        return loaded

    def blame(self, error: BaseException) -> str:
        """The part in whose code an error arose, the error and the line, in one sentence; empty if it is nobody's."""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        for frame in reversed(frames):
            titles = self._loaded.get(frame.f_globals.get("__name__", ""))
            if titles:
                return f"{' or '.join(sorted(titles))} failed: {error_with_line(error, Path(frame.f_code.co_filename))}"
        return ""

    def kind_of(self, location: Choice) -> str:
        """Which kind of part lies at a location. Raises UsageError where it is none."""
        from ganzoo.contract.components import kind_of_class

        if kind := kind_of_class(load_location(location.name, self.note)):
            return kind
        raise UsageError(f"{location.name} is no part: it is derived from none of {', '.join(KINDS.values())}.")

    def resolve(self, kind: str, choice: Choice) -> Choice:
        """The same choice with all its options, converted and checked; a location becomes one from anywhere."""
        name = choice.name
        if choice.is_location:
            path, _, attribute = name.rpartition(":")
            name = f"{absolute_path(path)}:{attribute}"
        options = self.options(kind, choice)
        for option in options_of(self.load(kind, choice)).values():
            if isinstance(option.type, click.Path) and options.get(option.name):
                options[option.name] = str(absolute_path(options[option.name]))
            elif isinstance(options.get(option.name), str) and (place := _place(options[option.name])):
                options[option.name] = place
        return Choice(name, options)

    def options(self, kind: str, choice: Choice) -> dict[str, Any]:
        """All options of a chosen part. Raises UsageError for one it does not have or a value it does not take."""
        loaded, owner = self.load(kind, choice), f"{_SINGULAR[kind].capitalize()} {choice.name}"
        reserved = {"split": "train"} if kind == "datasets" else {}
        for name in reserved.keys() & choice.options.keys():
            raise UsageError(f"{owner} has no option {name!r}: a run chooses it.")
        try:
            options = resolve(loaded, {**choice.options, **reserved}, owner)
        except (TypeError, NameError) as error:
            raise GanzooError(
                f"{self.title(kind, choice)} breaks the contract: {error}{source_location(loaded)}"
            ) from None
        return {name: value for name, value in options.items() if name not in reserved}

    def build(self, kind: str, choice: Choice, **reserved: Any) -> Any:
        """A part made from its choice. Raises UsageError for bad options, GanzooError where its constructor fails."""
        loaded = self.load(kind, choice)
        options = self.options(kind, choice)
        owner = self.title(kind, choice)
        try:
            with restoring_process_state(owner, self.note, draws=True):
                part = loaded(**options, **reserved)
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

    def provenance(self, kind: str, choice: Choice) -> dict[str, Any]:
        """Where a part comes from: its id and version, or the file and its sha256, and those of what it imports."""
        if choice.is_location:
            path = absolute_path(choice.name.rpartition(":")[0])
            found = {"location": choice.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            beside = local_imports(path)
            return {**found, "imports": beside} if beside else found
        component = self.find(kind, choice.name)
        return {"id": component.id, "version": component.version, "target": component.target}


def _place(value: str) -> str:
    """A part in a file, `./cells.py:Cells`, seen from anywhere; empty for any other text."""
    file, _, rest = value.partition(".py:")
    path = Path(file + ".py")
    return f"{absolute_path(path)}:{rest}" if rest and path.is_file() else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@functools.cache
def zoo() -> Zoo:
    """The zoo of this process."""
    return Zoo()
