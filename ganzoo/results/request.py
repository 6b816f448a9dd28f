"""SampleRequest: which images of a generator are drawn, how they are shown, and where they are written."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.contract.errors import UsageError
from ganzoo.storage.pictures import theme_named

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("slerp", "lerp")
#: the most nearest training images beside a generated one
MOST_NEIGHBOURS = 32


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What is drawn. Raises UsageError where two fields contradict each other, or a value is not allowed."""

    # --- which images ---
    #: number of images; None: as many as the grid has places
    count: int | None = None
    #: rows and columns; None: the grid of the recipe, or about a square of `count`
    shape: tuple[int, int] | None = None
    #: seed of the latents
    seed: int = 0
    #: one class for each row in turn, by number or name; a text may also be a list, `0..9` or `cats,dogs`. None: all
    classes: str | Sequence[int | str] | None = None
    #: latents (N, Z) to draw instead of those of a seed: a tensor, a .npy file, or a .npz file with an array `latents`
    latents: Path | Tensor | None = None
    #: truncate Gaussian latents at this absolute value
    truncation: float | None = None
    #: recompute the statistics of batch norm over so many batches of generated images; None: those of the training
    standing_statistics: int | None = None
    #: row and column, from 1, of one tile of the grids that the training saved
    tile: tuple[int, int] | None = None
    #: the generator saved at this number of images seen, or "best"; None: the newest
    at: int | str | None = None
    #: accept a part whose file has changed since the training
    changed_code: bool = False

    # --- walks between latents ---
    interpolate: bool = False
    method: str = "slerp"
    #: the walks lead from the images of one seed to those of another
    from_seed: int | None = None
    to_seed: int | None = None
    #: images of each walk, or frames of an animation
    frames: int | None = None

    # --- real images beside them ---
    with_reals: bool = False
    #: number of nearest training images beside each generated image
    neighbours: int = 0

    # --- the file ---
    #: .png, .npy, .npz or an animation; None: a file in the run
    out: Path | None = None
    #: a new or empty folder for single pictures
    directory: Path | None = None
    #: suffix of an animation, such as ".gif": of the walks, or else of the grids that the training saved
    animate: str = ""

    # --- how a picture looks ---
    theme: str = "dark"
    title: str = ""
    #: write the parts of the run, the epoch and the images seen below the picture
    caption: bool = False
    #: factor by which images are enlarged; None: until they are 72 pixels wide
    scale: int | None = None

    def __post_init__(self) -> None:
        theme_named(self.theme)
        self._check_numbers()
        self._check_walks()
        if self.training_animation:
            if self._draws_something() or self.directory is not None:
                raise UsageError("--gif shows the grids of the training as they are; for new images add --interpolate.")
            return
        self._check_sources()
        self._check_companions()

    @property
    def walks(self) -> bool:
        """Whether walks between latents are drawn."""
        return self.interpolate or self.from_seed is not None

    @property
    def training_animation(self) -> bool:
        """Whether the grids that the training saved are animated: nothing is drawn by the generator."""
        return bool(self.animate) and not self.walks

    @property
    def suffix(self) -> str:
        """The suffix of a file whose name is not given."""
        return self.animate or ".png"

    @property
    def in_rows(self) -> bool:
        """Whether the images stand in the rows of a grid. Arrays and folders have no rows."""
        return self.directory is None and (self.out is None or self.out.suffix not in (".npy", ".npz"))

    def _draws_something(self) -> bool:
        """Whether a field asks for new images."""
        fields = (self.count, self.shape, self.classes, self.latents, self.truncation, self.tile, self.at, self.scale)
        flags = (self.seed, self.with_reals, self.neighbours, self.title, self.caption)
        return any(field is not None for field in (*fields, self.standing_statistics)) or any(flags)

    def _check_numbers(self) -> None:
        if self.count is not None and self.count < 1:
            raise UsageError(f"{self.count} images cannot be drawn: name at least 1.")
        if self.truncation is not None and not 0 < self.truncation < math.inf:
            raise UsageError(f"--truncation {self.truncation:g}: name a number above 0; 0.5 to 1 are usual.")
        if self.scale is not None and not 1 <= self.scale <= 64:
            raise UsageError(f"--scale {self.scale}: images are enlarged by a whole factor from 1 to 64.")
        if not 0 <= self.neighbours <= MOST_NEIGHBOURS:
            raise UsageError(f"--neighbours {self.neighbours}: name a number from 1 to {MOST_NEIGHBOURS}.")

    def _check_walks(self) -> None:
        if (self.from_seed is None) != (self.to_seed is None):
            raise UsageError("--from-seed and --to-seed belong together: a walk has two ends.")
        if self.from_seed is not None and self.seed:
            raise UsageError("--seed and --from-seed exclude each other: a walk has the seeds of its two ends.")
        if self.method not in METHODS:
            raise UsageError(f"There is no interpolation {self.method!r}: it is {' or '.join(METHODS)}.")
        if self.method != METHODS[0] and not self.walks:
            raise UsageError(f"--interpolation {self.method}: there is no walk, add --interpolate or --from-seed.")
        if self.frames is not None and self.frames < 2:
            raise UsageError(f"--frames {self.frames}: name at least 2.")
        if self.frames is not None and not self.walks and not self.animate:
            raise UsageError("--frames is the length of a walk or an animation: add --interpolate or --gif.")

    def _check_sources(self) -> None:
        """The latents come from one place."""
        if self.tile is not None:
            others = (self.count, self.shape, self.classes, self.latents, self.truncation)
            if any(other is not None for other in others) or self.seed or self.walks:
                raise UsageError(
                    "--tile draws one tile of the training's own grid: leave out -n, --grid, --seed, --class, "
                    "--latents, --truncation and --interpolate."
                )
        if self.latents is not None:
            if self.seed or self.from_seed is not None:
                raise UsageError("--latents and a seed exclude each other: the latents of a seed are drawn.")
            if self.truncation is not None:
                raise UsageError("--truncation changes how latents are drawn: it cannot be used with --latents.")

    def _check_companions(self) -> None:
        if self.out is not None and self.directory is not None:
            raise UsageError(f"-o {self.out} and --png-dir {self.directory} exclude each other: name one of the two.")
        if not (self.with_reals or self.neighbours):
            return
        if self.with_reals and self.neighbours:
            raise UsageError("--with-reals and --neighbours are two pictures: ask for one of them.")
        name = "--with-reals" if self.with_reals else "--neighbours"
        if self.walks:
            raise UsageError(f"{name} shows single images, not walks: leave out --interpolate.")
        arrays = (".npz",) if self.neighbours else ()
        if not self.in_rows and (self.out is None or self.out.suffix not in arrays):
            raise UsageError(f"{name} is a picture of two kinds of images: name a .png file.")

    def file_words(self, class_words: str) -> str:
        """The words of a file name for everything but the seed, so that no two requests have one name."""
        words = class_words
        words += "" if self.truncation is None else f"-truncation-{self.truncation:g}"
        words += "" if self.standing_statistics is None else f"-standing-{self.standing_statistics}"
        words += "" if self.latents is None else f"-latents-{self._latents_digest()}"
        words += "" if self.method == METHODS[0] else f"-{self.method}"
        words += "-with-reals" if self.with_reals else ""
        words += f"-neighbours-{self.neighbours}" if self.neighbours else ""
        words += "" if self.at is None else f"-at-{str(self.at).replace(':', '-')}"
        words += f"-{self.count}" if self.count is not None and self.shape is None else ""
        words += "" if self.shape is None else f"-{self.shape[0]}x{self.shape[1]}"
        words += "" if self.frames is None else f"-{self.frames}-frames"
        words += "" if self.scale is None else f"-x{self.scale}"
        words += "" if self.theme == "dark" else f"-{self.theme}"
        words += f"-titled-{_digest(self.title.encode(errors='surrogateescape'))}" if self.title else ""
        return words + ("-caption" if self.caption else "")

    @property
    def kind_words(self) -> str:
        """The words of a file name for what is drawn: `sample-0`, `interpolation-3-to-7`, `tile-2-5`."""
        if self.tile is not None:
            return f"tile-{self.tile[0]}-{self.tile[1]}"
        if self.from_seed is not None:
            return f"interpolation-{self.from_seed}-to-{self.to_seed}"
        return f"{'interpolation' if self.interpolate else 'sample'}-{self.seed}"

    def _latents_digest(self) -> str:
        if isinstance(self.latents, Path):
            return _digest(_bytes(self.latents))
        return _digest(self.latents.cpu().numpy().tobytes()) if self.latents is not None else ""


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--latents {path} cannot be read ({error.strerror}).") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:10]


def is_directory_text(text: str) -> bool:
    """Whether a path names a folder: it ends in a slash, or it has no suffix and is a folder that exists."""
    path = Path(text)
    return bool(re.search(r"[/\\]$", text)) or (not path.suffix and path.is_dir())


def place(text: str | Path | None) -> dict[str, Any]:
    """The fields `out`, `directory` and `animate` for a path as it was written: `DIR/` is a folder, `x.mp4` a film."""
    from ganzoo.storage.animations import SUFFIXES

    if text is None:
        return {}
    if is_directory_text(str(text)):
        return {"directory": Path(text)}
    path = Path(text)
    return {"out": path, **({"animate": path.suffix} if path.suffix in SUFFIXES else {})}
