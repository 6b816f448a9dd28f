"""Measures a CUDA device: the step captured, eager and beside a textbook loop; scores; and two trainings.

    python benchmarks/gpu.py [--budget 450]       make bench-gpu

Needs a checkout, a CUDA device, and the archives of MNIST and Fashion-MNIST in the folder named by GANZOO_DATA. Without
the archives it uses the digits of scikit-learn, and writes that into "notes". Prints tables and writes
benchmarks/results/gpu.json, with the last sample grid of each training beside it. Measurements that do not fit into the
budget of seconds are left out, the least important first, and listed in "left_out". `--device cpu --quick` runs a tiny
version of everything, without capture.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import RESULTS, machine, show, synchronize, timed, write
from steps import PRECISIONS, Steps, measure_step, peak, rounding, setup_of
from textbook import Textbook

from ganzoo import Choice, GanzooError, data_dir
from ganzoo.contract.protocol import Protocol
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.evaluation.fakes import fakes_of
from ganzoo.evaluation.scorer import Scorer
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup
from ganzoo.training.train import start

FIRST = "dcgan-tutorial"
ORIGINS = ("dcgan-atienza", "dcgan-atienza-book", "mlp-keras-gan", "mlp-vanilla")
PENALISED = "wgan-gp"
#: published recipes for CIFAR-10: architecture -> batch, and options that make it tiny
PRESETS = {
    "r3gan": (512, "width=8,widths=,groups=1,blocks=1,bf16_stages=1"),
    "stylegan2": (64, "channel_base=64,channel_max=8,latent_dim=8,style_dim=8,mapping_layers=1,group=4"),
}
ARCHIVES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


@dataclass
class Bench:
    """One run of the benchmark: its device, its budget and the results so far."""

    device: torch.device
    quick: bool
    seconds: float
    folder: Path
    facts: dict[str, Any] = field(default_factory=lambda: {"cells": {}, "left_out": [], "failed": {}, "notes": []})
    begun: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the benchmark."""
        return time.perf_counter() - self.begun

    def measure(self, name: str, about: float, job: Callable[[], Any]) -> Any:
        """The result of a job that takes about `about` seconds; None if it does not fit into the budget, or fails."""
        if self.elapsed + about > self.seconds:
            self.facts["left_out"].append(name)
            return None
        print(f"{self.elapsed:5.0f} s  {name}", flush=True)
        try:
            return job()
        except Exception as error:  # time on the device is short: measure the rest
            return self.failed(name, error)
        finally:
            # keep this result even if a later job never ends
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "gpu.json").write_text(json.dumps(self.facts, indent=2) + "\n")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def failed(self, name: str, error: Exception) -> None:
        """Record that a measurement failed, and why."""
        self.facts["failed"][name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    def dataset(self, name: str) -> Choice:
        """A dataset by its name, or digits of the same size if its archives are missing."""
        if (data_dir() / ARCHIVES[name] / "raw" / "train-images-idx3-ubyte.gz").exists() and not self.quick:
            return Choice(name)
        note = "quick: digits" if self.quick else f"{name}: no archives in {data_dir()}, so digits of 28x28 are used"
        if note not in self.facts["notes"]:
            self.facts["notes"].append(note)
        return Choice("digits", {"size": 28})


def measure_steps(bench: Bench, architecture: str, batch_size: int, precision: str, beside: str = "") -> None:
    """One row of the table of steps; `beside` names another program to time as well: "textbook" or "compiled"."""
    recipe_precision, tf32 = PRECISIONS[precision]
    small = f"{architecture}:width=4" if bench.quick else architecture

    def new_setup() -> TrainingSetup:
        return setup_of(small, bench.dataset("mnist"), batch_size, recipe_precision, bench.device)

    with rounding(tf32):
        setup = new_setup()
        others: dict[str, Callable[[], object]] = {}
        if beside:
            others[beside] = textbook(bench, setup) if beside == "textbook" else compiled(new_setup())
        rounds, seconds = (2, 0.0) if bench.quick else (5, 0.1)
        name = f"{architecture} {batch_size} {precision} {beside}".rstrip()
        try:
            found = measure_step(setup, others, rounds, seconds, bench.facts["matrix_peak"])
        except Exception as error:
            if not others:
                raise
            bench.failed(f"{beside} beside {name}", error)  # measure ours without it
            found = measure_step(setup, {}, rounds, seconds, bench.facts["matrix_peak"])
    bench.facts["cells"][name] = found


def measure_preset(bench: Bench, architecture: str) -> None:
    """One row of the table of steps: the recipe `cifar10` of an architecture in bfloat16, on random colour images."""
    batch_size, tiny = PRESETS[architecture]
    rounds, seconds, count = (2, 0.0, 32) if bench.quick else (3, 4.0, 10_000)
    batch_size = 8 if bench.quick else batch_size
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        images, labels = Path(folder) / "images.npy", Path(folder) / "labels.npy"
        np.save(images, random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), allow_pickle=False)
        np.save(labels, np.arange(count) % 10, allow_pickle=False)
        dataset = Choice("npy", {"path": str(images), "labels": str(labels), "test_every": 0})
        small = f"{architecture}:{tiny}" if bench.quick else architecture
        setup = setup_of(small, dataset, batch_size, "bf16", bench.device, "cifar10")
        found = measure_step(setup, {}, rounds, seconds, bench.facts["matrix_peak"])
    bench.facts["cells"][f"{architecture}/cifar10 {batch_size} bf16"] = found


