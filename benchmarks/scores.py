"""Times scores: Inception features and the Fréchet distance beside plain torchmetrics, interleaved; and domain scores.

    python benchmarks/scores.py [--images 32] [--rounds 7] [--dataset mnist]       make bench-scores

Prints tables and writes benchmarks/results/scores-DEVICE.json. The Inception weights are random, so the values mean
nothing; the times do not depend on the weights. The cost of an FID of 10,000 fakes against 10,000 reals in a grid is
extrapolated from the few images of each round. Plain torchmetrics computes the features of fakes and reals and the
distance every time. Ganzoo computes the features of the fakes, reads the cached statistics of the reals, and computes
the distance. Generating the fakes is not included. `--quick` runs a tiny version.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measure import RESULTS, interleaved, machine, ratio, show, spread, timed, write
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from ganzoo import Choice, Dataset
from ganzoo.contract.protocol import Protocol
from ganzoo.engine.device import find_device
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.zoo import zoo
from ganzoo.storage.cache import Cache
from ganzoo_plugins.evaluators._features import Precomputed
from ganzoo_plugins.evaluators._gaussians import root
from ganzoo_plugins.evaluators.frechet import FID
from ganzoo_plugins.extractors.inception import Inception

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # random_inception, shared with the tests
import random_inception

#: number of fakes, and of reals, of the FID whose cost is extrapolated
MANY = 10_000
PLAIN = "torchmetrics"
VARIANTS: dict[str, dict[str, Any]] = {
    "ours, fp32": {},
    "ours, bf16": {"precision": "bf16"},
    "ours, fp32 compiled": {"compile": True},
    "ours, bf16 compiled": {"precision": "bf16", "compile": True},
}
DOMAIN = ("fid-domain", "kid-domain", "inception-score-domain", "mode-coverage", "precision-recall")


def features(
    weights: Path, images: Tensor, train: Dataset, rounds: int, variants: list[str], device: torch.device
) -> dict[str, Any]:
    """Seconds to extract and accumulate features of `images`, uint8 (N, 1, H, W): our variants and torchmetrics."""
    images = images.to(device)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    metric = FrechetInceptionDistance(antialias=False, feature_extractor_weights_path=str(weights)).to(device)
    calls: dict[str, Callable[[], object]] = {PLAIN: lambda: metric.update(images.expand(-1, 3, -1, -1), real=True)}
    ready = {}
    for name in variants:
        extractor, evaluator = Inception(weights=str(weights), **VARIANTS[name]).to(device), FID()
        ready[name] = timed(lambda extractor=extractor: extractor.bind("digits", train), device)  # type: ignore[misc]
        evaluator.reset(2048, device)
        calls[name] = lambda extractor=extractor, evaluator=evaluator: evaluator.update(  # type: ignore[misc]
            extractor(images)["2048"], labels, "fakes"
        )
    first = {name: timed(call, device) for name, call in calls.items()}
    seconds = interleaved(calls, rounds, device)
    return {"images": len(images), "ready": ready, "first_call": first, "seconds": seconds}


def solve(dimensions: int, count: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Seconds and values of the Fréchet distance on random features with a falling spectrum: ours and torchmetrics'."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, dimensions + 1).pow(-0.6)
    reals, fakes = (
        (torch.randn(count, dimensions, generator=generator) * scale + offset).to(device) for offset in (0.0, 0.01)
    )
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    # without its cache, which would return the first value without computing
    metric = FrechetInceptionDistance(Precomputed(dimensions), compute_with_cache=False).to(device)
    for values, real in ((reals, True), (fakes, False)):
        metric.update(values.double(), real=real)
    evaluator, known = FID(), FID()
    evaluator.reset(dimensions, device)
    evaluator.update(reals, labels, "reals")
    kept = evaluator.statistics()
    facts = {"benchmark": "scores", "dimensions": dimensions}
    Cache("statistics").save_tensors(facts, kept)
    known.reset(dimensions, device)
    known.restore(kept)
    known.update(fakes, labels, "fakes")
    theirs, ours = float(metric.compute()), known.compute()["fid"]
    calls = {
        PLAIN: metric.compute,
        "ours": known.compute,
        "square root of the reals, once": lambda: root(kept["covariance"]),
        "the reals from the cache": lambda: Cache("statistics").load_tensors(facts, device),
    }
    seconds = interleaved(calls, rounds, device)
    difference = abs(ours / theirs - 1)
    return {"dimensions": dimensions, "count": count, "seconds": seconds, "relative_difference": difference}


def grid(found: dict[str, Any], solved: dict[str, Any]) -> dict[str, Any]:
    """Extrapolated seconds of an FID of MANY fakes and MANY reals by each variant, and the ratio to torchmetrics."""
    share = {name: [second / found["images"] for second in seconds] for name, seconds in found["seconds"].items()}
    last = {name: statistics.median(seconds) for name, seconds in solved["seconds"].items()}
    plain = [2 * MANY * second + last[PLAIN] for second in share[PLAIN]]
    costs = {PLAIN: {"seconds": spread(plain)}}
    for name in share.keys() - {PLAIN}:
        extra = last["ours"] + last["the reals from the cache"] + found["ready"][name]
        ours = [MANY * second + extra for second in share[name]]
        costs[name] = {"seconds": spread(ours), "times_cheaper": ratio(plain, ours)}
    return costs


def domain(dataset: str, count: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Seconds of domain scores of `count` real images used as fakes, with cached statistics of the reals."""
    train: Dataset = zoo().build("datasets", Choice(dataset), split="train")

    def fakes() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, count, 64):
            indices = torch.arange(start, min(start + 64, count)) % len(train)
            images, labels = train.read(indices)
            yield images, labels

    scorers = {
        name: Scorer(zoo(), Choice(dataset), [Choice(each) for each in names], device, Protocol.named("default"), count)
        for name, names in {"fid-domain": DOMAIN[:1], f"{len(DOMAIN)} evaluators": DOMAIN}.items()
    }
    numbers = {name: len(scorer.score(fakes(), {})) for name, scorer in scorers.items()}
    seconds = interleaved(
        {name: lambda scorer=scorer: scorer.score(fakes(), {}) for name, scorer in scorers.items()},  # type: ignore[misc]
        rounds,
        device,
    )
    return {"dataset": dataset, "images": count, "scores": numbers, "evaluators": list(DOMAIN), "seconds": seconds}


