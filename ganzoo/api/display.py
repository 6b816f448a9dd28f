"""Results that a notebook shows: image grids, statistics, scores, tables and descriptions."""

from __future__ import annotations

import base64
import builtins
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.contract.choice import short_name

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ganzoo.api.plots import Plot
    from ganzoo.results.drawing import Drawing
    from ganzoo.storage.run import Run


class ImageGrid:
    """Images in rows. A notebook shows it as a picture; `tensor` holds the images themselves."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        #: uint8 (N, C, H, W) in RGB or grey, on the CPU: the generated images
        self.tensor = drawing.images
        #: (N,) int64, the classes of the images, and (N, Z), their latents; both on the CPU
        self.labels, self.latents = drawing.labels, drawing.latents
        self.columns = drawing.columns
        self.row_labels = list(drawing.row_labels)

    @property
    def neighbours(self) -> Tensor | None:
        """(N, K): the positions of the nearest training images in the training split, where they were asked for."""
        return self._drawing.neighbours.positions if self._drawing.neighbours else None

    @property
    def image(self) -> Image:
        """The grid as a PIL image in RGB. Small images are enlarged by a whole factor."""
        return self._drawing.picture()

    def save(self, path: str | Path) -> Path:
        """Write the images and return the path: the grid as `.png`, the images as `.npy` (uint8, N x C x H x W), the
        images with labels and latents as `.npz`, or each image as a PNG of its own size in a new folder, `DIR/`.

        Raises UsageError for another suffix, a directory that does not exist, or a folder that holds other files.
        """
        from ganzoo.results import sample_files
        from ganzoo.results.request import is_directory_text

        out = Path(path)
        if is_directory_text(str(path)):
            sample_files.check_directory(out)
            sample_files.write_directory(self._drawing, out)
            return out
        sample_files.check_out(out, (".png", ".npy", ".npz"))
        sample_files.write(self._drawing, out)
        return out

    def __len__(self) -> int:
        return len(self.tensor)

    def __repr__(self) -> str:
        count, channels, height, width = self.tensor.shape
        return f"<ImageGrid of {count} images {channels}x{height}x{width}>"

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.image.save(data, "PNG")
        return data.getvalue()


class Table(builtins.list[dict[str, Any]]):
    """A list of dicts, which a notebook shows as a table."""

    #: the keys that are shown, with the words above their columns; all keys by default
    columns: Mapping[str, str] = {}

    def _repr_html_(self) -> str:
        columns = self.columns or {name: name for row in self for name in row}
        return table_html(builtins.list(columns.values()), [[_cell(row.get(name)) for name in columns] for row in self])


class Stats(Table):
    """The lines of stats.jsonl, oldest first. Each holds means over the steps since the line before."""

    def plot(self) -> Plot:
        """The losses, and the other means, over the images seen."""
        from ganzoo.api.plots import plot_stats

        return plot_stats(self)


class Scores(Table):
    """Lines of scores.jsonl, oldest first: the score, its value, and the card, which describes how it was measured."""

    columns = {"score": "score", "value": "value", "better": "better", "images": "images seen", "card": "card"}

    def plot(self) -> Plot:
        """Each score over the images seen. Only points of one line were measured alike."""
        from ganzoo.api.plots import plot_scores

        return plot_scores(self)


class PartList(Table):
    """Parts of one kind: name, id, kind, distribution, version, target and description."""

    columns = {"name": "name", "description": "what it is", "id": "id", "version": "version"}


class PretrainedList(PartList):
    """Trained generators: name, dataset, size, epochs, scores with their cards, and the command that trained each."""

    columns = {
        "name": "name",
        "dataset": "dataset",
        "parameters": "parameters",
        "epoch": "epochs",
        "command": "command",
    }


class BenchmarkTable(Table):
    """Rows of a benchmark: one for each architecture, dataset and score, with the spread over the seeds."""

    def __init__(self, rows: Iterable[dict[str, Any]], path: Path) -> None:
        super().__init__(rows)
        #: the folder with the runs, table.json, table.csv, table.md and table.png
        self.path = path

    def _repr_html_(self) -> str:
        from ganzoo.results.report.tables import sections_of

        found = []
        for section in sections_of(self):
            notes = "".join(f"<div>{html.escape(note)}</div>" for note in section.notes)
            found.append(
                f"<b>{html.escape(section.title)}</b>{table_html(section.columns, section.cells)}<small>{notes}</small>"
            )
        return "<br>".join(found)

    def _repr_png_(self) -> bytes:
        return (self.path / "table.png").read_bytes()


class SpeedrunRecord(dict[str, Any]):
    """The result of a speedrun: a line for each seed, and their means where every seed reached the target."""

    def _repr_html_(self) -> str:
        names = ("seed", "reached", "value", "training_seconds", "scoring_seconds", "images", "steps")
        rows = [[_cell(seed.get(name)) for name in names] for seed in self["seeds"]]
        title = f"{self['target']} on {self['dataset']} by {self['architecture']}"
        return f"<b>{html.escape(title)}</b>{table_html([name.replace('_', ' ') for name in names], rows)}"


class Description(dict[str, Any]):
    """What is known of one part: options, source, and the recipe and networks of an architecture."""

    def _repr_html_(self) -> str:
        from ganzoo.contract.recipe import Recipe
        from ganzoo.registry.describe import origin_in_words

        origin = f"{self['kind']}, from {origin_in_words(self)}"
        words = [f"<b>{html.escape(self['name'])}</b> ({html.escape(origin)})"]
        words.append(f"<div style='white-space: pre-wrap'>{html.escape(self['description'])}</div>")
        options = [[o["name"], o["type"], _cell(o["default"]), o["description"]] for o in self["options"]]
        words += [table_html(["option", "type", "default", "what it is"], options)] if options else []
        networks = [[n["role"], f"{n['parameters']:,}", f"{n['trainable']:,}"] for n in self.get("networks", [])]
        words += [table_html(["network", "parameters", "trained"], networks)] if networks else []
        if "recipe" in self:
            words.append(f"<pre>{html.escape(Recipe.from_dict(self['recipe']).to_toml())}</pre>")
        return "".join(words)


def table_html(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of texts."""
    head = "".join(f"<th style='text-align: left'>{html.escape(column)}</th>" for column in columns)
    lines = ["".join(f"<td style='text-align: left'>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def run_html(run: Run, length: str) -> str:
    """A run in a notebook: what was trained, how far, its last losses and scores, and its newest sample grid."""
    title = " · ".join(short_name(part) for part in (run.recipe.architecture, run.recipe.dataset))
    facts = [length, f"seed {run.recipe.seed}"]
    last = (run.lines("stats.jsonl") or [{}])[-1]
    facts += [f"{name.replace('_', ' ')} {last[name]:.4g}" for name in _LOSSES if name in last]
    scores = {line["score"]: line for line in run.lines("scores.jsonl") if "score" in line}
    facts += [f"{name} {line['value']:.4g}" for name, line in scores.items()]
    picture, grid = "", run.newest("samples", ".png")
    if grid is not None:
        data = base64.b64encode(grid.read_bytes()).decode()
        picture = f'<div><img src="data:image/png;base64,{data}" style="max-width: 600px; margin-top: 8px"></div>'
    return (
        f"<div><b>{html.escape(title)}</b> in <code>{html.escape(str(run.path))}</code></div>"
        f'<div style="opacity: 0.75">{html.escape("  ·  ".join(facts))}</div>{picture}'
    )


_LOSSES = ("discriminator_loss", "generator_loss")


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("digest", value))
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
