"""TrainedRun: a run directory as a Python object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.display import ImageGrid, Scores, Stats, run_html
from ganzoo.api.displays import progress_observers
from ganzoo.api.interrupt import interruptible
from ganzoo.api.keywords import (
    Part,
    Parts,
    ResumeOptions,
    check_keywords,
    folders,
    keywords_of,
    length_of,
)
from ganzoo.api.progress import log
from ganzoo.api.scoring import score
from ganzoo.contract.hooks import TrainingProgress
from ganzoo.contract.recipe import Recipe

if TYPE_CHECKING:
    from typing import Unpack

    from torch import Tensor, nn

    from ganzoo.results.load import TrainedGenerator
    from ganzoo.storage.run import Run


class TrainedRun:
    """A run on disk: what was trained, how it went, and its generator.

    Every attribute is read from the directory when it is used, so a run that another process trains can be watched.
    """

    def __init__(self, path: str | Path, device: str = "auto", data_dir: str | Path | None = None) -> None:
        self.path = Path(path)
        #: where samples are drawn and scores are computed: auto, cpu, cuda or cuda:N
        self.device = device
        self._data_dir = data_dir

    def _run(self) -> Run:
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.load import open_run

        return open_run(self.path, zoo())

    # --- what was trained, and how it went ---

    @property
    def recipe(self) -> Recipe:
        """The complete recipe, every option written out."""
        return self._run().recipe

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, image shape, class names and the origin of each part."""
        return self._run().environment

    @property
    def progress(self) -> TrainingProgress:
        """Steps, images and epochs done, as of the last line of the statistics."""
        return self._run().progress

    @property
    def stats(self) -> Stats:
        """The lines of stats.jsonl: means over the steps since the line before, with `.plot()`."""
        return Stats(self._run().lines("stats.jsonl"))

    @property
    def scores(self) -> Scores:
        """The lines of scores.jsonl, made in training and afterwards, with `.plot()`."""
        return Scores(self._run().lines("scores.jsonl"))

    @property
    def best(self) -> dict[str, Any] | None:
        """The best line among the scores made in training, by the recipe's `best_by`; None without one."""
        return self._run().best()

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first. Their names are the images seen."""
        return sorted(path for path in (self.path / "checkpoints").glob("*") if path.name.isdecimal())

    @property
    def generators(self) -> list[Path]:
        """The weights of the saved generators, oldest first. Their names are the images seen: values of `at`."""
        return sorted(path for path in (self.path / "generators").glob("*.safetensors") if path.stem.isdecimal())

    # --- the generator ---

    @property
    def generator(self) -> nn.Module:
        """The newest generator in eval mode, on the run's device, without gradients.

        Called with latents (N, Z) and labels (N,) int64 it returns images (N, C, H, W) in the architecture's value
        range; `latents` draws the first.
        """
        return self.load_generator()

    def load_generator(self, at: int | str | None = None) -> nn.Module:
        """The generator saved at `at`, or the newest.

        `at` is a number of images seen, `"epoch:20"`, `"step:5000"`, `"best"` (by the scores of the training) or
        `"last"`.
        """
        return self._trained(at).network

    def latents(self, count: int, seed: int = 0) -> Tensor:
        """(count, Z) latents, a function of the seed: those of `sample(count, seed=seed)`."""
        from ganzoo.results.sample import sample_latents

        return sample_latents(self._trained(), count, seed)

    def sample(
        self,
        count: int | None = None,
        *,
        classes: int | str | Sequence[int | str] | None = None,
        seed: int = 0,
        at: int | str | None = None,
        grid: str | tuple[int, int] | None = None,
        accept_changed_code: bool = False,
        latents: Tensor | str | Path | None = None,
        truncation: float | None = None,
        standing_statistics: int | None = None,
        tile: tuple[int, int] | None = None,
        with_reals: bool = False,
        neighbours: int = 0,
        theme: str = "dark",
        title: str = "",
        caption: bool = False,
        scale: int | None = None,
    ) -> ImageGrid:
        """New images of the generator, as a function of the seed: those of `ganzoo sample`.

        `count` images, or as many as `grid` (rows, columns) has places; by default the grid of the recipe. `classes` is
        one class or several, by number or name, a row each in turn, of a conditional architecture; "0..9" is a range.
        `at` is as in `load_generator`. `latents` (N, Z) replaces those of the seed: a tensor, or a .npy or
        .npz file. `truncation` limits the absolute values of Gaussian latents.
        `standing_statistics` recomputes the statistics of batch norm over so many batches of generated images.
        `tile` is the row and column, from 1, of a tile of the training's own grid. `with_reals` shows as many training
        images beside the generated ones, `neighbours` the nearest ones of each. `theme` ("dark" or "light"), `title`,
        `caption` (the moment of the training) and `scale` (a whole factor) are those of the picture.
        Raises UsageError for a class or a grid that is not there, GanzooError without such a generator, and where
        training images are asked for and cannot be read.
        """
        look = {"theme": theme, "title": title, "caption": caption, "scale": scale}
        return self._draw(
            count=count,
            shape=_shape(grid),
            seed=seed,
            classes=_classes(classes),
            latents=Path(latents) if isinstance(latents, str) else latents,
            truncation=truncation,
            standing_statistics=standing_statistics,
            tile=tile,
            with_reals=with_reals,
            neighbours=neighbours,
            at=at,
            changed_code=accept_changed_code,
            **look,
        )

    def interpolate(
        self,
        *,
        grid: str | tuple[int, int] | None = None,
        seed: int = 0,
        from_seed: int | None = None,
        to_seed: int | None = None,
        frames: int | None = None,
        method: str = "slerp",
        classes: int | str | Sequence[int | str] | None = None,
        latents: Tensor | str | Path | None = None,
        truncation: float | None = None,
        standing_statistics: int | None = None,
        at: int | str | None = None,
        accept_changed_code: bool = False,
        theme: str = "dark",
        title: str = "",
        caption: bool = False,
        scale: int | None = None,
    ) -> ImageGrid:
        """Walks between latents, one in each row: those of `ganzoo sample --interpolate`.

        The ends are drawn from `seed`, or are the images of `from_seed` and `to_seed`, or neighbouring rows of
        `latents`. `frames` is the number of images of a walk, `method` "slerp" (on arcs) or "lerp" (on lines). The
        other arguments are those of `sample`. Raises UsageError and GanzooError as `sample` does.
        """
        look = {"theme": theme, "title": title, "caption": caption, "scale": scale}
        return self._draw(
            interpolate=True,
            shape=_shape(grid),
            seed=seed,
            from_seed=from_seed,
            to_seed=to_seed,
            frames=frames,
            method=method,
            classes=_classes(classes),
            latents=Path(latents) if isinstance(latents, str) else latents,
            truncation=truncation,
            standing_statistics=standing_statistics,
            at=at,
            changed_code=accept_changed_code,
            **look,
        )

    def gif(self, path: str | Path | None = None, *, frames: int | None = None, theme: str = "dark") -> Path:
        """Write the grids that the training saved as an animation, and return its path: `ganzoo sample --gif`.

        The suffix is the format: .gif, .webp, .avif, .mp4 or .webm. Without a path it is `training.gif` in the run.
        At most `frames` of the grids are shown, evenly chosen. Raises UsageError for another suffix, GanzooError
        without grids.
        """
        from ganzoo.engine.device import find_device
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.sample import SampleRequest, sample

        out = None if path is None else Path(path)
        suffix = ".gif" if out is None else out.suffix
        request = SampleRequest(out=out, animate=suffix or ".gif", frames=frames, theme=theme)
        return sample(self.path, zoo(), find_device("cpu"), request, log)

    def _draw(self, **fields: Any) -> ImageGrid:
        """The images of a request with these fields."""
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.drawing import draw, grid_shape
        from ganzoo.results.request import SampleRequest

        request = SampleRequest(**fields)
        grid_shape(request.count, request.shape, self.recipe.grid_shape)  # refused before the generator is loaded
        trained = self._trained(request.at, request.changed_code)
        return ImageGrid(draw(trained, request, zoo(), log))

    def evaluate(
        self,
        *evaluators: Parts,
        samples: int | None = None,
        protocol: str | None = None,
        seed: int = 0,
        at: int | str | None = None,
        data_dir: str | Path | None = None,
        inception_weights: str | Path | None = None,
        accept_changed_code: bool = False,
        accept_changed_images: bool = False,
        against: Part | Path | None = None,
        resize: bool = False,
        save_fakes: str | Path | None = None,
        standing_statistics: int | None = None,
    ) -> Scores:
        """Score the generator against the real images of its dataset, append the scores to the run and return them.

        Without an evaluator those of the recipe are used, or `fid-domain`. `samples` fake images are drawn from `seed`;
        by default as many as the protocol says. Only scores whose cards have the same digest can be compared.
        `against` is another dataset, a folder of pictures or a file of an array to compare with; such scores are not
        appended. `resize` brings fakes of another size to that of the reals. `save_fakes` is a file (.npy, or .npz with
        the labels) to write the fakes to. `standing_statistics` recomputes the statistics of batch norm over so many
        batches of fakes; such scores have cards of their own.
        Raises UsageError for a wrong request, GanzooError where a score would mean nothing.
        """
        given: dict[str, Any] = {
            "samples": samples,
            "protocol": protocol,
            "seed": seed,
            "at": at,
            "accept_changed_code": accept_changed_code,
            "accept_changed_images": accept_changed_images,
            "against": against,
            "resize": resize,
            "save_fakes": save_fakes,
            "standing_statistics": standing_statistics,
        }
        with folders(data_dir or self._data_dir, inception_weights):
            return score(self.path, self.device, evaluators, **given)

    def export(
        self,
        out: str | Path | None = None,
        *,
        format: str = "safetensors",
        averaged: bool | None = None,
        at: int | str | None = None,
        license: str = "unknown",
        accept_changed_code: bool = False,
    ) -> Path:
        """Write the generator to a new folder, with a card, and return the folder: that of `ganzoo export`.

        `format` is "safetensors" (weights; needs the code of the architecture), "onnx" or "torch-export" (both run
        without it). `averaged` chooses the EMA of the weights or the raw ones; None is what the run saves. The file is
        run again and compared with the run first. The folder can be used in the place of a run: `ganzoo.load(folder)`.
        Raises UsageError for a wrong request or a missing package, GanzooError where it cannot be exported.
        """
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.export.write import export as write

        folder = Path(out) if out is not None else None
        return write(self.path, zoo(), format, folder, averaged, at, license, accept_changed_code, log).path

    @keywords_of(ResumeOptions)
    def resume(self, **keywords: Unpack[ResumeOptions]) -> TrainedRun:
        """Continue the run from its newest checkpoint and return it. A length is the new total: `resume(epochs=10)`.

        `set` changes fields of the recipe from here on, `set={"batch_size": 32, "generator_optimizer.lr": 1e-4}`; what
        would make another network, or another set of images, is refused. `dataset={"path": ...}` is the new place of
        images that have moved; they are compared by their fingerprint.

        Raises UsageError where nothing is left to train, GanzooError where the code of a part or the training images
        have changed, and TrainingInterrupted, with everything saved, when it is stopped.
        """
        check_keywords(type(self).resume, keywords)
        from ganzoo.registry.zoo import zoo
        from ganzoo.training.train import resume as go_on

        given: dict[str, Any] = {name: value for name, value in keywords.items() if value is not None}
        length = length_of(*(given.get(unit) for unit in ("epochs", "images", "steps")))
        observers = progress_observers(given.get("quiet", False), given.get("verbose", False))
        changed = (given.get("accept_changed_code", False), given.get("accept_changed_images", False))
        changes = dict(given.get("set", {}))
        if "early_stop" in given:
            changes["early_stop"] = given["early_stop"]
        steps = {name: given[name] for name in ("capture", "compile") if name in given}
        data_dir = given.get("data_dir", self._data_dir)
        with folders(data_dir, given.get("inception_weights")), interruptible(self.path):
            go_on(
                self.path,
                zoo(),
                given.get("device"),
                length,
                *changed,
                changes=changes,
                dataset=given.get("dataset"),
                extra_observers=observers,
                note=log,
                introduce=bool(observers),
                **steps,
            )
        return self

    def _trained(self, at: int | str | None = None, changed_code: bool = False) -> TrainedGenerator:
        from ganzoo.engine.device import find_device
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.load import load_generator

        return load_generator(self.path, zoo(), find_device(self.device), at, changed_code, log)

    def __repr__(self) -> str:
        return f"<TrainedRun {self.path}, {self._summary()}>"

    def _summary(self) -> str:
        progress, recipe = self.progress, self.recipe
        done = recipe.length.count_of(progress.step, progress.images, progress.epochs)
        return f"{done:,.4g} of {recipe.length}" if done < recipe.length.count else str(recipe.length)

    def _repr_html_(self) -> str:
        return run_html(self._run(), self._summary())


def _shape(grid: str | tuple[int, int] | None) -> tuple[int, int] | None:
    """(rows, columns) of a grid, which may be written `4x8`."""
    return Recipe(grid="x".join(map(str, grid)) if isinstance(grid, tuple) else grid).grid_shape if grid else None


def _classes(classes: int | str | Sequence[int | str] | None) -> str | Sequence[int | str] | None:
    return (classes,) if isinstance(classes, int) else classes
