"""Measures what a launcher costs: many empty trials on each, and the table and the report of so many.

    python benchmarks/launchers.py [--trials 2000] [--jobs 2] [--launchers local ray] [--result FOLDER]

An empty trial is a bare Python process that links the files of a finished run into its place. So the time is that of
starting a process, writing the request, recording the outcome and, on Ray, of the task. Prints a table and writes
benchmarks/results/launchers-cpu.json. A real trial imports torch first, which takes seconds: it is timed as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measure import RESULTS, machine, write

import ganzoo
from ganzoo import Choice
from ganzoo.experiments import table
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial, make_trial, plan_trials
from ganzoo.experiments.run_grid import build_launcher
from ganzoo.experiments.trial_runner import TrialRunner
from ganzoo.experiments.worker import run_trial
from ganzoo.registry.zoo import zoo

#: the empty worker: `python -I -S -c EMPTY cells/NAME PARENT`
EMPTY = """
import os, sys
cell = sys.argv[1]
root, name = os.path.dirname(os.path.dirname(cell)), os.path.basename(cell)
run = os.path.join(root, "runs", name)
os.makedirs(run, exist_ok=True)
for file in os.scandir(os.path.join(root, "template")):
    os.link(file.path, os.path.join(cell if file.name == "done.json" else run, file.name))
"""
WORKER = ("-I", "-S", "-c", EMPTY)


def grid(count: int) -> list[Trial]:
    """Trials of one small recipe, each with a seed of its own."""
    fields = {"length": "2 steps", "score_samples": 20}
    parts = [Choice("mlp-vanilla", {"width": 8})], [Choice("digits", {"size": 8})], [Choice("sliced-wasserstein")]
    (first,) = plan_trials(zoo(), *parts, [0], None, fields)
    recipes = [dataclasses.replace(first.recipe, seed=seed) for seed in range(count)]
    return [make_trial(zoo(), first.architecture, first.dataset, first.expected_scores, recipe) for recipe in recipes]


def make_template(trial: Trial, out: Path) -> float:
    """Train one trial in `out`; its small files go to out/template. Returns the seconds of a real worker process."""
    folder = Folder(out)
    with folder.taken():
        folder.write_request(trial, "cpu", 1)
        run_trial(folder.status_dir(trial), zoo())
        (out / "template").mkdir()
        for name in ("recipe.json", "environment.json", "stats.jsonl", "scores.jsonl"):
            (folder.run(trial) / name).rename(out / "template" / name)
        (folder.status_dir(trial) / "done.json").rename(out / "template" / "done.json")
        folder.forget(trial)
        folder.write_request(trial, "cpu", 1)
        started = time.perf_counter()
        command = [
            sys.executable,
            "-P",
            "-m",
            "ganzoo.experiments.worker",
            str(folder.status_dir(trial)),
            str(os.getpid()),
        ]
        subprocess.run([*command, str(os.getpid())], check=True, capture_output=True)
        seconds = time.perf_counter() - started
        folder.forget(trial)
    return seconds


def pool(trials: Sequence[Trial], out: Path, jobs: int) -> float:
    """Seconds of a plain pool of the same empty processes, without requests and outcomes."""
    folder, waiting, running = Folder(out), list(trials), list[subprocess.Popen[bytes]]()
    for trial in trials:
        folder.status_dir(trial).mkdir(parents=True)
    started = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < jobs:
            place = str(folder.status_dir(waiting.pop()))
            running.append(subprocess.Popen([sys.executable, *WORKER, place, "0"]))
        running[0].wait()
        running = [process for process in running if process.poll() is None]
    return time.perf_counter() - started


def launched(name: str, trials: Sequence[Trial], out: Path, jobs: int) -> dict[str, Any]:
    """Run all trials with a launcher; the seconds to open it are apart."""
    folder, states = Folder(out), list[str]()
    with folder.taken():
        started = time.perf_counter()
        runner = TrialRunner(
            zoo(), folder, build_launcher(zoo(), Choice.parse(name)), device="cpu", jobs=jobs, worker=WORKER
        )
        with runner:
            opened = time.perf_counter()
            runner.run(trials, lambda trial, state: states.append(state))
            seconds = time.perf_counter() - opened
    assert states.count("done") == len(trials), {state: states.count(state) for state in set(states)}
    return {"open_s": opened - started, "total_s": seconds, "ms_per_trial": 1000 * seconds / len(trials)}


def show(trials: Sequence[Trial], out: Path) -> dict[str, Any]:
    """Seconds of the table and of the report of a finished grid, and the sizes of their files."""
    started = time.perf_counter()
    rows = table.rows_of(trials, Folder(out), {})
    table.write(rows, out)
    written = time.perf_counter()
    again = table.rows_of(trials, Folder(out), {})
    assert again == rows
    report = out / "report.html"
    started_report = time.perf_counter()
    ganzoo.report(out, out=report)
    return {
        "table_s": written - started,
        "report_s": time.perf_counter() - started_report,
        "report_bytes": report.stat().st_size,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--launchers", nargs="+", default=["local", "ray:threads=1"])
    parser.add_argument("--result", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trials = grid(options.trials)
    found: dict[str, Any] = {"trials": options.trials, "jobs": options.jobs, "machine": machine(torch.device("cpu"))}
    with tempfile.TemporaryDirectory() as text:
        out = Path(text) / "first"
        found["real_worker_s"] = make_template(trials[0], out)
        template = {path.name: path.read_bytes() for path in (out / "template").iterdir()}

        def fresh(name: str) -> Path:
            folder = Path(text) / name
            (folder / "template").mkdir(parents=True)
            for file, data in template.items():
                (folder / "template" / file).write_bytes(data)
            return folder

        seconds = pool(trials, fresh("pool"), options.jobs)
        found["pool"] = {"total_s": seconds, "ms_per_trial": 1000 * seconds / len(trials)}
        print("pool", found["pool"])
        for name in options.launchers:
            found[name] = launched(name, trials, folder := fresh(name.partition(":")[0]), options.jobs)
            print(name, found[name])
        found["show"] = show(trials, folder)
        print("table and report", found["show"])
    write("launchers-cpu", found, options.result)


if __name__ == "__main__":
    main()
