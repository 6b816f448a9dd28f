"""Trained generators that plugins ship as package data, found by name: `pretrained:ARCHITECTURE/DATASET`."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.hooks import Pretrained
from ganzoo.registry.plugins import FIRST_PARTY
from ganzoo.registry.source import PLUGIN_ERRORS
from ganzoo.registry.zoo import Zoo
from ganzoo.results.export.opened import ExportedRun
from ganzoo.storage.run_checks import PRETRAINED


def open_pretrained(zoo: Zoo, name: str) -> ExportedRun:
    """The trained generator of that name, `dcgan/digits`, or of the full id, `distribution/dcgan/digits`.

    Nothing is fetched. Pictures of it are written below the current folder, in `pretrained/`. Raises UsageError, with
    near names, for a name that is not there, and GanzooError where its files are damaged.
    """
    return _opened(find(zoo, name))


def find(zoo: Zoo, name: str) -> Pretrained:
    """The trained generator of that name or id. One of torch-ganzoo itself keeps its short name."""
    members = zoo.pretrained()
    found = [member for member in members if name in (member.name, member.id)]
    found = [member for member in found if member.distribution == FIRST_PARTY] or found
    if len(found) > 1:
        ids = " and ".join(f"{PRETRAINED}{member.id}" for member in found)
        raise UsageError(f"{PRETRAINED}{name} is offered {len(found)} times: write the full name, {ids}.")
    if not found:
        names = [member.name for member in members]
        known = f" There are: {', '.join(names)}." if names else " None is installed."
        raise UsageError(
            f"There is no trained generator {name!r}.{did_you_mean(name, names)}{known} See `ganzoo list "
            f"pretrained`.{zoo.missing_plugins()}"
        )
    return found[0]


def pretrained_facts(member: Pretrained) -> dict[str, Any]:
    """A trained generator in plain values: its name, origin, size, scores by name, their cards, and its command."""
    card = _opened(member).card
    return {
        "name": member.name,
        "id": member.id,
        "distribution": member.distribution,
        "version": member.version,
        "dataset": card["dataset"],
        "conditional": card["conditional"],
        "images_seen": card["images_seen"],
        "epoch": card["epoch"],
        "parameters": card["parameters"],
        "bytes": sum(file["bytes"] for file in card["files"].values()),
        "license": card["license"],
        "command": card["command"],
        "scores": card["scores"],
    }


def _opened(member: Pretrained) -> ExportedRun:
    folder = Path("pretrained") / member.name.replace("/", "-")
    return ExportedRun(Path(f"{PRETRAINED}{member.name}"), _folder(member), folder)


def _folder(member: Pretrained) -> Traversable:
    """The folder of package data. It need not be a directory: a package may be installed as a zip archive."""
    package, _, path = member.target.partition(":")
    try:
        return files(package).joinpath(*path.split("/"))
    except PLUGIN_ERRORS as error:
        raise GanzooError(
            f"{PRETRAINED}{member.id} cannot be read ({type(error).__name__}: {error}): reinstall "
            f"{member.distribution}."
        ) from None
