"""What a CUDA device makes of our step: captured, eager, and a textbook's; scores; and two trainings to their end.

    python benchmarks/gpu.py [--budget 450]       make bench-gpu

Needs a checkout, a CUDA device and, in the folder named by GANZOO_DATA, archives of MNIST and Fashion-MNIST; without
them the digits of scikit-learn stand in, and it says so. Prints tables and writes benchmarks/results/gpu.json, and the
last sample grid of each training beside it. What the budget of seconds has no room for is left out, the least important
first, and named. `--device cpu --quick` plays a tiny version of all of it, without capture.
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
from pathlib import Path
from typing import Any

import torch
from measure import RESULTS, machine, show, synchronize, timed, write
from steps import PRECISIONS, Steps, cell, peak, rounding, seat
from textbook import Textbook

from ganzoo import Choice, GanzooError, data_dir
from ganzoo.contract.protocol import Protocol
from ganzoo.engine.compile import compile_networks
from ganzoo.engine.device import find_device
from ganzoo.evaluation.scorer import Scorer, fakes_of
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup
from ganzoo.training.train import start

FIRST = "dcgan-tutorial"
ORIGINS = ("dcgan-atienza", "dcgan-atienza-book", "mlp-keras-gan", "mlp-vanilla")
PENALISED = "wgan-gp"
ARCHIVES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


@dataclass
class Bench:
    """One run of the benchmark: where, how long, and what has been found so far."""

    device: torch.device
    quick: bool
    seconds: float
    folder: Path
    facts: dict[str, Any] = field(default_factory=lambda: {"cells": {}, "left_out": [], "failed": {}, "notes": []})
    begun: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.begun

    def measure(self, name: str, about: float, job: Callable[[], Any]) -> Any:
        """What a job that takes about so many seconds finds; None if there is no time for it, or it fails."""
        if self.elapsed + about > self.seconds:
            self.facts["left_out"].append(name)
            return None
        print(f"{self.elapsed:5.0f} s  {name}", flush=True)
        try:
            return job()
        except Exception as error:  # the device is lent for minutes: the rest is measured all the same
            return self.failed(name, error)
        finally:
            # should one of the others never end, this has been found
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "gpu.json").write_text(json.dumps(self.facts, indent=2) + "\n")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def failed(self, name: str, error: Exception) -> None:
        """Write down that something could not be measured, and why."""
        self.facts["failed"][name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    def dataset(self, name: str) -> Choice:
        """A dataset by its name, or digits of the same size where its archives are missing."""
        if (data_dir() / ARCHIVES[name] / "raw" / "train-images-idx3-ubyte.gz").exists() and not self.quick:
            return Choice(name)
        note = f"{name}: no archives in {data_dir()}, digits of 28x28 stand in" if not self.quick else "quick: digits"
        if note not in self.facts["notes"]:
            self.facts["notes"].append(note)
        return Choice("digits", {"size": 28})


def step_cell(bench: Bench, architecture: str, batch_size: int, precision: str, beside: str = "") -> None:
    """One line of the table of steps; `beside` is another program that is timed in turn: textbook or compiled."""
    of_recipe, tf32 = PRECISIONS[precision]
    small = f"{architecture}:width=4" if bench.quick else architecture

    def ours() -> TrainingSetup:
        return seat(small, bench.dataset("mnist"), batch_size, of_recipe, bench.device)

    with rounding(tf32):
        table = ours()
        makers = {"textbook": lambda: textbook(bench, table, of_recipe == "bf16"), "compiled": lambda: compiled(ours())}
        others = {beside: makers[beside]()} if beside else {}
        rounds, seconds = (2, 0.0) if bench.quick else (5, 0.1)
        name = f"{architecture} {batch_size} {precision} {beside}".rstrip()
        try:
            found = cell(table, others, rounds, seconds, bench.facts["matrix_peak"])
        except Exception as error:
            if not others:
                raise
            bench.failed(f"{beside} beside {name}", error)  # then ours alone
            found = cell(table, {}, rounds, seconds, bench.facts["matrix_peak"])
    bench.facts["cells"][name] = found


def textbook(bench: Bench, table: TrainingSetup, half: bool) -> Callable[[], object]:
    """Steps of the textbook's loop on the same images, with processes that load them."""
    size, workers = table.game.batch_size, 0 if bench.quick else min(8, os.cpu_count() or 1)
    images, _ = table.dataset.read(torch.arange(len(table.dataset)))
    images = images.repeat(-(-2 * size // len(images)), 1, 1, 1)
    book = Textbook(images, size, bench.device, workers)

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
            book.step()

    return step


def compiled(table: TrainingSetup) -> Callable[[], object]:
    """Captured steps of compiled networks. Raises GanzooError where not all of them can be compiled."""
    if left_out := compile_networks(table.game, table.feed):
        raise GanzooError(left_out)
    steps = Steps(table, capture=True)
    steps.play(6)
    return steps.play


def score_seconds(bench: Bench) -> dict[str, float]:
    """Seconds of an FID in the features of the domain, the first time and once the reals are known."""
    count = 200 if bench.quick else 10_000
    dataset = bench.dataset("mnist")
    table = seat(f"{FIRST}:width=4" if bench.quick else FIRST, dataset, 16, "fp32", bench.device)
    scorer = Scorer(
        Zoo(), dataset, [Choice("fid-domain")], bench.device, Protocol.named("default"), count, conditional=False
    )
    game = table.game

    def score() -> None:
        scorer.score(fakes_of(game.generator, game.architecture, game.images, count, bench.device, 0), {})

    return {"fakes": count, "first": timed(score, bench.device), "reals_known": timed(score, bench.device)}


def inception_rate(bench: Bench) -> dict[str, float]:
    """Images a second of the Inception network with random weights, by precision."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Random(FeatureExtractorInceptionV3):
        def load_state_dict(self, *given: object) -> None:
            """As it was initialised: its speed does not depend on its weights."""

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
                job = lambda e=extractor: [e(some) for some in images.split(256)]  # noqa: E731
                seconds = timed(job, bench.device)
            found[precision] = count / seconds
    return found


def training(bench: Bench, name: str) -> dict[str, Any]:
    """A training of the tutorial in bf16, from the start of the program's work to its last score."""
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
    """All there is to measure, the most important first: name, about how many seconds, what to do."""
    middle, sizes, all_sizes = (8, (), (8,)) if bench.quick else (256, (2048, 64), (256, 2048, 64))
    jobs: list[tuple[str, float, Callable[[], Any]]] = []

    def steps(architecture: str, size: int, precision: str, beside: str = "") -> None:
        about = {"": 6.0, "textbook": 15.0, "compiled": 60.0}[beside]
        if architecture == PENALISED:  # by far the most to compute
            about *= max(1, size / 256) * (1 if precision == "bf16" else 3)
        name = f"steps of {architecture}, batch {size}, {precision}{', beside ' + beside if beside else ''}"
        jobs.append((name, about, lambda: step_cell(bench, architecture, size, precision, beside)))

    def fact(name: str, about: float, job: Callable[[Bench], Any]) -> None:
        jobs.append((name, about, lambda: bench.facts.update({name: job(bench)})))

    for precision in ("tf32", "bf16") if bench.quick else PRECISIONS:
        steps(FIRST, middle, precision, "textbook")
    for size in sizes:
        steps(FIRST, size, "bf16", "textbook")
    fact("training of mnist", 60, lambda b: training(b, "mnist"))
    for architecture in (PENALISED, *ORIGINS[: 1 if bench.quick else None]):
        steps(architecture, middle, "bf16")
    fact("fid-domain", 20, score_seconds)
    if not bench.quick:  # the same code again
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
    """Print what was found."""
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
    show("Images a second; times the seconds of captured; launches a step", (*columns, "of peak", "MiB"), rows)
    reasons = {name: found["reason_for_eager"] for name, found in bench.facts["cells"].items()}
    bench.facts["not_captured"] = {name: reason for name, reason in reasons.items() if reason}
    rest = {key: value for key, value in bench.facts.items() if key not in ("cells", "machine")}
    show("The rest", ("what", "found"), [(key, value) for key, value in rest.items() if value])


def main(arguments: list[str] | None = None) -> Path:
    """Measure, print, write."""
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
    # statistics of the reals are taken in afresh, and nothing is left behind
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
