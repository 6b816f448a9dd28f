"""How long a benchmark folder of thousands of trials takes: the state of all trials, table, rerun, report, memory.

    python benchmarks/many_trials.py --trials 10000 --folder /tmp/many

One small trial is trained. Its files are copied for every other trial, with the recipe and the seed of that trial and
with other scores. The folder is then as `ganzoo benchmark` would have left it, and nothing is left to run.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ganzoo.api.report import report
from ganzoo.contract.choice import Choice
from ganzoo.experiments import table
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial, plan_trials
from ganzoo.experiments.run_grid import benchmark
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.lines import format_line
from ganzoo.storage.recipe_binding import recipe_text
from ganzoo.storage.run import Run
from ganzoo.storage.run_checks import sealed
from ganzoo.training.train import start

#: names of parts of the grid: 25 of one architecture, as an ablation has, on 4 datasets
_VARIANTS, _DATASETS = 25, (8, 10, 12, 14)


def trials_of(zoo: Zoo, count: int) -> list[Trial]:
    """About `count` trials: 100 pairs of an architecture and a dataset, and as many seeds as that needs."""
    architectures = [Choice("mlp-vanilla", {"width": 16 + number}) for number in range(_VARIANTS)]
    datasets = [Choice("digits", {"size": size}) for size in _DATASETS]
    seeds = range(-(-count // (len(architectures) * len(datasets))))
    changes = {"length": "4 steps", "score_samples": 64, "batch_size": 32}
    return plan_trials(zoo, architectures, datasets, [Choice("sliced-wasserstein")], seeds, changes=changes)[:count]


def fill(folder: Folder, trials: Sequence[Trial], zoo: Zoo) -> None:
    """Write the results of all trials."""
    sample = folder.path / "trained"
    start(trials[0].recipe, sample, zoo, torch.device("cpu"), note=lambda text: None)
    run, numbers = Run.open(sample), random.Random(0)
    lines = {name: run.lines(name) for name in ("stats.jsonl", "scores.jsonl")}
    facts, grid = run.environment, next((sample / "samples").glob("*.png")).read_bytes()
    for trial in trials:
        out, status = folder.run(trial), folder.status_dir(trial)
        (out / "samples").mkdir(parents=True)
        status.mkdir(parents=True)
        text = recipe_text(trial.recipe, length=False)
        (out / "environment.json").write_text(json.dumps(sealed({**facts, "recipe": text}), indent=2) + "\n")
        (out / "recipe.json").write_text(json.dumps(trial.recipe.to_dict(), indent=2) + "\n")
        (out / "samples" / "000000128.png").write_bytes(grid)
        width = int(trial.recipe.architecture.options["width"]) if trial.recipe.architecture else 0
        factor = 1 + width / 100 + numbers.gauss(0, 0.05)
        scores = [{**line, "value": line["value"] * factor} for line in lines["scores.jsonl"]]
        for name, found in {**lines, "scores.jsonl": scores}.items():
            (out / name).write_text("".join(map(format_line, found)))
        request = {"recipe": trial.recipe.to_dict(), "scores": [], "run": "", "device": "cpu", "threads": 1}
        (status / "cell.json").write_text(json.dumps(request, indent=1) + "\n")
        last = lines["stats.jsonl"][-1]
        (status / "done.json").write_text(json.dumps({"step": last["step"], "images": last["images"]}) + "\n")
    shutil.rmtree(sample)


def timed(name: str, action: Callable[[], Any]) -> Any:
    """The result of an action; its name and seconds are printed."""
    began, used = time.perf_counter(), time.process_time()
    result = action()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:44} {seconds:9.2f} s  {cpu:9.2f} s cpu  {peak:7.0f} MiB peak", flush=True)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder, which is removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        sys.exit(f"{arguments.folder} is there already.")
    zoo, folder = Zoo(), Folder(arguments.folder)
    trials = timed("plan the trials", lambda: trials_of(zoo, arguments.trials))
    with folder.taken():
        timed(f"write the results of {len(trials)} trials", lambda: fill(folder, trials, zoo))
    timed("the state of each trial", lambda: [folder.state(trial) for trial in trials])
    rows = timed("rows of the table", lambda: table.rows_of(trials, folder, {}))
    timed("write the table", lambda: table.write(rows, folder.path))
    timed("the table once more, as after one more trial", lambda: table.rows_of(trials, folder, {}))
    timed("rerun with nothing to do", lambda: benchmark(zoo, trials, folder.path, "cpu", note=lambda text: None))
    for name in ("report.json", "report.html"):
        out = arguments.folder / name
        timed(f"ganzoo {name}", lambda out=out: report(folder.path, out=out, draw=False))
        print(f"{name}: {out.stat().st_size / 2**20:.1f} MiB")
    if not arguments.keep:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
