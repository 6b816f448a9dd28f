"""The installed plugins: every distribution is registered with pluggy, and asked which parts and commands it offers."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions, version
from typing import Any, TypeVar

from ganzoo.contract.errors import GanzooError, did_you_mean
from ganzoo.contract.hooks import KINDS, Command, Component, PluginHooks, Pretrained, hookimpl
from ganzoo.registry.guard import SLOW_LISTING, Note, guarded_import, patience_with, restoring_process_state
from ganzoo.registry.plugin_manager import make_manager, register
from ganzoo.registry.source import PLUGIN_ERRORS, error_text, refuse_other_api, source

#: the distribution of this package
FIRST_PARTY = "torch-ganzoo"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[^\s:]+:[^\s:]+")
#: the name of a trained generator, architecture/dataset
_MEMBER = re.compile(rf"{_NAME.pattern}/{_NAME.pattern}")
_Offered = TypeVar("_Offered", Component, Command, Pretrained)


@dataclasses.dataclass
class Plugin:
    """One distribution, or one object that was registered at run time, and what it adds."""

    distribution: str
    version: str
    components: list[Component] = dataclasses.field(default_factory=list)
    commands: list[Command] = dataclasses.field(default_factory=list)
    pretrained: list[Pretrained] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    #: blocked in the manager, by GANZOO_DISABLE or `set_blocked`: nothing of it can be used
    disabled: bool = False
    #: names under which the manager knows it, each with the hooks that it implements
    hooks: dict[str, list[str]] = dataclasses.field(default_factory=dict)


class EntryPointPlugin:
    """The pluggy plugin of a distribution that declares its parts as entry points. Nothing is imported for it."""

    def __init__(self, components: Iterable[Component]) -> None:
        self.components = list(components)

    @hookimpl
    def ganzoo_components(self) -> list[Component]:
        """The parts, as the metadata of the distribution names them."""
        return self.components


@dataclasses.dataclass
class _Installed:
    """The metadata of one distribution, and the errors of its modules."""

    version: str
    declared: list[Component]
    errors: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _Answer:
    """What one registered object returned from its hooks."""

    plugin: object
    components: list[Any] = dataclasses.field(default_factory=list)
    commands: list[Any] = dataclasses.field(default_factory=list)
    pretrained: list[Any] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)


class PluginRegistry:
    """All installed plugins, in one pluggy manager.

    A distribution is registered under its own name: as its module, where a module is all it declares (entry point
    group `ganzoo`), else as an `EntryPointPlugin`, and each of its modules as `distribution:module` beside it. The
    hooks of each plugin are called separately, so that an error in one plugin does not affect the others.
    """

    def __init__(self, sources: Iterable[Distribution] | None, note: Note) -> None:
        self.manager = make_manager(PluginHooks)
        self._note = note
        self._installed: dict[str, _Installed] = {}
        self._answers: dict[str, _Answer] = {}
        self._found: tuple[object, dict[str, Plugin]] = (None, {})
        for name in os.environ.get("GANZOO_DISABLE", "").split(","):
            if name.strip():
                self.manager.set_blocked(normal_name(name))
        for distribution in sources if sources is not None else distributions():
            try:
                points = [point for point in distribution.entry_points if point.group.partition(".")[0] == "ganzoo"]
                name, release = (normal_name(distribution.name), str(distribution.version)) if points else ("", "")
            except Exception:  # noqa: S112  (the remains of a package that was removed, not always one of ours)
                continue
            if points and name not in self._installed:
                self._register(name, release, points)
                self._installed[name].errors += _unmet(distribution)

    def _register(self, name: str, version: str, points: list[EntryPoint]) -> None:
        modules = [point for point in points if point.group == "ganzoo"]
        declared = [Component(p.group.removeprefix("ganzoo."), p.name, _target(p)) for p in points if p not in modules]
        installed = self._installed[name] = _Installed(version, declared)
        if self.manager.is_blocked(name):
            return
        if declared or len(modules) > 1:
            self.manager.register(EntryPointPlugin(declared), name)
        for point in modules:
            registered_as = f"{name}:{_target(point)}" if declared or len(modules) > 1 else name
            try:
                self._register_module(point, registered_as, f"{name} {version}, module {_target(point)}")
            except PLUGIN_ERRORS as error:
                installed.errors.append(f"module {_target(point)}: {error_text(error, source(_target(point)))}")

    def _register_module(self, point: EntryPoint, name: str, owner: str) -> None:
        """Import a module with hooks, inside the guard, and register it."""
        refuse_other_api(source(_target(point)), "it")
        with guarded_import(owner, self._note, patience_with(_target(point), SLOW_LISTING)):
            module = point.load()
        register(self.manager, module, name)
        if not self.manager.get_hookcallers(module):
            self.manager.unregister(name=name)
            hooks = " or ".join(hook for hook in vars(PluginHooks) if hook.startswith("ganzoo_"))
            raise GanzooError(f"it has no function {hooks} marked @ganzoo.hookimpl")

    @property
    def plugins(self) -> dict[str, Plugin]:
        """Every plugin by the name of its distribution, as the manager knows it now."""
        state = [(name, id(plugin)) for name, plugin in self.manager.list_name_plugin()]
        if self._found[0] != state:
            self._found = state, self._collect()
        return self._found[1]

    def _collect(self) -> dict[str, Plugin]:
        found = {}
        for name, installed in self._installed.items():
            plugin = found[name] = Plugin(name, installed.version, disabled=self.manager.is_blocked(name))
            if plugin.disabled:
                for component in installed.declared:
                    _add(plugin, plugin.components, component)
                plugin.errors.clear()  # it was switched off on purpose, often because of them
            else:
                plugin.errors += installed.errors
        hooks = self.manager.hook
        callers = (hooks.ganzoo_components, hooks.ganzoo_commands, hooks.ganzoo_pretrained)
        implementations = [i for caller in callers for i in reversed(caller.get_hookimpls())]  # in the order of calls
        for name in dict.fromkeys(implementation.plugin_name for implementation in implementations):
            owner = name.partition(":")[0]
            if not self.manager.has_plugin(owner):
                continue  # a module of a distribution that was unregistered
            plugin = found.setdefault(owner, Plugin(owner, ""))
            answer = self._answer(name, f"{owner} {plugin.version}".rstrip())
            plugin.hooks[name] = sorted(c.name for c in self.manager.get_hookcallers(answer.plugin) or [])
            plugin.errors += answer.errors
            for component in answer.components:
                _add(plugin, plugin.components, component)
            for command in answer.commands:
                _add(plugin, plugin.commands, command)
            for member in answer.pretrained:
                _add(plugin, plugin.pretrained, member)
        return found

    def _answer(self, name: str, owner: str) -> _Answer:
        """The parts and commands that a plugin offers; its hooks are called once."""
        plugin: object = self.manager.get_plugin(name)
        answer = self._answers.get(name)
        if answer is None or answer.plugin is not plugin:
            answer = self._answers[name] = _Answer(plugin)
            others = self.manager.get_plugins() - {plugin}
            module = getattr(plugin, "__name__", name)
            for hook, offers, kind in (
                ("ganzoo_components", answer.components, Component),
                ("ganzoo_commands", answer.commands, Command),
                ("ganzoo_pretrained", answer.pretrained, Pretrained),
            ):
                try:
                    with restoring_process_state(f"{owner}, module {module}", self._note):
                        returned = self.manager.subset_hook_caller(hook, others)()
                        offers += [offered for result in returned for offered in result]
                    if strange := [type(offered).__name__ for offered in offers if not isinstance(offered, kind)]:
                        offers[:] = [offered for offered in offers if isinstance(offered, kind)]
                        raise GanzooError(f"{hook} returns {strange[0]}, not ganzoo.{kind.__name__}")
                except PLUGIN_ERRORS as error:
                    answer.errors.append(f"module {module}: {error_text(error, source(module))}")
        return answer


def _add(plugin: Plugin, known: list[_Offered], offered: _Offered) -> None:
    """Add what a plugin offers; note the error where it could not be used by its name."""
    if fault := _fault(known, offered):
        plugin.errors.append(fault)
    else:
        known.append(dataclasses.replace(offered, distribution=plugin.distribution, version=plugin.version))


def _fault(known: Sequence[_Offered], offered: _Offered) -> str:
    """Why something that a plugin offers cannot be used by its name; empty if it can."""
    kind = {Command: "commands", Pretrained: "pretrained"}.get(type(offered), getattr(offered, "kind", ""))
    if isinstance(offered, Component) and kind not in KINDS:
        return f"the kind {kind!r} is unknown.{did_you_mean(kind, KINDS)}"
    if isinstance(offered, Pretrained):
        if not _MEMBER.fullmatch(offered.name):
            return f"pretrained: the name {offered.name!r} is not architecture/dataset, of a-z, 0-9 and single dashes"
    elif not _NAME.fullmatch(offered.name):
        return f"{kind}: the name {offered.name!r} is not made of a-z, 0-9 and single dashes"
    if not isinstance(offered, Component) and not _TARGET.fullmatch(offered.target):
        behind = "attribute" if isinstance(offered, Command) else "folder"
        return f"{kind}: the target {offered.target!r} of {offered.name} is not package.module:{behind}"
    if any(getattr(c, "kind", "") == getattr(offered, "kind", "") and c.name == offered.name for c in known):
        return f"{kind}: the name {offered.name!r} is offered twice"
    return ""


def normal_name(name: str) -> str:
    """The name of a distribution as package indexes compare it: `Gz_One` is `gz-one` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def normal_id(name: str) -> str:
    """`Gz_One/soft` -> `gz-one/soft`; a name without a distribution, and a file, as they are."""
    owner, slash, short = name.partition("/")
    return f"{normal_name(owner)}/{short}" if slash and _NAME.fullmatch(short) else name


def _target(point: EntryPoint) -> str:
    """`package.module:Class` of an entry point, without the extras that it may name behind it, `[extra]`."""
    return point.value.partition("[")[0].strip()


def _unmet(distribution: Distribution) -> list[str]:
    """A sentence for each release of this package that a plugin requires and that is not the installed one."""
    names = [
        (normal_name(re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0]), text) for text in distribution.requires or ()
    ]
    ours = [text for name, text in names if name == FIRST_PARTY]
    if not ours:
        return []
    from packaging.requirements import InvalidRequirement, Requirement  # takes a third of the time of `ganzoo list`

    unmet = []
    for text in ours:
        with suppress(InvalidRequirement, PackageNotFoundError):
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate():
                continue
            if not requirement.specifier.contains(installed := version(FIRST_PARTY), prereleases=True):
                unmet.append(
                    f"it requires {FIRST_PARTY}{requirement.specifier}, and this is {installed}: install the release "
                    "that it requires, or another one of the plugin"
                )
    return unmet
