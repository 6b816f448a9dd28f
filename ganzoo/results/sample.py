"""Sample: write images of a trained generator: a grid, an array, single pictures, walks, or an animation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ganzoo.contract.errors import GanzooError
from ganzoo.engine.seeds import derive
from ganzoo.registry.zoo import Zoo
from ganzoo.results.classes import class_number, class_numbers, file_word, labels_file, row_names
from ganzoo.results.drawing import draw, draw_images, draw_interpolations, grid_shape, walk_frames
from ganzoo.results.latents import sample_latents, slerp
from ganzoo.results.load import TrainedGenerator, load_generator, open_run
from ganzoo.results.request import SampleRequest
from ganzoo.results.sample_files import (
    check_directory,
    check_out,
    refuse_read_only,
    write,
    write_directory,
)
from ganzoo.storage import animations, pictures
from ganzoo.storage.run import Run

__all__ = [
    "SampleRequest",
    "class_number",
    "draw_images",
    "draw_interpolations",
    "grid_shape",
    "labels_file",
    "row_names",
    "sample",
    "sample_latents",
    "slerp",
    "training_gif",
]


def sample(
    path: Path,
    zoo: Zoo,
    device: torch.device,
    request: SampleRequest | None = None,
    note: Callable[[str], None] = print,
) -> Path:
    """Draw images of the run in `path` as `request` says, write them, and return the path of the file or folder.

    Without a file in the request they are written into the run. The name of a file in the run says what was asked for,
    so that no other request overwrites it. `note` receives messages for the user.
    Raises UsageError if the file cannot be written, before anything is drawn, and where the generator cannot draw what
    is asked for; GanzooError without a generator, and where training images are shown and cannot be read.
    """
    request = request or SampleRequest()
    if request.animate:
        animations.require_format(request.animate)
    if request.training_animation:
        out = request.out or path / f"training{_words_of_training_animation(request)}{request.animate}"
        return training_gif(Run.open(path), out, request.frames, request.theme, (request.animate,))
    _check_place(request)
    grid_shape(request.count, request.shape, open_run(path, zoo).recipe.grid_shape)
    trained = load_generator(path, zoo, device, request.at, request.changed_code, note)
    if request.directory is not None:
        write_directory(draw(trained, request, zoo, note), request.directory)
        return request.directory
    out = request.out or trained.run.pictures / f"{_file_name(trained, request)}{request.suffix}"
    refuse_read_only(out)
    if request.animate:
        animations.save(list(walk_frames(trained, request)), out, seconds=0.08, hold=0.08, theme=request.theme)
    else:
        write(draw(trained, request, zoo, note), out)
    return out


def _check_place(request: SampleRequest) -> None:
    """Raises UsageError where the file or folder of a request cannot be written."""
    if request.directory is not None:
        check_directory(request.directory)
    elif request.out is not None:
        pictures = (request.animate,) if request.animate else (".png",)
        check_out(request.out, pictures if request.walks else (".png", ".npy", ".npz"))


def _file_name(trained: TrainedGenerator, request: SampleRequest) -> str:
    """The name of a file in the run, without its suffix."""
    words = ""
    if request.classes is not None:
        numbers = class_numbers(trained, request.classes)
        words = "".join(f"-class-{file_word(str(trained.class_names[number]), number)}" for number in numbers[:3])
        if len(numbers) > 3:
            words = f"-classes-{'-'.join(map(str, numbers))}"
    if len(words) > 120:
        words = f"-{len(numbers)}-classes-{derive(*numbers):x}"
    return request.kind_words + request.file_words(class_words=words)


def _words_of_training_animation(request: SampleRequest) -> str:
    words = "" if request.frames is None else f"-{request.frames}-frames"
    return words + ("" if request.theme == "dark" else f"-{request.theme}")


def training_gif(
    run: Run,
    out: Path,
    frames: int | None = None,
    theme: str = "dark",
    suffixes: tuple[str, ...] = animations.SUFFIXES,
) -> Path:
    """Write the sample grids of the training as an animation, GIF or another format by the suffix of `out`.

    At most `frames` of the grids are shown (None: all), evenly chosen, with the first and the last one.
    Raises GanzooError if there are none.
    """
    check_out(out, suffixes)
    animations.require_format(out.suffix)
    refuse_read_only(out)
    found = [file for file in (run.path / "samples").glob("*.png") if file.stem.isdigit()]
    files = sorted(found, key=lambda file: int(file.stem))
    if not files:
        raise GanzooError(f"{run.path} has no sample grids to animate; train it, or lower --samples-every.")
    if frames is not None and frames < len(files):
        files = [files[round(place * (len(files) - 1) / (frames - 1))] for place in range(frames)]
    shown = []
    for file in files:
        try:
            shown.append(pictures.read_png(file))
        except (OSError, ValueError) as error:
            raise GanzooError(f"{file} is not a grid of this training ({error}): move it away.") from None
    animations.save(shown, out, seconds=max(0.08, min(0.4, 10 / len(shown))), theme=theme)
    return out
