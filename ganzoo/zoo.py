"""The zoo finds parts by name. Names live in package metadata; nothing of a part is imported until it is named."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

import pluggy

from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.hooks import KINDS, Component, ComponentHooks
from ganzoo.contract.options import resolve
from ganzoo.contract.recipe import Choice

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

    def __init__(self, sources: Iterable[Distribution] | None = None) -> None:
        self.plugins: dict[str, Plugin] = {}
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

    def _offer_module(self, plugin: Plugin, point: EntryPoint) -> None:
        """A module with `ganzoo_components`: imported now, in a try and behind a door of its own."""
        manager = pluggy.PluginManager("ganzoo")
        manager.add_hookspecs(ComponentHooks)
        try:
            manager.register(import_module(point.module))
            manager.check_pending()
            if not manager.hook.ganzoo_components.get_hookimpls():
                raise GanzooError("it has no function ganzoo_components marked @ganzoo.hookimpl")
            for component in (component for answer in manager.hook.ganzoo_components() for component in answer):
                self._offer(plugin, component)
        except (Exception, SystemExit) as error:
            plugin.errors.append(f"module {point.value}: {_cause(error)}")

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

    def load(self, kind: str, choice: Choice) -> type[Any]:
        """The class of a part, imported now. Raises GanzooError naming the part and the cause where it cannot be."""
        if choice.is_location:
            return _checked_class(kind, _load_location(choice.name), choice.name)
        component = self.find(kind, choice.name)
        try:
            module, _, attribute = component.target.partition(":")
            loaded = functools.reduce(getattr, attribute.split("."), import_module(module))
        except (Exception, SystemExit) as error:
            raise GanzooError(
                f"{_SINGULAR[kind].capitalize()} {component.id} {component.version} cannot be loaded: {_cause(error)}"
            ) from error
        return _checked_class(kind, loaded, component.id)

    def kind_of(self, location: Choice) -> str:
        """Which kind of part lies at a location. Raises UsageError where it is none."""
        loaded = _load_location(location.name)
        door = import_module("ganzoo")
        for kind, base in KINDS.items():
            if isinstance(loaded, type) and issubclass(loaded, getattr(door, base)):
                return kind
        raise UsageError(f"{location.name} is no part: it is derived from none of {', '.join(KINDS.values())}.")

    def resolve(self, kind: str, choice: Choice) -> Choice:
        """The same choice with all its options, converted and checked; a location becomes one from anywhere."""
        name = choice.name
        if choice.is_location:
            path, _, attribute = name.rpartition(":")
            name = f"{Path(path).expanduser().resolve()}:{attribute}"
        return Choice(name, self.options(kind, choice))

    def options(self, kind: str, choice: Choice) -> dict[str, Any]:
        """All options of a chosen part. Raises UsageError for one it does not have or a value it does not take."""
        loaded, owner = self.load(kind, choice), f"{_SINGULAR[kind].capitalize()} {choice.name}"
        reserved = {"split": "train"} if kind == "datasets" else {}
        for name in reserved.keys() & choice.options.keys():
            raise UsageError(f"{owner} has no option {name!r}: a run chooses it.")
        try:
            options = resolve(loaded, {**choice.options, **reserved}, owner)
        except (TypeError, NameError) as error:
            raise GanzooError(f"{owner} breaks the contract: {error}") from None
        return {name: value for name, value in options.items() if name not in reserved}

    def build(self, kind: str, choice: Choice, **reserved: Any) -> Any:
        """A part made from its choice. Raises UsageError for bad options, GanzooError where its constructor fails."""
        loaded = self.load(kind, choice)
        options = self.options(kind, choice)
        try:
            return loaded(**options, **reserved)
        except (GanzooError, MemoryError):
            raise
        except ValueError as error:
            raise UsageError(f"{_SINGULAR[kind].capitalize()} {choice}: {error}") from error
        except Exception as error:
            raise GanzooError(f"{_SINGULAR[kind].capitalize()} {choice} cannot be made: {_cause(error)}") from error

    def provenance(self, kind: str, choice: Choice) -> dict[str, str]:
        """Where a part comes from: its id and version, or the file and its sha256."""
        if choice.is_location:
            path = Path(choice.name.rpartition(":")[0]).expanduser()
            return {"location": choice.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        component = self.find(kind, choice.name)
        return {"id": component.id, "version": component.version, "target": component.target}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _cause(error: BaseException) -> str:
    """`ImportError: no module x (file.py, line 3)`: the kind, the words, and the innermost line that is not ours."""
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(frames) if "importlib" not in f.filename and f.filename != __file__), None)
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    words = str(error).strip().splitlines()
    where = f" ({place.filename}, line {place.lineno})" if place else ""
    return f"{type(error).__name__}: {words[0] if words else 'no message'}{where}"


def _load_location(location: str) -> type[Any]:
    text, _, attribute = location.rpartition(":")
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"There is no file {text}; a location is written FILE.py:Class.")
    name = f"ganzoo_location_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{text} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise GanzooError(f"{text} cannot be loaded: {_cause(error)}") from error
    loaded: type[Any] | None = getattr(sys.modules[name], attribute, None)
    if loaded is None:
        classes = [key for key, value in vars(sys.modules[name]).items() if isinstance(value, type)]
        raise UsageError(f"{text} has no class {attribute!r}.{did_you_mean(attribute, classes)}")
    return loaded


def _checked_class(kind: str, loaded: Any, owner: str) -> type[Any]:
    base = getattr(import_module("ganzoo"), KINDS[kind])
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise GanzooError(f"{owner} is not a ganzoo.{KINDS[kind]}: it must be a class derived from it.")
    missing = sorted(getattr(loaded, "__abstractmethods__", ()))
    if missing:
        raise GanzooError(f"{owner} is not complete: it does not define {', '.join(missing)}.")
    return loaded


def _source(component: Component) -> Path | None:
    """The file a part is written in, found without importing anything; None where there is none."""
    top, *inner = component.target.partition(":")[0].split(".")
    spec = importlib.util.find_spec(top)
    roots = list(spec.submodule_search_locations or []) if spec else []
    candidates = [Path(root, *inner).with_suffix(".py") for root in roots] if inner else []
    candidates += [Path(root, *inner, "__init__.py") for root in roots]
    if spec and spec.origin and not inner:
        candidates.append(Path(spec.origin))
    return next((path for path in candidates if path.is_file()), None)


def summary(component: Component) -> str:
    """The first line of a part's docstring, read from its source without importing anything; empty if there is none."""
    try:
        source = _source(component)
        body = ast.parse(source.read_text(encoding="utf-8")).body if source else []
    except (OSError, SyntaxError, ValueError, ImportError):
        return ""
    name = component.target.partition(":")[2]
    found = (ast.get_docstring(node) for node in body if isinstance(node, ast.ClassDef) and node.name == name)
    return (next(found, None) or "").partition("\n")[0].strip()


def faults(plugin: Plugin) -> list[str]:
    """What is wrong with a distribution, as far as it shows without importing any of it."""
    found = list(plugin.errors)
    for component in plugin.components:
        where = f"{component.kind} {component.name}"
        try:
            source = _source(component)
            if source is None:
                found.append(f"{where}: there is no module {component.target.partition(':')[0]}")
            else:
                ast.parse(source.read_text(encoding="utf-8"))
        except SyntaxError as error:
            found.append(f"{where}: SyntaxError: {error.msg} ({source}, line {error.lineno})")
        except (OSError, ValueError, ImportError) as error:
            found.append(f"{where}: {type(error).__name__}: {error}")
    return found


@functools.cache
def zoo() -> Zoo:
    """The zoo of this process."""
    return Zoo()