def textbook(bench: Bench, setup: TrainingSetup) -> Callable[[], object]:
    """The step of the textbook loop on the images of the setup, loaded by worker processes."""
    size, workers = setup.game.batch_size, 0 if bench.quick else min(8, os.cpu_count() or 1)
    images, _ = setup.dataset.read(torch.arange(len(setup.dataset)))
    images = images.repeat(-(-2 * size // len(images)), 1, 1, 1)
    book = Textbook(images, size, bench.device, workers)

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=setup.game.autocast):
            book.step()

    return step


def compiled(setup: TrainingSetup) -> Callable[[], object]:
    """Captured steps of compiled networks. Raises GanzooError if a network cannot be compiled."""
    if left_out := compile_networks(setup.game, setup.feed):
        raise GanzooError(left_out)
    steps = Steps(setup, capture=True)
    steps.run(6)
    return steps.run


def score_seconds(bench: Bench) -> dict[str, float]:
    """Seconds of fid-domain: the first time, and when the statistics of the reals are cached."""
    count = 200 if bench.quick else 10_000
    dataset = bench.dataset("mnist")
    setup = setup_of(f"{FIRST}:width=4" if bench.quick else FIRST, dataset, 16, "fp32", bench.device)
    scorer = Scorer(
        Zoo(), dataset, [Choice("fid-domain")], bench.device, Protocol.named("default"), count, conditional=False
    )
    game = setup.game

    def score() -> None:
        scorer.score(fakes_of(game.generator, game.architecture, game.images, count, bench.device, 0), {})

    return {"fakes": count, "first": timed(score, bench.device), "reals_known": timed(score, bench.device)}


def inception_rate(bench: Bench) -> dict[str, float]:
    """Images per second of the Inception network with random weights, by precision."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Random(FeatureExtractorInceptionV3):
        def load_state_dict(self, *given: object) -> None:
            """Keep the random weights: the speed does not depend on them."""

    zoo, count, found = Zoo(), 2 if bench.quick else 2048, {}
    train = zoo.build("datasets", bench.dataset("mnist"), split="train")
    images = train.read(torch.arange(count) % len(train))[0].to(bench.device)
    with tempfile.TemporaryDirectory() as folder:
        empty, weights = Path(folder) / "empty.pth", Path(folder) / "random.pth"
        torch.save({}, empty)
        torch.save(Random("random", ["2048"], str(empty)).state_dict(), weights)
        for precision in ("fp32",) if bench.quick else ("fp32", "bf16"):
            extractor = zoo.build("extractors", Choice("inception", {"weights": str(weights), "precision": precision}))
            extractor.to(bench.device).bind("mnist", train)
            with torch.no_grad():
                extractor(images[:64])
                job = lambda e=extractor: [e(batch) for batch in images.split(256)]  # noqa: E731
                seconds = timed(job, bench.device)
            found[precision] = count / seconds
    return found


def training(bench: Bench, name: str) -> dict[str, Any]:
    """Train the tutorial's networks in bf16, and measure the time from building the recipe to the last score."""
    epochs = 1 if bench.quick else 50
    changes: dict[str, Any] = {"precision": "bf16", "length": f"{epochs} epochs", "score_every": f"{epochs} epochs"}
    changes["evaluators"] = ["fid-domain"]
    if bench.quick:
        changes |= {"subset": "first 64", "batch_size": 32, "score_samples": 200}
    architecture = Choice(FIRST, {"width": 4} if bench.quick else {})
    zoo, notes = Zoo(), []
    with tempfile.TemporaryDirectory() as folder:
        recipe, began = plan(zoo, architecture, bench.dataset(name), None, changes), time.perf_counter()
        run, progress = start(recipe, Path(folder) / "run", zoo, bench.device, note=notes.append)
        synchronize(bench.device)
        seconds = time.perf_counter() - began
        if (grid := run.newest("samples", ".png")) is not None:
            bench.folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(grid, bench.folder / f"gpu-{name}.png")
        lines = run.lines("stats.jsonl")
        (score,) = [line for line in run.lines("scores.jsonl") if line["score"] == "fid-domain"]
    return {
        "dataset": str(recipe.dataset),
        "epochs": epochs,
        "images": progress.images,
        "seconds": seconds,
        "seconds_of_scores": score["scoring_seconds"],
        "images_per_second": round(progress.images / max(seconds - score["scoring_seconds"], 1e-9)),
        "highest_images_per_second": max(line["images_per_second"] for line in lines),
        "fid-domain": score["value"],
        "notes": notes,
    }


def measurements(bench: Bench) -> list[tuple[str, float, Callable[[], Any]]]:
    """All measurements, the most important first: name, estimated seconds, job."""
    middle, sizes, all_sizes = (8, (), (8,)) if bench.quick else (256, (2048, 64), (256, 2048, 64))
    jobs: list[tuple[str, float, Callable[[], Any]]] = []

    def steps(architecture: str, size: int, precision: str, beside: str = "") -> None:
        about = {"": 6.0, "textbook": 15.0, "compiled": 60.0}[beside]
        if architecture == PENALISED:  # needs by far the most computation
            about *= max(1, size / 256) * (1 if precision == "bf16" else 3)
        name = f"steps of {architecture}, batch {size}, {precision}{', beside ' + beside if beside else ''}"
        jobs.append((name, about, lambda: measure_steps(bench, architecture, size, precision, beside)))

    def fact(name: str, about: float, job: Callable[[Bench], Any]) -> None:
        jobs.append((name, about, lambda: bench.facts.update({name: job(bench)})))

    for precision in ("tf32", "bf16") if bench.quick else PRECISIONS:
        steps(FIRST, middle, precision, "textbook")
    for size in sizes:
        steps(FIRST, size, "bf16", "textbook")
    fact("training of mnist", 60, lambda b: training(b, "mnist"))
    for architecture in (PENALISED, *ORIGINS[: 1 if bench.quick else None]):
        steps(architecture, middle, "bf16")
    for architecture, (size, _) in PRESETS.items():
        name = f"steps of {architecture}, recipe cifar10, batch {middle if bench.quick else size}, bf16"
        jobs.append((name, 60.0, partial(measure_preset, bench, architecture)))
    fact("fid-domain", 20, score_seconds)
    if not bench.quick:  # they run no other code
        fact("training of fashion-mnist", 60, lambda b: training(b, "fashion-mnist"))
        steps(FIRST, middle, "bf16", "compiled")
    fact("inception", 25, inception_rate)
    for size in sizes:
        for precision in ("fp32", "tf32"):
            steps(FIRST, size, precision, "textbook")
    for size, precision in [(size, precision) for size in all_sizes for precision in PRECISIONS] * (not bench.quick):
        for architecture in (PENALISED, *ORIGINS) if (size, precision) != (middle, "bf16") else ():
            steps(architecture, size, precision)
    return jobs


def report(bench: Bench) -> None:
    """Print the results."""
    rows = []
    for name, found in bench.facts["cells"].items():
        rate, times, calls = found["images_per_second"], found["times_captured"], found["launches_per_step"]
        other = next((f"{key} {rate[key]}" for key in ("textbook", "compiled") if key in rate), "")
        share, most = found["share_of_matrix_peak"], max(found["bytes_at_most"].values()) / 2**20
        ratios = [f"{x['median']:.2f} ({x['low']:.2f}..{x['high']:.2f})" for x in times.values()]
        counts = f"{calls['captured']} / {calls['eager']}"
        rows.append([*name.split()[:3], rate["captured"], rate["eager"], other, *ratios, *[""] * (2 - len(ratios))])
        rows[-1] += [counts, f"{share:.1%}", f"{most:.0f}"]
    columns = ("architecture", "batch", "", "captured", "eager", "other", "eager / c.", "other / c.", "launches")
    show("Images per second; seconds relative to captured; launches per step", (*columns, "of peak", "MiB"), rows)
    reasons = {name: found["reason_for_eager"] for name, found in bench.facts["cells"].items()}
    bench.facts["not_captured"] = {name: reason for name, reason in reasons.items() if reason}
    rest = {key: value for key, value in bench.facts.items() if key not in ("cells", "machine")}
    show("Other results", ("what", "value"), [(key, value) for key, value in rest.items() if value])


def main(arguments: list[str] | None = None) -> Path:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=450, metavar="SECONDS")
    parser.add_argument("--quick", action="store_true", help="a tiny version of everything")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    given = parser.parse_args(arguments)
    try:
        device = find_device(given.device)
    except GanzooError as error:
        parser.error(str(error))
    bench = Bench(device, given.quick, given.budget, given.results)
    # an empty cache: the statistics of the reals are computed anew, and nothing is left behind
    with tempfile.TemporaryDirectory() as cache:
        kept, os.environ["GANZOO_CACHE"] = os.environ.get("GANZOO_CACHE"), cache
        try:
            bench.facts["machine"] = machine(device)
            bench.facts["matrix_peak"] = peak(device, 128 if given.quick else 8192)
            for name, about, job in measurements(bench):
                bench.measure(name, 0 if given.quick else about, job)
        finally:
            os.environ.pop("GANZOO_CACHE")
            os.environ.update({"GANZOO_CACHE": kept} if kept else {})
    bench.facts["seconds"] = round(bench.elapsed, 1)
    report(bench)
    return write("gpu", bench.facts, given.results)


if __name__ == "__main__":
    main()
