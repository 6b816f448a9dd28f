"""Trains the pinned weights of the domain extractor: `make extractors`, or this file with names of datasets.

Writes NAME.safetensors and its log NAME.json into the plugin. Datasets are read from GANZOO_DATA, and downloaded if
they are missing. New weights change all scores: commit new ones only for a reason.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import click
import torch

import ganzoo
from ganzoo.registry.zoo import Zoo
from ganzoo_plugins.extractors import _classifier, domain

WEIGHTS = Path(domain.__file__).parent / "weights"
#: epochs of training by dataset; other datasets use `_classifier.epochs_for`
EPOCHS = {"mnist": 6}


def read_all(dataset: ganzoo.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.read(torch.arange(len(dataset)))


def accuracy(classify, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the images whose largest logit is that of their label; `classify` returns logits (N, classes)."""
    with torch.no_grad():
        correct = [
            (classify(image_batch).argmax(1) == label_batch).sum()
            for image_batch, label_batch in zip(torch.split(images, 1000), torch.split(labels, 1000), strict=True)
        ]
    return round(int(sum(correct)) / len(images), 4)


def train(name: str, seed: int, bfloat16: bool, out: Path) -> None:
    """Train an extractor on one dataset, measure it, and write its weights and its log."""
    dataset = Zoo().load("datasets", ganzoo.Choice(name))
    train_split, test_split = dataset(split="train"), dataset(split="test")
    images, labels = read_all(train_split)
    test_images, test_labels = read_all(test_split)
    epochs, start, log = EPOCHS.get(name, _classifier.epochs_for(len(images))), time.perf_counter(), []

    def after_epoch(epoch: int, network: _classifier.Classifier) -> None:
        share = accuracy(lambda batch: network(batch)[1], test_images, test_labels)
        log.append({"epoch": epoch, "test_accuracy": share, "seconds": round(time.perf_counter() - start, 1)})
        click.echo(f"{name} {json.dumps(log[-1])}")

    weights = _classifier.train_classifier(
        images, labels, train_split.spec.classes, epochs=epochs, seed=seed, bfloat16=bfloat16, after_epoch=after_epoch
    )
    seconds = round(time.perf_counter() - start, 1)
    metadata = _classifier.describe(images, train_split.spec.classes, name, epochs)
    extractor = domain.Domain()
    extractor.load(weights, metadata)
    share = accuracy(lambda batch: extractor(batch)["logits"], test_images, test_labels)
    metadata |= {"test_accuracy": str(share), "seed": str(seed)}
    _classifier.save_weights(out / f"{name}.safetensors", weights, metadata)
    record = {
        **metadata,
        "test_accuracy": share,
        "digest": extractor.digest,
        "preprocessing": _classifier.PREPROCESSING,
        "precision": "bfloat16 autocast" if bfloat16 else "float32",
        "parameters": sum(value.numel() for key, value in weights.items() if key != "deviation"),
        "bytes": (out / f"{name}.safetensors").stat().st_size,
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {part: version(part) for part in ("torch", "torchvision", "scikit-learn", "torch-ganzoo")},
        "log": log,
    }
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    click.echo(
        f"{name}: {share:.2%} of the test images classified correctly, {seconds:.0f} s, digest {extractor.digest[:12]}"
    )


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seed", default=0, show_default=True)
@click.option("--bfloat16", is_flag=True, help="Autocast to bfloat16: faster on processors that support it.")
@click.option("--threads", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=WEIGHTS, help="Folder to write to.")
def main(names: tuple[str, ...], seed: int, bfloat16: bool, threads: int, out: Path) -> None:
    """Train the domain extractors of these datasets: digits, mnist and fashion-mnist if no name is given."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for name in names or ("digits", "mnist", "fashion-mnist"):
        train(name, seed, bfloat16, out)


if __name__ == "__main__":
    main()
