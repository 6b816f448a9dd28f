"""Drawing: images of a generator as a function of a request, with their labels and latents, before they are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import UsageError, counted
from ganzoo.engine.sampler import draw_all
from ganzoo.registry.zoo import Zoo
from ganzoo.results import latents as of_latents
from ganzoo.results.classes import class_numbers, labels_for, row_names
from ganzoo.results.latents import ends_of_walks, interpolation, sample_latents
from ganzoo.results.load import TrainedGenerator
from ganzoo.results.reals import Neighbours, TrainingImages
from ganzoo.results.request import SampleRequest
from ganzoo.results.standing import with_standing_statistics
from ganzoo.storage import pictures

#: frames of an animated interpolation, and columns of a walk between two seeds
_FRAMES, _STEPS = 48, 10
#: a tile of a training grid alone is enlarged to about this many pixels
_TILE_PIXELS = 560
#: rows of a picture of nearest neighbours
_NEIGHBOUR_ROWS = 8


@dataclass
class Drawing:
    """Generated images, and how they are shown."""

    #: uint8 (N, C, H, W), on the CPU
    images: Tensor
    #: (N,) int64 and (N, Z), on the CPU
    labels: Tensor
    latents: Tensor
    #: images in a row of the picture
    columns: int
    #: one for each row, or none
    row_labels: list[str]
    #: of a conditional generator: the name of each label
    class_names: Sequence[str] = ()
    #: title, caption, theme and scale of the picture
    look: Mapping[str, object] = field(default_factory=dict)
    #: what the picture shows, where it shows real images as well
    shown: Tensor | None = None
    groups: list[tuple[str, int]] = field(default_factory=list)
    #: batches, and images of a batch, of the standing statistics that it was drawn with
    standing: tuple[int, int] | None = None
    #: the nearest training images, where they were asked for
    neighbours: Neighbours | None = None

    def picture(self) -> Image.Image:
        """The images as a labelled grid. Raises UsageError where it would be too large."""
        columns = sum(width for _, width in self.groups) or self.columns
        shown = self.images if self.shown is None else self.shown
        return pictures.grid(shown, columns, row_labels=self.row_labels, groups=self.groups, **self.look)  # type: ignore[arg-type]


def draw(trained: TrainedGenerator, request: SampleRequest, zoo: Zoo, note: Callable[[str], None] = print) -> Drawing:
    """The images that a request asks for, except animations, as a function of the request.

    Raises UsageError where the generator cannot draw them, and GanzooError where training images are shown and the
    dataset cannot be read.
    """
    rows, columns = layout_of(trained, request)
    _refuse_too_large(trained, request, rows, columns)
    trained, truncation = of_latents.with_truncation(trained, request.truncation)
    request = dataclasses.replace(request, truncation=truncation)
    trained = with_standing_statistics(trained, request.standing_statistics, request.seed, truncation)
    if request.walks:
        drawing = _draw_walks(trained, request, rows, columns)
    else:
        drawing = _draw_single(trained, request, rows, columns)
    if request.neighbours:
        return _with_neighbours(drawing, trained, request, zoo, note)
    return _with_reals(drawing, trained, request, zoo, note) if request.with_reals else drawing


# --- images as tensors ------------------------------------------------------------------------------------------------


def draw_images(
    trained: TrainedGenerator, count: int, columns: int = 1, seed: int = 0, classes: Sequence[int | str] | None = None
) -> tuple[Tensor, Tensor]:
    """`count` images, uint8 (count, C, H, W) on the CPU, and their labels, int64 (count,) on the generator's device.

    They are a function of the seed, and the first ones do not depend on `count`. The images have one class for each
    `columns` in a row: the `classes` in turn, numbers or names (None: all classes of the dataset).
    Raises UsageError for a class that the generator cannot draw.
    """
    labels = labels_for(trained, count, columns, classes)
    return draw_all(trained.network, trained.architecture, sample_latents(trained, count, seed), labels), labels


def draw_interpolations(
    trained: TrainedGenerator, rows: int, columns: int, seed: int = 0, classes: Sequence[int | str] | None = None
) -> tuple[Tensor, Tensor]:
    """`rows` walks of `columns` images each, between two latents drawn from the seed; the class of a walk is fixed.

    Returns uint8 images (rows * columns, C, H, W) on the CPU, row by row, and their labels (rows * columns,).
    """
    request = SampleRequest(interpolate=True, shape=(rows, columns), seed=seed, classes=classes)
    drawing = _draw_walks(trained, request, rows, columns)
    return drawing.images, drawing.labels.to(trained.device)


def _draw_single(trained: TrainedGenerator, request: SampleRequest, rows: int, columns: int) -> Drawing:
    """Images of latents that are independent of each other."""
    columns = columns if request.in_rows else 1
    if request.tile is not None:
        latents, labels = of_latents.tile_of_training(trained, request.tile)
    elif request.latents is not None:
        latents, kept = of_latents.read_latents(trained, request.latents)
        count = _count_of(request, len(latents), rows, columns)
        latents = latents[:count]
        use_kept = kept is not None and request.classes is None
        labels = kept[:count] if kept is not None and use_kept else labels_for(trained, count, columns, request.classes)
    else:
        count = request.count or rows * columns if request.in_rows else request.count or _places(trained, request)
        labels = labels_for(trained, count, columns, request.classes)
        latents = sample_latents(trained, count, request.seed, request.truncation)
    return _drawing(trained, request, latents, labels, columns)


def _places(trained: TrainedGenerator, request: SampleRequest) -> int:
    """The number of images of an array or a folder: as many as the grid has places."""
    rows, columns = layout_of(trained, request)
    return rows * columns


def _count_of(request: SampleRequest, there: int, rows: int, columns: int) -> int:
    count = request.count or (rows * columns if request.shape else there)
    if count > there:
        raise UsageError(f"{count} images were asked for, and the file has {there} latents: name at most {there}.")
    return count


def _draw_walks(trained: TrainedGenerator, request: SampleRequest, rows: int, columns: int) -> Drawing:
    """`rows` walks of `columns` images; the class of a walk is fixed."""
    labels = labels_for(trained, rows * columns, columns, request.classes)
    first, last = walk_ends(trained, request, rows)
    shares = torch.linspace(0, 1, columns, device=trained.device).repeat(rows)
    ends = first.repeat_interleave(columns, 0), last.repeat_interleave(columns, 0)
    return _drawing(trained, request, interpolation(request.method, *ends, shares), labels, columns)


def walk_ends(trained: TrainedGenerator, request: SampleRequest, walks: int) -> tuple[Tensor, Tensor]:
    """The first and the last latents (walks, Z): of two seeds, of neighbouring latents of a file, or drawn from a seed.

    Raises UsageError where a file has too few latents.
    """
    if request.latents is not None:
        latents, _ = of_latents.read_latents(trained, request.latents)
        if len(latents) <= walks:
            raise UsageError(
                f"{walks} walks lead along {walks + 1} latents, and the file has {len(latents)}: name fewer rows."
            )
        return latents[:walks], latents[1 : walks + 1]
    if request.from_seed is not None and request.to_seed is not None:
        first = sample_latents(trained, walks, request.from_seed, request.truncation)
        return first, sample_latents(trained, walks, request.to_seed, request.truncation)
    return ends_of_walks(trained, walks, request.seed, request.truncation)


def walk_frames(trained: TrainedGenerator, request: SampleRequest) -> Iterator[Image.Image]:
    """Grids in which each tile walks from its first to its last latent and back, for an endless animation."""
    rows, columns = layout_of(trained, request)
    count, device = rows * columns, trained.device
    _refuse_too_large(trained, request, rows, columns)
    trained, truncation = of_latents.with_truncation(trained, request.truncation)
    request = dataclasses.replace(request, truncation=truncation)
    trained = with_standing_statistics(trained, request.standing_statistics, request.seed, truncation)
    labels = labels_for(trained, count, columns, request.classes)
    first, last = walk_ends(trained, request, count)
    for share in of_latents.there_and_back(request.frames or _FRAMES):
        latents = interpolation(request.method, first, last, torch.full((count,), share, device=device))
        yield _drawing(trained, request, latents, labels, columns).picture()


# --- the layout -------------------------------------------------------------------------------------------------------


def grid_shape(count: int | None, shape: tuple[int, int] | None, default: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a grid of `count` images: `shape` if it is given, else about a square; `default` without both.

    Raises UsageError if `count` images do not fill `shape`.
    """
    if shape is not None:
        if count is not None and not shape[0] * shape[1] - shape[1] < count <= shape[0] * shape[1]:
            raise UsageError(f"-n {count} images do not fill a grid of {shape[0]}x{shape[1]}; give one of the two.")
        return shape
    if count is None:
        return default
    columns = min(16, max(1, round(count**0.5)))
    return -(-count // columns), columns


def layout_of(trained: TrainedGenerator, request: SampleRequest) -> tuple[int, int]:
    """(rows, columns) of the picture of a request, without the columns of real images."""
    recipe_rows, recipe_columns = trained.run.recipe.grid_shape
    classes = len(class_numbers(trained, request.classes)) if request.classes is not None else 0
    if request.shape is not None or request.count is not None:
        count, shape = request.count, request.shape
        if request.neighbours and count is not None and shape is None:
            return count, 1
        if classes > 1 and count is not None and shape is None:  # as near to a row for each class as the count allows
            columns = max(1, -(-count // classes))
            return -(-count // columns), columns
        rows, columns = grid_shape(count, shape, (recipe_rows, recipe_columns))
    elif request.tile is not None:
        rows, columns = 1, 1
    elif request.latents is not None:
        there = len(of_latents.read_latents(trained, request.latents)[0])
        rows, columns = (max(1, there - 1), _STEPS) if request.walks else grid_shape(there, None, (1, 1))
        if request.walks and request.animate:
            rows, columns = 1, max(1, there - 1)
    elif request.from_seed is not None:
        rows, columns = (1, max(1, classes)) if request.animate else (max(1, classes), _STEPS)
    elif request.neighbours:
        rows, columns = max(_NEIGHBOUR_ROWS if classes < 2 else 1, classes), 1
    else:
        rows, columns = (classes if classes > 1 else recipe_rows), recipe_columns
    return (rows, request.frames) if request.frames and request.walks and not request.animate else (rows, columns)


def _refuse_too_large(trained: TrainedGenerator, request: SampleRequest, rows: int, columns: int) -> None:
    """Raises UsageError for a grid that would be too large to be looked at, before anything is drawn."""
    if not request.in_rows:
        return
    count = request.count or rows * columns
    columns *= 1 + (request.neighbours or request.with_reals)
    factor = pictures.scale_of(trained.images.width, request.scale)
    if rows * columns * trained.images.height * trained.images.width * factor**2 > pictures.MOST_PIXELS:
        raise UsageError(
            f"A grid of {count:,} images is too large to be looked at: draw fewer, write single pictures (-o DIR/), or "
            "an array (-o FILE.npy or FILE.npz)."
        )


def _drawing(
    trained: TrainedGenerator, request: SampleRequest, latents: Tensor, labels: Tensor, columns: int
) -> Drawing:
    images = draw_all(trained.network, trained.architecture, latents, labels)
    whole = request.classes is not None or len(images) % columns == 0
    names = row_names(trained, labels[::columns]) if request.in_rows and whole else []
    names_of_classes = [str(name) for name in trained.class_names] if trained.architecture.conditional else []
    scale = request.scale
    if request.tile is not None and scale is None and request.in_rows:
        scale = max(1, _TILE_PIXELS // trained.images.width)
    look = {"theme": request.theme, "title": request.title, "caption": _caption(trained, request), "scale": scale}
    batches = request.standing_statistics
    standing = None if batches is None else (batches, trained.run.recipe.batch_size)
    return Drawing(images, labels.cpu(), latents.cpu(), columns, names, names_of_classes, look, standing=standing)


def _caption(trained: TrainedGenerator, request: SampleRequest) -> str:
    """The parts of the run and the moment of the training, where they were asked for."""
    if not request.caption:
        return ""
    recipe = trained.run.recipe
    moment = [] if trained.epochs is None else [f"epoch {trained.epochs:.4g}"]
    words = [
        short_name(recipe.architecture),
        short_name(recipe.dataset),
        *moment,
        f"{trained.images_seen:,} images seen",
    ]
    if request.standing_statistics is not None:
        words.append(f"standing statistics of {counted(request.standing_statistics, 'batch', 'batches')}")
    return " · ".join(words)


# --- real images beside them ------------------------------------------------------------------------------------------


def _with_reals(
    drawing: Drawing, trained: TrainedGenerator, request: SampleRequest, zoo: Zoo, note: Callable[[str], None]
) -> Drawing:
    """The drawing with as many real images, in the same rows and of the same classes, left of the generated ones."""
    reals = TrainingImages(trained, zoo, "--with-reals", note)
    conditional = trained.architecture.conditional
    columns, count = drawing.columns, len(drawing.images)
    chosen = reals.of_classes(drawing.labels, request.seed) if conditional else reals.any(count, request.seed)
    chosen, fakes = (_filled(images, columns) for images in (chosen, drawing.images))
    shape = (-1, columns, *fakes.shape[1:])
    shown = torch.cat([chosen.reshape(shape), fakes.reshape(shape)], dim=1).flatten(0, 1)
    return dataclasses.replace(drawing, shown=shown, groups=[("real", columns), ("generated", columns)])


def _filled(images: Tensor, columns: int) -> Tensor:
    """The images with black ones behind them, so that the last row is full."""
    missing = -len(images) % columns
    return torch.cat([images, images.new_zeros(missing, *images.shape[1:])])


def _with_neighbours(
    drawing: Drawing, trained: TrainedGenerator, request: SampleRequest, zoo: Zoo, note: Callable[[str], None]
) -> Drawing:
    """The drawing with the nearest training images right of each generated one."""
    reals = TrainingImages(trained, zoo, "--neighbours", note)
    found = reals.nearest(drawing.images, request.neighbours)
    if not request.in_rows:
        return dataclasses.replace(drawing, neighbours=found)
    shown = torch.cat([drawing.images[:, None], found.images], dim=1).flatten(0, 1)
    names = row_names(trained, drawing.labels)
    near = found.images.shape[1]
    groups = [("generated", 1), (f"nearest real ({found.by})", near)]
    return dataclasses.replace(drawing, shown=shown, groups=groups, row_labels=names, neighbours=found)