def report(facts: dict[str, Any]) -> None:
    """Print the tables."""
    found, costs = facts["features"], facts["grid"]
    count, plain = found["images"], found["seconds"][PLAIN]
    rows = []
    for name, seconds in found["seconds"].items():
        rate, whole = spread([count / second for second in seconds]), costs[name]
        cheaper = whole.get("times_cheaper", {"median": 1.0, "low": 1.0, "high": 1.0})
        rows.append(
            (
                name,
                "{median:.1f} ({low:.1f} to {high:.1f})".format(**rate),
                "{median:.2f}".format(**ratio(plain, seconds)),
                "{:.0f}".format(found["ready"].get(name, 0)),
                "{:.0f}".format(whole["seconds"]["median"]),
                "{median:.1f} ({low:.1f} to {high:.1f})".format(**cheaper),
            )
        )
    columns = (
        "features",
        "images/s",
        "relative speed",
        "setup, s",
        f"FID of {MANY} in a grid, s",
        "times cheaper",
    )
    show(f"Inception, {count} images of 28x28 per round; the FID is extrapolated from them", columns, rows)
    solved = facts["solve"]
    lines = [
        (name, "{median:.2f} ({low:.2f} to {high:.2f})".format(**spread(s))) for name, s in solved["seconds"].items()
    ]
    title = f"Fréchet distance, {solved['dimensions']} dimensions; ours differs by {solved['relative_difference']:.1e}"
    show(title, ("what", "seconds"), lines)
    scored = facts["domain"]
    lines = [
        (name, number, "{median:.1f}".format(**spread(s)), f"{number / statistics.median(s):.2f}")
        for (name, s), number in zip(scored["seconds"].items(), scored["scores"].values(), strict=True)
    ]
    show(f"{scored['images']} images of {scored['dataset']}", ("evaluators", "scores", "seconds", "scores/s"), lines)


def main() -> None:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="images per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dataset", default="mnist", help="dataset of the domain scores")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="a tiny version, for tests")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    args = parser.parse_args()
    device, quick = find_device(args.device), args.quick
    rounds = 1 if quick else args.rounds
    train: Dataset = zoo().build("datasets", Choice.parse("digits:size=28"), split="train")
    images, _ = train.read(torch.arange(2 if quick else args.images))
    since = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GANZOO_CACHE"] = folder  # an empty cache of the statistics of the reals
        weights = random_inception.write(Path(folder) / "random.pth")
        facts = {
            "machine": machine(device),
            "features": features(weights, images, train, rounds, list(VARIANTS)[: 2 if quick else None], device),
            "solve": solve(*((64, 200) if quick else (2048, 4096)), rounds, device),
            "domain": domain(*(("digits", 1000) if quick else (args.dataset, MANY)), rounds, device),
        }
    facts["grid"] = grid(facts["features"], facts["solve"])
    facts["seconds"] = round(time.perf_counter() - since)
    report(facts)
    write(f"scores-{device.type}", facts, args.out)


if __name__ == "__main__":
    main()
