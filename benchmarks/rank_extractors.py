"""Whether generators keep their order under domain extractors that were trained from other seeds.

    python benchmarks/rank_extractors.py runs/a runs/a@60000 runs/b --weights seeds/1/mnist.safetensors --out ranks.json

Each RUN is the directory of a run, with @IMAGES for an earlier generator of it; all are of one dataset. Each generator
is scored by fid-domain under the pinned weights of the dataset and under each file of --weights, which
benchmarks/train_extractors.py --seed S --out DIR writes.
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
from ganzoo.evaluation.scorer import fakes_of
from ganzoo.registry.zoo import Zoo
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo_plugins.evaluators.frechet import FIDDomain
from ganzoo_plugins.extractors import _classifier, domain

CPU = torch.device("cpu")


class Judge:
    """fid-domain under the weights of one file."""

    def __init__(self, path: Path, reals: ganzoo.Dataset) -> None:
        weights, metadata = _classifier.load_weights(path)
        self.extractor, self.evaluator = domain.Domain(), FIDDomain()
        self.extractor.load(weights, metadata)
        self.evaluator.reset(self.extractor.layers["pre128"], CPU)
        for indices in torch.arange(len(reals)).split(500):
            self.show(*reals.read(indices), "reals")
        self.known = self.evaluator.statistics()
        named = {name: metadata.get(name, "") for name in ("dataset", "seed", "test_accuracy")}
        self.facts = {**named, "digest": self.extractor.digest}

    def show(self, images: torch.Tensor, labels: torch.Tensor, origin: ganzoo.Origin) -> None:
        self.evaluator.update(self.extractor(images)["pre128"], labels, origin)

    def begin(self) -> None:
        self.evaluator.reset(self.extractor.layers["pre128"], CPU)
        self.evaluator.restore(self.known)


def opened(zoo: Zoo, name: str) -> TrainedGenerator:
    path, _, images = name.partition("@")
    if images and not images.isdigit():
        raise ganzoo.UsageError(f"{name!r} is not written RUN or RUN@IMAGES.")
    return load_generator(Path(path), zoo, CPU, int(images) if images else None)


def score(trained: TrainedGenerator, judges: Sequence[Judge], samples: int) -> list[float]:
    """What each judge says of the same fakes."""
    for judge in judges:
        judge.begin()
    for images, labels in fakes_of(trained.network, trained.architecture, trained.images, samples, CPU, 0):
        for judge in judges:
            judge.show(images, labels, "fakes")
    return [judge.evaluator.compute()["fid-domain"] for judge in judges]


def agreement(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """How alike the orders are, for each pair of judges; and how far apart the values."""
    columns = list(zip(*values, strict=True))
    pairs = list(itertools.combinations(range(len(columns)), 2))
    ratios = [math.log(one[b] / one[a]) for one in values for a, b in pairs]
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
    """Score the generators of RUNs by domain extractors of several seeds, and compare the orders."""
    zoo = Zoo()
    trained = [opened(zoo, name) for name in runs]
    datasets = {str(one.run.recipe.dataset) for one in trained}
    if len(datasets) > 1:
        raise ganzoo.UsageError(f"The runs are of {' and '.join(sorted(datasets))}: name runs of one dataset.")
    choice = trained[0].run.recipe.dataset
    name = short_name(choice)
    if name not in domain.PINNED:
        raise ganzoo.UsageError(f"No weights are pinned for {name}: name runs of {', '.join(domain.PINNED)}.")
    reals = zoo.build("datasets", choice, split="train")
    judges = [Judge(path, reals) for path in (domain.PINNED[name], *weights)]
    lines = []
    for one in trained:
        found = score(one, judges, samples)
        recipe = one.run.recipe
        line = {"architecture": short_name(recipe.architecture), "images": one.images_seen, "seed": recipe.seed}
        lines.append({**line, "fid-domain": found})
        click.echo(f"{line['architecture']} at {one.images_seen}: {', '.join(f'{value:.2f}' for value in found)}")
    record = {
        "dataset": str(choice),
        "reals": len(reals),
        "fakes": samples,
        "extractors": [judge.facts for judge in judges],
        "generators": lines,
        **agreement([line["fid-domain"] for line in lines]),
        "versions": {part: version(part) for part in ("torch", "torchmetrics", "torch-ganzoo")},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    click.echo(f"Spearman {record['spearman']}, Kendall {record['kendall']}: {out}")


if __name__ == "__main__":
    main()
