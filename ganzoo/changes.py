"""Changes: what is not as it was when a run began, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganzoo.contract.errors import GanzooError
from ganzoo.run import Run

#: items of an environment whose name is no word of everyday
_WORDS = {
    "device_name": "processor or GPU",
    "instructions": "set of instructions",
    "threads": "number of threads",
    "memory_format": "memory layout",
    "capture": "way of playing steps: recorded",
    "compile": "choice of compiled networks",
    "world_size": "number of processes",
    "training_images": "set of training images",
}
_SINGULAR = {"losses": "loss", "augmentations": "augmentation", "observers": "observer", "evaluators": "evaluator"}


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """`another torch (2.14.0 then, 2.15.0 now)`: one for each package, part and other item that is another."""
    found = []
    for name, (then, now) in changed.items():
        if name == "versions":
            found += [_pair(key, *pair) for key, pair in _different(then, now)]
        elif name == "parts":
            for field, pair in _different(then, now):
                found += [_pair(_SINGULAR.get(field, field.replace("_", " ")), *two) for two in _parts(*pair)]
        else:
            found.append(_pair(_WORDS.get(name, name.replace("_", " ")), _short(then), _short(now)))
    return found


def _pair(what: str, then: Any, now: Any) -> str:
    none = "none"
    return f"another {what} ({none if then is None else then} then, {none if now is None else now} now)"


def _different(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    names = dict.fromkeys([*then, *now])
    return [(name, (then.get(name), now.get(name))) for name in names if then.get(name) != now.get(name)]


def _parts(then: Sequence[Any] | None, now: Sequence[Any] | None) -> list[tuple[str | None, str | None]]:
    """Those of one field, two by two, that are another."""
    old, new = list(then or ()), list(now or ())
    length = max(len(old), len(new))
    pairs = zip(old + [None] * (length - len(old)), new + [None] * (length - len(new)), strict=True)
    return [(_part(one), _part(other)) for one, other in pairs if one != other]


def _part(provenance: Mapping[str, Any] | None) -> str | None:
    """A part by where it comes from: `torch-ganzoo/r1 0.1.0`, or its file and what that holds."""
    if provenance is None:
        return None
    if "location" not in provenance:
        return f"{provenance.get('id')} {provenance.get('version')}"
    beside = provenance.get("imports")
    more = [f"{name} {_short(sha)}" for name, sha in beside.items()] if isinstance(beside, dict) else []
    return f"{provenance['location']} of sha256 {_short(provenance.get('sha256'))}" + "".join(f", {m}" for m in more)


def _short(value: Any) -> Any:
    """Of a sha256 what a person compares; the members of a list."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


def refuse_other_images(run: Run, digest: str) -> None:
    """Raise GanzooError where the training images are not those of the run; one of an earlier version cannot tell."""
    then = run.environment.get("training_images")
    if then not in (None, digest):
        raise GanzooError(
            f"The images of {run.recipe.dataset} have changed since {run.path} was trained on them (sha256 "
            f"{_short(then)} then, {_short(digest)} now): put them back, or go on with --accept-changed-images."
        )
