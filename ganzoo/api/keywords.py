"""Keywords of the API: the long option names of the command line, with underscores in place of dashes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, TypeVar

from ganzoo.contract.choice import Amount, Choice
from ganzoo.contract.errors import UsageError, did_you_mean
from ganzoo.contract.paths import absolute_path
from ganzoo.contract.recipe import Recipe

#: a part: its name with options, `"r1:gamma=1"`, a location, `"./my_gan.py:MyGAN"`, or a Choice
Part: TypeAlias = str | Mapping[str, Any] | Choice
#: one part or several
Parts: TypeAlias = Part | Sequence[Part]
#: an interval: a number in the unit of the run's length, or with a unit of its own, `"500 steps"`
Interval: TypeAlias = int | str | Amount
#: a number of steps, images or epochs; as text also `"3M"` or `"20k"`
Count: TypeAlias = int | str


class LengthOptions(TypedDict, total=False):
    """The length of a run. At most one of the three is given."""

    epochs: Count | None
    images: Count | None
    steps: Count | None


class RecipeOptions(LengthOptions, total=False):
    """Everything that a recipe holds. What is None or left out is as in the recipe."""

    #: options of the parts: `{"width": 32}` of the architecture, `{"dataset.size": 32}` of another part
    options: Mapping[str, Any] | None
    #: a Recipe, a recipe file, the directory of a run, the name of a variant, or the name of another architecture
    recipe: Recipe | str | Path | None
    loss: Parts | None
    augmentation: Parts | None
    observer: Parts | None
    evaluator: Parts | None
    score_every: Interval | None
    #: number of fake images of a score, at least 2
    samples: int | None
    protocol: str | None
    best_by: str | None
    #: "SCORE patience=N": stop after N scorings in which SCORE has not improved
    early_stop: str | None
    generator_optimizer: Part | None
    #: "shared": the generator's optimiser object serves both networks
    discriminator_optimizer: Part | None
    turns: str | None
    batch_order: str | None
    subset: str | None
    #: half-life of the generator's EMA in images, 0 for none; or a schedule, "0 -> 500k by 20M"
    ema_half_life: int | float | str | None
    #: the EMA copies the weights until so many images were seen
    ema_start: int | None
    #: the half-life is at most this share of the images seen; 0: no limit
    ema_ramp: float | None
    #: what the EMA does with buffers: "averaged" or "copied"
    ema_buffers: str | None
    batch_size: int | None
    #: compute each batch in so many parts, one after the other, to save memory
    accumulate: int | None
    #: what is done to the reals of each step: "flip", "dequantise", "flip+dequantise", or "" for nothing
    preprocessing: str | None
    #: the classes of the fakes: those of the "reals", or "uniform"
    fake_labels: str | None
    #: whether the discriminator sees fakes and reals in one forward
    joint_forward: bool | None
    seed: int | None
    #: the first layers of the discriminator that are not trained
    freeze_d: int | None
    precision: str | None
    samples_every: Interval | None
    checkpoint_every: Interval | None
    tick_every: Interval | None
    #: rows and columns of the sample grid: "4x8" or (4, 8)
    grid: str | tuple[int, int] | None


class ExecutionOptions(TypedDict, total=False):
    """How a run is executed. Nothing here is part of the recipe."""

    #: folder of the datasets during this call, in place of GANZOO_DATA
    data_dir: str | Path | None
    #: file of the Inception weights during this call, in place of GANZOO_INCEPTION_WEIGHTS
    inception_weights: str | Path | None
    #: record CUDA steps in graphs (the default on CUDA), or not
    capture: bool | None
    #: compile the networks with torch.compile
    compile: bool | None
    #: show no progress
    quiet: bool
    #: name every file that is written
    verbose: bool


class TrainOptions(RecipeOptions, ExecutionOptions, total=False):
    """Keywords of `ganzoo.train`."""

    #: new directory of the run; `runs/ARCHITECTURE-DATASET` by default
    out: str | Path | None
    #: auto, cpu, cuda or cuda:N
    device: str
    #: a run, or a checkpoint of another program, whose weights the training starts from
    start_from: str | Path | None


class ResumeOptions(LengthOptions, ExecutionOptions, total=False):
    """Keywords of `ganzoo.resume`. A length is the new total length of the run."""

    #: the run's own device by default
    device: str | None
    #: fields of the recipe that change from here on: `{"batch_size": 32, "generator_optimizer.lr": 1e-4}`
    set: Mapping[str, Any] | None
    #: `{"path": ...}`: the new place of a dataset that has moved
    dataset: Mapping[str, Any] | None
    #: "SCORE patience=N", or "off"
    early_stop: str | None
    accept_changed_code: bool
    accept_changed_images: bool


_Function = TypeVar("_Function", bound=Callable[..., Any])


def keywords_of(options: Any) -> Callable[[_Function], _Function]:
    """Show the keys of a TypedDict as keywords in the signature of a function that takes them as `**keywords`.

    So `help()` and a notebook's completion list them.
    """

    def show(function: _Function) -> _Function:
        signature = inspect.signature(function)
        named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        for name, annotation in options.__annotations__.items():
            text = getattr(annotation, "__forward_arg__", annotation)
            default = {"bool": False, "str": "auto"}.get(text)  # the one str that is never None is the device
            named.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=text))
        function.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
        return function

    return show


def check_keywords(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise UsageError, with near names, for a keyword that `function` does not have."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]
    for name in given:
        if name not in known:
            raise UsageError(
                f"{function.__qualname__}() has no keyword {name!r}.{did_you_mean(name, known)} See "
                f"help(ganzoo.{function.__qualname__})."
            )


def length_of(epochs: Count | None = None, images: Count | None = None, steps: Count | None = None) -> Amount | None:
    """The length that epochs, images or steps gives; None without one. Raises UsageError for two of them."""
    given = [(number, unit) for number, unit in ((epochs, "epochs"), (images, "images"), (steps, "steps"))]
    given = [(number, unit) for number, unit in given if number is not None and number != ""]
    if len(given) > 1:
        raise UsageError(f"--{given[0][1]} and --{given[1][1]} both set the length; give one of them.")
    if not given:
        return None
    number, unit = given[0]
    length = Amount.parse(str(number), unit)
    if length.count < 1:
        raise UsageError(f"--{unit} is the length of the training: it must be at least 1, not {number}.")
    return length


def dataset_choice(value: Part) -> Choice:
    """A dataset as a Choice. A folder is a dataset of its pictures: `./photos:size=32` is `image-folder:path=./photos`.

    A text is a folder if it begins with `.`, `/` or `~` or contains a slash, and the folder exists.
    """
    if isinstance(value, str):
        folder, options = value, ""
        if not _is_folder(folder):
            folder, _, options = value.partition(":")
        if _is_folder(folder):
            chosen = Choice.parse(f"image-folder:{options}" if options else "image-folder")
            return Choice(chosen.name, {"path": folder, **chosen.options})
    return Choice.parse(value)


def dataset_words(choice: Choice) -> str:
    """The text of a dataset, for a command line: of a folder `./photos:size=32`, as `dataset_choice` reads it."""
    path = str(choice.options.get("path", ""))
    rest = {name: value for name, value in choice.options.items() if name != "path"}
    short = str(Choice(path, rest))
    return short if path and str(dataset_choice(short)) == str(choice) else str(choice)


def _is_folder(text: str) -> bool:
    """Whether a text is the path of a folder, `./photos`, `/data/photos` or `photos/`, and no name of a part."""
    return (text.startswith((".", "/", "~")) or "/" in text) and absolute_path(text).is_dir()


def parts(value: Parts | None, parse: Callable[[Part], Choice] = Choice.parse) -> tuple[Choice, ...]:
    """One part or a sequence of parts as a tuple of choices."""
    if value is None:
        return ()
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(parse(one) for one in several)


@contextmanager
def folders(data_dir: str | Path | None = None, inception_weights: str | Path | None = None) -> Iterator[None]:
    """Use this folder of datasets, and these Inception weights, for a while; also in processes started meanwhile.

    Raises UsageError where a given path does not exist.
    """
    changes: dict[str, str] = {}
    if data_dir is not None:
        changes["GANZOO_DATA"] = str(absolute_path(data_dir))
        if not Path(changes["GANZOO_DATA"]).is_dir():
            raise UsageError(f"--data-dir: there is no directory {changes['GANZOO_DATA']}.")
    if inception_weights is not None:
        changes["GANZOO_INCEPTION_WEIGHTS"] = str(absolute_path(inception_weights))
        if not Path(changes["GANZOO_INCEPTION_WEIGHTS"]).is_file():
            raise UsageError(f"--inception-weights: there is no file {changes['GANZOO_INCEPTION_WEIGHTS']}.")
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
