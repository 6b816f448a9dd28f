"""Makes the pictures and the numbers of tutorial.md from the runs of the tutorial, finished or not.

    python docs/make_tutorial_pictures.py runs/dcgan-tutorial-mnist runs/dcgan-tutorial-fashion-mnist [MLP_RUN]

A run needs a generator for each epoch: train it with `--checkpoint-every '1 epochs'`. All files go to images/tutorial,
and the text between the marks in tutorial.md is written anew. Run it again whenever the runs have gone on.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import ganzoo

HERE = Path(__file__).parent
PICTURES = HERE / "images" / "tutorial"
PAGE = HERE / "tutorial.md"
LIMIT = 2_000_000
#: background of grids
DARK = 24


class Pictures:
    """The pictures of one run: `name` begins the names of their files."""

    def __init__(self, path: str, name: str) -> None:
        self.run, self.name = ganzoo.load(path, device="cpu"), name
        per_epoch = self.run.progress.images / max(self.run.progress.epochs, 1e-9)
        #: epoch -> images seen, for each whole epoch with a generator
        self.epochs = {
            round(images / per_epoch): images
            for images in (int(file.stem) for file in self.run.generators)
            if images and abs(images / per_epoch - round(images / per_epoch)) < 1e-3
        }
        self.planned = int(str(self.run.recipe.length).split()[0])
        self.last = max(self.epochs, default=0)

    def grid(self, epoch: int, rows: int, columns: int, seed: int, scale: int = 1) -> Image.Image:
        """Samples of the generator after an epoch, as one grey picture."""
        images = self.run.sample(grid=(rows, columns), seed=seed, at=self.epochs[epoch]).tensor.numpy()[:, 0]
        height, width = images.shape[1:]
        sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), DARK, np.uint8)
        for number, image in enumerate(images):
            top, left = number // columns * (height + 1), number % columns * (width + 1)
            sheet[top : top + height, left : left + width] = image
        return Image.fromarray(sheet).resize((sheet.shape[1] * scale, sheet.shape[0] * scale), Image.Resampling.NEAREST)

    def save(self, picture: Image.Image, what: str) -> str:
        """Write a picture with 16 greys, and return its address on the page."""
        file = PICTURES / f"{self.name}-{what}.png"
        picture.quantize(16).save(file, optimize=True)
        return f"images/tutorial/{file.name}"

    def every_epoch(self) -> str:
        """One picture with a small grid for each epoch, ten in a row."""
        cells = [(epoch, self.grid(epoch, 4, 4, seed=0)) for epoch in sorted(self.epochs)]
        width, height = cells[0][1].size
        columns = min(10, len(cells))
        rows = -(-len(cells) // columns)
        sheet = Image.new("L", (columns * (width + 6), rows * (height + 16)), DARK)
        draw = ImageDraw.Draw(sheet)
        for number, (epoch, picture) in enumerate(cells):
            left, top = number % columns * (width + 6), number // columns * (height + 16)
            draw.text((left, top + 2), f"epoch {epoch}", fill=220)
            sheet.paste(picture, (left, top + 15))
        return self.save(sheet, "epochs")

    def animation(self) -> str:
        """A GIF of at most 40 epochs, with 8 greys; the last one stays longer."""
        epochs = sorted(self.epochs)
        chosen = [epochs[int(at)] for at in np.linspace(0, len(epochs) - 1, min(40, len(epochs)))]
        frames = [self.grid(epoch, 4, 4, seed=0, scale=2).quantize(8) for epoch in chosen]
        file = PICTURES / f"{self.name}.gif"
        times = [120] * (len(frames) - 1) + [1500]
        frames[0].save(file, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
        return f"images/tutorial/{file.name}"

    def losses(self) -> str:
        """The losses of the training."""
        file = PICTURES / f"{self.name}-losses.png"
        figure = self.run.stats.plot()
        figure.savefig(file, dpi=80)
        Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)
        return f"images/tutorial/{file.name}"

    def length(self) -> str:
        """How far the training is, as a sentence."""
        seconds = self.run.stats[-1]["seconds"] / self.run.progress.epochs
        recipe, environment = self.run.recipe, self.run.environment
        state = "all" if self.last >= self.planned else f"{self.last} of"
        return (
            f"*After {state} {self.planned} epochs of a run in {recipe.precision} with seed {recipe.seed} on "
            f"{environment['device']}, which other work used as well: {seconds:.0f} s an epoch.*"
        )

    def scores(self) -> list[str]:
        """Rows of the table of scores."""
        rows = []
        for line in self.run.scores:
            epoch = self.run.progress.epochs * line["images"] / self.run.progress.images
            recipe = self.run.recipe
            run = f"`{recipe.architecture.name}` on `{recipe.dataset.name}`"
            rows.append(f"| {run} | {epoch:.3g} | `{line['score']}` | {line['value']:.4g} |")
        return rows


def main() -> None:
    """Write pictures and text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for run in ("mnist", "fashion"):
        parser.add_argument(run, metavar=f"RUN_{run.upper()}")
    parser.add_argument("mlp", nargs="?", metavar="RUN_MLP", help="the run of mlp-keras-gan")
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    sections, scores = {}, []
    for name in ("mnist", "fashion"):
        pictures = Pictures(getattr(arguments, name), name)
        if not pictures.epochs:
            print(f"{pictures.run.path} has no generator of a whole epoch yet: its pictures stay as they are")
            continue
        sections |= write_dcgan(pictures)
        scores += pictures.scores()
    if arguments.mlp:
        pictures = Pictures(arguments.mlp, "mlp")
        sections["mlp"], more = write_mlp(pictures)
        scores += more
    if scores:
        sections["scores"] = "\n".join(["| run | epochs | score | value |", "| --- | --- | --- | --- |", *scores])
    text = PAGE.read_text(encoding="utf-8")
    for name, section in sections.items():
        mark = f"(<!-- {name}: written by docs/make_tutorial_pictures.py -->\n).*?(<!-- end -->)"
        text, found = re.subn(mark, lambda match, new=section: f"{match[1]}{new}\n{match[2]}", text, flags=re.S)
        if found != 1:
            raise SystemExit(f"tutorial.md has no marks for {name!r}")
    PAGE.write_text(text, encoding="utf-8")
    size = sum(file.stat().st_size for file in PICTURES.iterdir())
    print(f"{PICTURES}: {size / 1e6:.2f} MB")
    if size > LIMIT:
        raise SystemExit(f"the pictures take more than {LIMIT / 1e6:.0f} MB")


