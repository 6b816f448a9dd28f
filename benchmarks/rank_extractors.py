"""Do domain extractors that were trained from different seeds rank generators in the same order?

    python benchmarks/rank_extractors.py runs/a runs/a@60000 runs/b --weights seeds/1/mnist.safetensors --out ranks.json

Each RUN is the directory of a run; RUN@IMAGES is its generator after that many images. All runs must have the same
dataset. Each generator is scored by fid-domain with the pinned weights of the dataset and with each file of --weights.
`benchmarks/train_extractors.py --seed S --out DIR` writes such files.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from scipy.stats import kendalltau, spearmanr

import ganzoo
from ganzoo.contract.choice import short_name
from ganzoo.evaluation.fakes import fakes_of
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo_plugins.evaluators.frechet import FIDDomain
from ganzoo_plugins.extractors import _classifier, domain

CPU = torch.device("cpu")


class ExtractorScorer:
    """Computes fid-domain with the extractor weights of one file."""

    def __init__(self, path: Path, reals: ganzoo.Dataset) -> None:
        weights, metadata = _classifier.load_weights(path)
        self.extractor, self.evaluator = domain.Domain(), FIDDomain()
        self.extractor.load(weights, metadata)
        self.evaluator.reset(self.extractor.layers["pre128"], CPU)
        for indices in torch.arange(len(reals)).split(500):
            self.update(*reals.read(indices), "reals")
        self.real_statistics = self.evaluator.statistics()
        named = {name: metadata.get(name, "") for name in ("dataset", "seed", "test_accuracy")}
        self.facts = {**named, "digest": self.extractor.digest}

    def update(self, images: torch.Tensor, labels: torch.Tensor, origin: ganzoo.Origin) -> None:
        self.evaluator.update(self.extractor(images)["pre128"], labels, origin)

    def start(self) -> None:
        """Forget the fakes of the last generator; keep the statistics of the reals."""
        self.evaluator.reset(self.extractor.layers["pre128"], CPU)
        self.evaluator.restore(self.real_statistics)


def open_generator(zoo: Zoo, name: str) -> TrainedGenerator:
    """The generator that RUN or RUN@IMAGES names."""
    path, _, images = name.partition("@")
    if images and not images.isdigit():
        raise ganzoo.UsageError(f"{name!r} must be RUN or RUN@IMAGES, with a whole number of images.")
    return load_generator(Path(path), zoo, CPU, int(images) if images else None)


def score(trained: TrainedGenerator, scorers: Sequence[ExtractorScorer], samples: int) -> list[float]:
    """fid-domain of the same fakes by each scorer."""
    for scorer in scorers:
        scorer.start()
    for images, labels in fakes_of(trained.network, trained.architecture, trained.images, samples, CPU, 0):
        for scorer in scorers:
            scorer.update(images, labels, "fakes")
    return [scorer.evaluator.compute()["fid-domain"] for scorer in scorers]


def agreement(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Rank correlations for each pair of columns (extractors), and the largest ratio of two values of one generator.

    `values` has a row for each generator, with a score by each extractor.
    """
    columns = list(zip(*values, strict=True))
    pairs = list(itertools.combinations(range(len(columns)), 2))
    ratios = [math.log(row[b] / row[a]) for row in values for a, b in pairs]
    return {
        "pairs": pairs,
        "spearman": [round(float(spearmanr(columns[a], columns[b]).statistic), 4) for a, b in pairs],
        "kendall": [round(float(kendalltau(columns[a], columns[b]).statistic), 4) for a, b in pairs],
        "largest_ratio": round(math.exp(max(map(abs, ratios))), 3),
    }


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN[@IMAGES]...")
@click.option("--weights", multiple=True, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--samples", default=10_000, show_default=True, help="Fakes of each generator.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSON file to write.")
def main(runs: tuple[str, ...], weights: tuple[Path, ...], samples: int, out: Path) -> None:
    """Score the generators of RUNs with domain extractors of several seeds, and compare the rankings."""
    zoo = Zoo()
    generators = [open_generator(zoo, name) for name in runs]
    datasets = {str(generator.run.recipe.dataset) for generator in generators}
    if len(datasets) > 1:
        raise ganzoo.UsageError(
            f"The runs have different datasets, {' and '.join(sorted(datasets))}: name runs of one dataset."
        )
    choice = generators[0].run.recipe.dataset
    name = short_name(choice)
    if name not in domain.PINNED:
        raise ganzoo.UsageError(f"{name} has no pinned extractor weights: name runs of {', '.join(domain.PINNED)}.")
    reals = zoo.build("datasets", choice, split="train")
    scorers = [ExtractorScorer(path, reals) for path in (domain.PINNED[name], *weights)]
    lines = []
    for generator in generators:
        found = score(generator, scorers, samples)
        recipe = generator.run.recipe
        line = {"architecture": short_name(recipe.architecture), "images": generator.images_seen, "seed": recipe.seed}
        lines.append({**line, "fid-domain": found})
        click.echo(f"{line['architecture']} at {generator.images_seen}: {', '.join(f'{value:.2f}' for value in found)}")
    record = {
        "dataset": str(choice),
        "reals": len(reals),
        "fakes": samples,
        "extractors": [scorer.facts for scorer in scorers],
        "generators": lines,
        **agreement([line["fid-domain"] for line in lines]),
        "versions": {part: version(part) for part in ("torch", "torchmetrics", "torch-ganzoo")},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    click.echo(f"Spearman {record['spearman']}, Kendall {record['kendall']}: {out}")


if __name__ == "__main__":
    main()
