"""Recommend a recipe for a dataset, as an object and as a command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ganzoo.api.keywords import Part, dataset_choice, dataset_words, folders
from ganzoo.api.progress import Waiting
from ganzoo.contract.errors import counted
from ganzoo.contract.train_options import option_words
from ganzoo.experiments.recommend import Recommendation
from ganzoo.experiments.recommend import recommend as find
from ganzoo.experiments.step_times import time_of_a_step
from ganzoo.storage.files import write_atomically


class Recommended(Recommendation):
    """A recommended recipe. `recipe` is complete: `ganzoo.train(recipe=found.recipe)` trains it."""

    @property
    def command(self) -> str:
        """The command that trains it, for a shell."""
        candidate = self.measured.candidate
        words = ["ganzoo", "train", str(candidate.architecture), dataset_words(candidate.dataset)]
        if candidate.suited.recipe:
            words += ["--recipe", candidate.suited.recipe]
        for name, value in self.measured.changes.items():
            # a number without a unit has the unit of the length, which is in steps
            words += option_words("steps" if name == "length" else name, str(value).removesuffix(" steps"))
        return shlex.join(words)

    def save(self, path: str | Path) -> Path:
        """Write the complete recipe as a recipe file in TOML, for `ganzoo train ... --recipe FILE`."""
        path = Path(path)
        write_atomically(path, self.recipe.to_toml().encode())
        return path

    def lines(self) -> list[str]:
        """What was found, in sentences: the images, the reasons, the measured costs, and better recipes."""
        times, recipe = self.measured.times, self.recipe
        classes = f", {self.spec.classes} classes" if self.spec.classes > 1 else ", without classes"
        networks = " and ".join(f"{number:,} in the {name}" for name, number in self.measured.parameters.items())
        memory = "" if times.memory is None else f", {times.memory / 1e9:.1f} GB of memory at the peak"
        step = f"{time_of_a_step(times.seconds)} a step of {counted(recipe.batch_size, 'image')}"
        return [
            f"{self.images:,} training images of {self.spec}{classes}; device {self.device}.",
            *self.reasons,
            f"Parameters: {networks}. Measured in {times.steps} steps: {step}{memory}.",
            *self.others,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything that was found, as plain JSON values."""
        candidate, measured = self.measured.candidate, self.measured
        return {
            "dataset": str(candidate.dataset),
            "images": self.images,
            "shape": str(self.spec),
            "classes": self.spec.classes,
            "device": self.device,
            "architecture": str(candidate.architecture),
            "variant": candidate.suited.recipe or None,
            "train_command": self.command,
            "recipe": self.recipe.to_dict(),
            "parameters": measured.parameters,
            "batch_size": self.recipe.batch_size,
            "seconds_per_step": measured.times.seconds,
            "memory_bytes": measured.times.memory,
            "steps": self.steps,
            "seconds": self.seconds,
            "reasons": self.reasons,
            "others": self.others,
        }


def recommend(
    dataset: Part, minutes: float = 30, *, device: str = "auto", data_dir: str | Path | None = None
) -> Recommended:
    """The recipe that shows most on a dataset after so many minutes of training on this device, and why.

    The number, size, channels and classes of the images are looked at, and a few steps of the recipes that suit them
    are run and timed. Nothing is written.

        found = ganzoo.recommend("./photos", minutes=60)
        ganzoo.train(recipe=found.recipe)

    Raises UsageError for a dataset with too few images, for images that no architecture serves, and for minutes that
    are not above 0; GanzooError where the dataset cannot be read.
    """
    from ganzoo.engine.device import find_device
    from ganzoo.registry.zoo import zoo

    choice = dataset_choice(dataset)
    with folders(data_dir), Waiting(f"Looking at {dataset_words(choice)}") as waiting:
        found = find(zoo(), choice, find_device(device), minutes, lambda doing: waiting(0, 0, doing))
    return Recommended(**vars(found))