def write_dcgan(pictures: Pictures) -> dict[str, str]:
    """The sections of the tutorial about a run of dcgan-tutorial."""
    last = pictures.last
    what, kind = ("digits", "mnist") if pictures.name == "mnist" else ("garments", "fashion")
    new = pictures.save(pictures.grid(last, 5, 10, seed=1, scale=2), "new")
    sheet = f"![the same 16 {what} after each epoch]({pictures.every_epoch()})"
    more = [
        f"![the training as an animation]({pictures.animation()})",
        f"![new {what} of the generator after {last} epochs]({new})",
        f"![losses of both players]({pictures.losses()})",
    ]
    if kind == "fashion":
        return {"fashion": "\n\n".join([sheet, pictures.length(), *more])}
    return {"mnist": f"{sheet}\n\n{pictures.length()}", "mnist-more": "\n\n".join(more)}


def write_mlp(pictures: Pictures) -> tuple[str, list[str]]:
    """The section about mlp-keras-gan, from the newest generator, and its rows of the table of scores."""
    run = pictures.run
    pictures.epochs = {0: int(run.generators[-1].stem)}
    address = pictures.save(pictures.grid(0, 5, 10, seed=1, scale=2), "new")
    minutes = run.stats[-1]["seconds"] / 60
    text = (
        f"![new garments of a generator without convolutions, with speckle]({address})\n\n"
        f"*After {run.progress.step:,} of {run.recipe.length}, {minutes:.0f} minutes on a core that other work used as "
        f"well. The speckle is what its authors published, too.*"
    )
    return text, pictures.scores()


if __name__ == "__main__":
    main()
