"""Which saved generator is meant: by images, steps or epochs, the best by score, or the last one."""

from __future__ import annotations

import re
from pathlib import Path

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import is_file
from ganzoo.storage.run import Run
from ganzoo.storage.saved_progress import generator_progress

_FORMS = "a number of images seen, epoch:20, step:5000, best or last"


def parse_at(value: int | str) -> int | str:
    """The canonical form of `at`: a number of images seen, `"best"`, `"last"`, `"epoch:20"` or `"step:5000"`.

    Raises UsageError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip()
    if text in ("best", "last"):
        return text
    match = re.fullmatch(r"(?:(images|steps?|epochs?):)?(\d+(?:\.\d+)?)", text)
    unit = (match[1] or "images").removesuffix("s") if match else ""
    if not match or (unit != "epoch" and not match[2].isdecimal()):
        raise UsageError(f"{value!r} names no saved generator: write {_FORMS}.")
    return int(match[2]) if unit == "image" else f"{unit}:{match[2]}"


def find_generator(run: Run, at: int | str | None) -> Path:
    """The file of the generator that `at` names, see `parse_at`; None is the newest.

    Raises UsageError where the run has no best generator, GanzooError, with the saved ones or the nearest, where it
    has no such generator.
    """
    at = "last" if at is None else parse_at(at)
    folder = run.path / "generators"
    saved = sorted((path for path in folder.glob("*.safetensors") if path.stem.isdecimal()), key=_images)
    if at == "best":
        best = run.best()
        if best is None or "images" not in best:
            raise UsageError(
                f"{run.path} has no best generator: it was not scored while it was trained (-e EVALUATOR)."
            )
        at = int(best["images"])
    if not saved:
        what = "" if at == "last" else f" at {_in_words(at)}"
        raise GanzooError(f"{run.path} has no generator saved{what} yet: train it first.")
    if at == "last":
        return saved[-1]
    if isinstance(at, int):
        file = folder / f"{at:09d}.safetensors"
        if not is_file(file):
            numbers = ", ".join(str(_images(path)) for path in saved)
            raise GanzooError(f"{run.path} has no generator saved at {at} images; it has them at {numbers} images.")
        return file
    return _at_progress(run, saved, str(at))


def _at_progress(run: Run, saved: list[Path], at: str) -> Path:
    """The generator of a step, or the first one that had reached an epoch in its last step."""
    unit, _, number = at.partition(":")
    wanted, found = float(number), {path: generator_progress(path) for path in saved}
    known = {path: facts for path, facts in found.items() if facts is not None}
    for path, (step, epochs) in known.items():
        reached = step if unit == "step" else epochs
        # a step adds this much; epochs are rounded to four digits in the file
        one_step = 1.0 if unit == "step" else epochs / max(1, step)
        if reached == wanted or (unit == "epoch" and 0 <= reached - wanted < one_step - 1e-4):
            return path
    if not known:
        raise GanzooError(
            f"The generators of {run.path} do not record their {unit} (version 0.1): name a number of images seen."
        )
    index = 0 if unit == "step" else 1
    numbers = sorted((facts[index], _images(path)) for path, facts in known.items())
    below = [entry for entry in numbers if entry[0] < wanted][-1:]
    above = [entry for entry in numbers if entry[0] > wanted][:1]
    nearest = " and ".join(f"{unit} {value:g} ({images} images)" for value, images in (*below, *above))
    raise GanzooError(f"{run.path} has no generator saved at {_in_words(at)}; the nearest: {nearest}.")


def _in_words(at: int | str) -> str:
    return f"{at} images" if isinstance(at, int) else str(at).replace(":", " ")


def _images(path: Path) -> int:
    return int(path.stem)
