"""Runs for tests of reports, written without training: a recipe, statistics, scores and sample grids."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from helpers import ZOO

from ganzoo import Choice
from ganzoo.registry.recipes import plan
from ganzoo.storage import pictures
from ganzoo.storage.run import Run

ENVIRONMENT = {
    "versions": {"python": "3.11", "torch": "2.14"},
    "device": "cpu",
    "images": {"channels": 1, "height": 8, "width": 8, "classes": 10},
    "class_names": [str(number) for number in range(10)],
    "parts": {},
}


def card(score: str = "fid-domain", fakes: int = 100, seed: int = 0) -> dict[str, Any]:
    """A card; those with equal `score` and `fakes` have the same digest."""
    measure = {
        "score": score,
        "fakes": fakes,
        "extractor": {"name": "domain", "digest": "0" * 16, "layer": "pre128"},
        "reals": {"images": 1498, "split": "train", "sha256": "1" * 64},
        "shape": "1x8x8",
    }
    digest = hashlib.sha256(f"{score}{fakes}".encode()).hexdigest()[:16]
    return {"protocol": "default", "measure": measure, "digest": digest, "subject": {"seed": seed}}


def score(value: float, images: int = 1280, name: str = "fid-domain", **more: Any) -> dict[str, Any]:
    """A line of scores.jsonl. `fakes` and `fakes_seed` go to its card."""
    made = card(name, more.pop("fakes", 100), more.pop("fakes_seed", 0))
    line = {"score": name, "value": value, "better": "lower", "card": made, "step": images // 64, "images": images}
    return {**line, "epoch": images / 1498, "training": True, **more}


def make_run(
    path: Path,
    architecture: str = "mlp-vanilla",
    seed: int = 0,
    scores: tuple[dict[str, Any], ...] = (),
    frames: int = 3,
    environment: dict[str, Any] | None = None,
    dataset: str = "digits:size=8",
    **fields: Any,
) -> Path:
    """A run directory of a training of 20 steps, with `frames` sample grids of random images."""
    fields = {"length": "1280 images", "grid": "2x3", **fields, "seed": seed}
    recipe = plan(ZOO, Choice.parse(architecture), Choice.parse(dataset), None, fields)
    run = Run.create(path, recipe, {**ENVIRONMENT, **(environment or {})})
    generator = torch.Generator().manual_seed(seed)
    for step in range(2, 21, 2):
        noise = float(torch.rand((), generator=generator)) / 10
        losses = {"discriminator_loss": 1.2 - step / 40 + noise, "generator_loss": 0.7 + step / 30 + noise}
        stats = {"step": step, "images": 64 * step, "epoch": 64 * step / 1498, **losses}
        run.append("stats.jsonl", {**stats, "seconds": step / 10, "images_per_second": 640.0})
    if scores:
        run.append("scores.jsonl", *scores)
    (path / "samples").mkdir()
    for frame in range(frames):
        images = torch.randint(0, 256, (6, 1, 8, 8), generator=generator, dtype=torch.uint8)
        title = f"{architecture} · epoch {frame}"
        pictures.save_png(pictures.grid(images, 3, title), path / "samples" / f"{frame * 640:09d}.png")
    run.close()
    return path


def three_by_two(folder: Path) -> Path:
    """Three architectures with two or three seeds each; the second is far better than the others."""
    for place, (name, level) in enumerate((("mlp-vanilla", 50.0), ("dcgan", 5.0), ("mlp-keras-gan", 52.0))):
        for seed in range(3 - (place == 2)):
            values = (score(level * 1.5 + seed, 640), score(level + seed / 2))
            make_run(folder / f"{name}-{seed}", name, seed, values)
    return folder
