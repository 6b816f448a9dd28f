"""The csv observer: its table depends on stats.jsonl alone, however often the run was stopped."""

import csv

import pluggy
import pytest

from ganzoo.contract.hooks import RunHooks, TrainingProgress
from ganzoo.contract.recipe import Recipe
from ganzoo.storage.run import Run
from ganzoo_plugins.observers.csv import CSV

RECIPE = Recipe(architecture="mlp-vanilla", dataset="digits")
LINES = [
    {"step": 50 * i, "images": 3200 * i, "generator_loss": 1 / i, "discriminator_accuracy": 0.5} for i in (1, 2, 3, 4)
]


def hooks(observer):
    manager = pluggy.PluginManager("ganzoo")
    manager.add_hookspecs(RunHooks)
    manager.register(observer)
    manager.check_pending()
    return manager.hook


def run_ticks(run, lines):
    """One process of a run: its start, then a tick for each line."""
    hook = hooks(CSV())
    hook.on_run_start(run=run)
    for line in lines:
        run.append("stats.jsonl", line)
        progress = TrainingProgress(line["step"], line["images"], 0.1)
        hook.on_tick(run=run, progress=progress, moment=progress, scalars=line)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", RECIPE, {})


def table(run):
    return (run.path / "stats.csv").read_bytes()


def test_one_header_and_one_row_a_tick(run):
    run_ticks(run, LINES)
    appended = table(run)
    rows = list(csv.DictReader(appended.decode().splitlines()))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == LINES
    assert appended.decode().splitlines()[0] == "step,images,generator_loss,discriminator_accuracy"
    hooks(CSV()).on_run_start(run=run)
    assert table(run) == appended  # the appended rows equal those of a table that is written at once
    assert sorted(path.name for path in run.path.glob("*stats*")) == ["stats.csv", "stats.jsonl"]


@pytest.mark.parametrize("crash", [1, 3])
def test_a_resumed_run_leaves_the_same_table(run, tmp_path, crash):
    whole = Run.create(tmp_path / "whole", RECIPE, {})
    run_ticks(whole, LINES)
    run_ticks(run, LINES[:crash])
    run.cut_back(TrainingProgress(LINES[0]["step"], LINES[0]["images"], 0.1))
    run_ticks(run, LINES[1:])
    assert table(run) == table(whole)


def test_without_a_tick_there_is_no_table(run):
    run_ticks(run, LINES[:2])
    run.cut_back(TrainingProgress(0, 0, 0.0))
    run_ticks(run, [])
    assert not (run.path / "stats.csv").exists()


def test_columns_are_those_of_the_first_tick(run):
    run_ticks(run, [LINES[0], {**LINES[1], "late": 3}, {"step": 150, "images": 9600}])
    assert table(run).decode().splitlines()[2:] == ["100,6400,0.5,0.5", "150,9600,,"]


def test_other_ranks_write_nothing(run):
    run.append("stats.jsonl", LINES[0])
    hooks(CSV()).on_run_start(run=Run.open(run.path))
    assert not (run.path / "stats.csv").exists()
