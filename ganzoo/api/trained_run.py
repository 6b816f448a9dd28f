"""TrainedRun: a run directory as a Python object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.display import ImageGrid, Scores, Stats, run_html
from ganzoo.api.displays import progress_observers
from ganzoo.api.interrupt import interruptible
from ganzoo.api.keywords import (
    Parts,
    ResumeOptions,
    check_keywords,
    folders,
    keywords_of,
    length_of,
    parts,
)
from ganzoo.api.progress import log
from ganzoo.contract.errors import UsageError
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
        """The generator saved at `at` images seen, the "best" one scored in training, or the newest."""
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
    ) -> ImageGrid:
        """New images of the generator, as a function of the seed: those of `ganzoo sample`.

        `count` images, or as many as `grid` (rows, columns) has places; by default the grid of the recipe. `classes` is
        one class or several, by number or name, a row each in turn, of a conditional architecture. `at` is a number of
        images seen or "best". Raises UsageError for a class or a grid that is not there, GanzooError without such a
        generator.
        """
        from ganzoo.results.sample import draw_images, grid_shape, row_names

        if count is not None and count < 1:
            raise UsageError(f"{count} images cannot be drawn: name at least 1.")
        trained = self._trained(at, accept_changed_code)
        shape = Recipe(grid="x".join(map(str, grid)) if isinstance(grid, tuple) else grid).grid_shape if grid else None
        rows, columns = grid_shape(count, shape, trained.run.recipe.grid_shape)
        wanted = (classes,) if isinstance(classes, int | str) else classes
        images, labels = draw_images(trained, count or rows * columns, columns, seed, wanted)
        whole = classes is not None or len(images) == rows * columns
        return ImageGrid(images, columns, row_names(trained, labels[::columns]) if whole else [])

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
    ) -> Scores:
        """Score the generator against the real images of its dataset, append the scores to the run and return them.

        Without an evaluator those of the recipe are used, or `fid-domain`. `samples` fake images are drawn from `seed`;
        by default as many as the protocol says. Only scores whose cards have the same digest can be compared.
        Raises UsageError for a wrong request, GanzooError where a score would mean nothing.
        """
        from ganzoo.engine.device import find_device
        from ganzoo.registry.zoo import zoo
        from ganzoo.results.evaluate import evaluate as score

        chosen = [choice for one in evaluators for choice in parts(one)]
        device = find_device(self.device)
        with folders(data_dir or self._data_dir, inception_weights):
            changed = (accept_changed_code, accept_changed_images)
            return Scores(score(self.path, zoo(), device, chosen, samples, protocol, seed, at, *changed, log))

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
        steps = {name: given[name] for name in ("capture", "compile") if name in given}
        data_dir = given.get("data_dir", self._data_dir)
        with folders(data_dir, given.get("inception_weights")), interruptible(self.path):
            go_on(
                self.path,
                zoo(),
                given.get("device"),
                length,
                *changed,
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


def load(path: str | Path, *, device: str = "auto", data_dir: str | Path | None = None) -> TrainedRun:
    """The run in the directory `path`. Raises UsageError where there is none, GanzooError where it is damaged.

    `path` may also be an export, or a trained generator that a plugin ships: "pretrained:cgan/digits".
    `device` and `data_dir` are used when images are drawn, scores computed or the training continued.
    """
    run = TrainedRun(path, device, data_dir)
    run._run()  # raises where there is no run
    return run


@keywords_of(ResumeOptions)
def resume(run: str | Path | TrainedRun, **keywords: Unpack[ResumeOptions]) -> TrainedRun:
    """Continue a run from its newest checkpoint, see `TrainedRun.resume`."""
    check_keywords(resume, keywords)
    return _opened(run).resume(**keywords)


def evaluate(run: str | Path | TrainedRun, *evaluators: Parts, device: str = "auto", **keywords: Any) -> Scores:
    """Score the generator of a run, see `TrainedRun.evaluate`. "auto" is the device of a TrainedRun."""
    check_keywords(TrainedRun.evaluate, keywords)
    return _opened(run, device).evaluate(*evaluators, **keywords)


def export(run: str | Path | TrainedRun, out: str | Path | None = None, **keywords: Any) -> Path:
    """Write the generator of a run to a new folder with a card, see `TrainedRun.export`."""
    check_keywords(TrainedRun.export, keywords)
    return _opened(run).export(out, **keywords)


def sample(
    run: str | Path | TrainedRun, count: int | None = None, *, device: str = "auto", **keywords: Any
) -> ImageGrid:
    """New images of the generator of a run, see `TrainedRun.sample`. "auto" is the device of a TrainedRun."""
    check_keywords(TrainedRun.sample, keywords)
    return _opened(run, device).sample(count, **keywords)


def _opened(run: str | Path | TrainedRun, device: str = "auto") -> TrainedRun:
    if not isinstance(run, TrainedRun):
        return load(run, device=device)
    return run if device == "auto" else TrainedRun(run.path, device, run._data_dir)
