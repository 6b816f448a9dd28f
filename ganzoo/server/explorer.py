"""Explorer: images of a run's generators as functions of a view, with the generators kept in memory."""

from __future__ import annotations

import json
import shlex
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ganzoo.contract.errors import UsageError
from ganzoo.engine.sampler import draw_all
from ganzoo.registry.zoo import Zoo
from ganzoo.results.latents import is_gaussian, truncated, with_truncation
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.sample import row_names, sample_latents
from ganzoo.server.latent_space import DIRECTIONS, Directions, moved, strongest_directions, walk
from ganzoo.server.view import FARTHEST, Point, View
from ganzoo.storage.run import Run

#: bytes of the weights of all generators in memory, at most; the one in use is always kept
_MEMORY = 1 << 29


class Explorer:
    """The generators of one run. Its methods are to be called from one thread at a time."""

    def __init__(
        self, path: Path, zoo: Zoo, device: torch.device, changed_code: bool, note: Callable[[str], None]
    ) -> None:
        """Load the newest generator. Raises what `load_generator` raises."""
        self.path, self.zoo, self.device, self.changed_code, self.note = path, zoo, device, changed_code, note
        self._generators: OrderedDict[int, TrainedGenerator] = OrderedDict()
        self._directions: dict[int, Directions] = {}
        self._headers: dict[tuple[str, int], dict[str, str]] = {}
        newest = load_generator(path, zoo, device, None, changed_code, note)
        self._keep(newest)
        self.newest = newest.images_seen
        self.gaussian = is_gaussian(newest.architecture)

    # --- what there is to see -----------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What the page shows beside images: the run, its generators, classes and directions."""
        run = Run.open(self.path)
        generators = self.saved()
        self.newest = generators[-1]["images"] if generators else self.newest
        trained = self.generator(self.newest)
        conditional = trained.architecture.conditional
        return {
            "run": str(self.path),
            "architecture": str(run.recipe.architecture),
            "dataset": str(run.recipe.dataset),
            "length": str(run.recipe.length),
            "image": {"height": trained.images.height, "width": trained.images.width},
            "classes": [str(name) for name in trained.class_names] if conditional else [],
            "generators": generators,
            "gaussian": self.gaussian,
            "directions": {
                "at": self.newest,
                "shares": self.directions(self.newest).shares,
                "most": DIRECTIONS,
                "farthest": FARTHEST,
            },
        }

    def saved(self) -> list[dict[str, Any]]:
        """The saved generators, oldest first: images seen, and epochs where their files tell."""
        files = [file for file in (self.path / "generators").glob("*.safetensors") if file.stem.isdecimal()]
        found = []
        for file in sorted(files, key=lambda file: int(file.stem)):
            epoch = self._header(file).get("epoch")
            found.append({"images": int(file.stem), "epoch": None if epoch is None else float(epoch)})
        return found

    def _header(self, file: Path) -> dict[str, str]:
        """The metadata in the header of a generator's file; empty where it is damaged."""
        try:
            key = (file.name, file.stat().st_mtime_ns)
            if key not in self._headers:
                with safetensors.safe_open(file, framework="pt") as opened:  # type: ignore[no-untyped-call]
                    self._headers[key] = dict(json.loads((opened.metadata() or {})["ganzoo"]))
                float(self._headers[key].get("epoch", 0))
        except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError):
            return {}
        return self._headers[key]

    # --- generators and directions ------------------------------------------------------------------------------

    def generator(self, at: int | None) -> TrainedGenerator:
        """The generator saved at `at` images (None: the newest known one), from memory if it is there."""
        at = self.newest if at is None else at
        if at in self._generators:
            self._generators.move_to_end(at)
        else:
            self._keep(load_generator(self.path, self.zoo, self.device, at, self.changed_code, lambda text: None))
        return self._generators[at]

    def _keep(self, trained: TrainedGenerator) -> None:
        self._generators[trained.images_seen] = trained
        size = sum(value.numel() * value.element_size() for value in trained.network.state_dict().values())
        while len(self._generators) > max(1, _MEMORY // max(1, size)):
            self._generators.popitem(last=False)

    def directions(self, at: int | None) -> Directions:
        """The strongest directions of a generator; computed once."""
        at = self.newest if at is None else at
        if at not in self._directions:
            trained = self.generator(at)
            self._directions[at] = strongest_directions(
                trained.network, trained.architecture, trained.images.classes, self.device
            )
        return self._directions[at]

    # --- images -------------------------------------------------------------------------------------------------

    def latents(self, view: View) -> Tensor:
        """The latent (1, Z) of a view."""
        walked = walk(torch.cat([self._latent(point, view) for point in view.points]), view.along, view.across)
        return self._moved(walked, view.moves, view)

    def _latent(self, point: Point, view: View) -> Tensor:
        latents = sample_latents(self.generator(view.at), 1, point.seed)
        truncation = self._truncated(view)[1]
        if truncation is not None:
            if not self.gaussian:
                raise UsageError("The latents of this generator are not Gaussian: there is nothing to truncate.")
            latents = truncated(latents, truncation)
        return self._moved(latents, point.moves, view)

    def _truncated(self, view: View) -> tuple[TrainedGenerator, float | None]:
        """The generator of a view, truncated in the way of its architecture, and the truncation of its latents."""
        return with_truncation(self.generator(view.at), view.truncation)

    def _moved(self, latents: Tensor, moves: Sequence[tuple[int, float]], view: View) -> Tensor:
        if not moves:
            return latents
        directions = self.directions(view.directions)
        if max(index for index, _ in moves) >= len(directions.vectors):
            raise UsageError(f"This generator has {len(directions.vectors)} directions, counted from 0.")
        return moved(latents, directions, moves)

    def label(self, view: View) -> int:
        """The class of a view. Raises UsageError where the generator has none of this number."""
        trained = self.generator(view.at)
        known = trained.images.classes if trained.architecture.conditional else 1
        if view.label >= known:
            raise UsageError(f"class={view.label} is not below {known}, the number of classes of this generator.")
        return view.label

    def draw(self, views: Sequence[View]) -> Tensor:
        """The images of views, uint8 (N, C, H, W) on the CPU; those of one generator and truncation in one batch."""
        images: dict[int, Tensor] = {}
        for key in dict.fromkeys((view.at, view.truncation) for view in views):
            places = [place for place, view in enumerate(views) if (view.at, view.truncation) == key]
            trained, _ = self._truncated(views[places[0]])
            latents = torch.cat([self.latents(views[place]) for place in places])
            labels = [self.label(views[place]) for place in places]
            images.update(zip(places, draw_all(trained.network, trained.architecture, latents, labels), strict=True))
        return torch.stack([images[place] for place in range(len(views))])

    def row_label(self, view: View) -> list[str]:
        """The class name beside the image, as `ganzoo sample` writes it; none where there are no classes."""
        return row_names(self.generator(view.at), torch.tensor([self.label(view)]))

    def command(self, view: View) -> str:
        """The command that draws the image of a view. Where no seed does, it reads the latent from a file."""
        trained = self.generator(view.at)
        words = ["ganzoo", "sample", str(self.path)]
        words += (
            ["--seed", str(view.points[0].seed), "-n", "1"] if view.is_sample else ["--latents", f"{view.name}.npy"]
        )
        words += ["--truncation", f"{view.truncation:g}"] if view.is_sample and view.truncation is not None else []
        if trained.architecture.conditional:
            words += ["--class", str(trained.class_names[self.label(view)])]
        words += ["--at", str(trained.images_seen)]
        words += ["--accept-changed-code"] if self.changed_code else []
        return shlex.join([*words, "-o", f"{view.name}.png"])
