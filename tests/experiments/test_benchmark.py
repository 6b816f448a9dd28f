"""The grid: its table, failed and killed trials, the plan, and --verify."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import Result
from helpers import ZOO, ganzoo, plan_trials

from ganzoo import Choice, UsageError
from ganzoo.experiments import table, verify
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import Trial, expand, parse_seeds
from ganzoo.experiments.run_grid import benchmark
from ganzoo.experiments.step_times import time_of_a_step
from ganzoo.experiments.trial_runner import TrialRunner
from ganzoo.experiments.worker import run_trial
from ganzoo.results.report import tables
from ganzoo.storage.run import Run
from ganzoo_plugins.launchers.local import Local

TINY, BRIGHTNESS = f"{tiny.__file__}:Tiny", f"{tiny.__file__}:Brightness"
DIGITS = "digits:size=8"


def trials(*architectures: str, seeds: Sequence[int] = (0, 1), named: str | None = None, **changes: Any) -> list[Trial]:
    """The trials of these architectures, by default two, on small digits, with a short length."""
    fields = {"length": "8 steps", "score_samples": 20, **changes}
    fields = {name: value for name, value in fields.items() if value is not None}
    chosen = [Choice.parse(text) for text in architectures or (TINY, f"{TINY}:width=4")]
    return plan_trials(ZOO, chosen, [Choice.parse(DIGITS)], [Choice(BRIGHTNESS)], seeds, named, fields)


def run_here(requested: Sequence[Trial], out: Path) -> Folder:
    """Run the trials in this process, like worker processes but without the time to start them."""
    folder = Folder(out)
    with folder.taken():
        for trial in requested:
            folder.write_request(trial, "cpu", torch.get_num_threads())
            run_trial(folder.status_dir(trial), ZOO)
    return folder


def ignore(text: str) -> None:
    """Print no messages."""


def rows(requested: Sequence[Trial], out: Path, **more: Any) -> list[dict[str, Any]]:
    return benchmark(ZOO, requested, out, "cpu", note=more.pop("note", ignore), **more)


def without_seconds(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def run_command(*more: str | Path) -> Result:
    """Run the grid of `finished` by the command line."""
    grid = [
        "-a",
        TINY,
        "-a",
        f"{TINY}:width=4",
        "-d",
        DIGITS,
        "-e",
        BRIGHTNESS,
        "--seeds",
        "0",
        "--seeds",
        "1",
        "--steps",
        "8",
    ]
    return ganzoo("benchmark", *grid, "--samples", "20", "--device", "cpu", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished grid: 2 architectures, 1 dataset, 2 seeds. Tests must not change it."""
    out = tmp_path_factory.mktemp("grid")
    run_here(trials(), out)
    rows(trials(), out)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished grid that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# --- the table --------------------------------------------------------------------------------------------------------


def test_rows_say_what_the_runs_found(finished: Path) -> None:
    found = json.loads((finished / "table.json").read_text())
    assert [(row["score"], row["architecture"]) for row in found[:2]] == [
        ("brightness", TINY),
        ("brightness", f"{TINY}:width=4"),
    ]
    assert len(found) == 2 * 3
    row, folder = found[0], Folder(finished)
    mine = [trial for trial in trials() if trial.architecture == TINY]
    lines = [
        [line for line in Run.open(folder.run(trial)).lines("scores.jsonl") if line["score"] == "brightness"]
        for trial in mine
    ]
    assert [[line["step"] for line in of_run] for of_run in lines] == [[2, 4, 6, 8]] * 2
    last = [of_run[-1]["value"] for of_run in lines]
    best = [min(of_run, key=lambda line: line["value"]) for of_run in lines]
    assert row["last"]["values"] == last
    assert row["best"]["values"] == [line["value"] for line in best]
    assert row["best"]["images"] == [line["images"] for line in best]
    assert row["mean"] == pytest.approx(sum(last) / 2)
    assert row["std"] == pytest.approx(abs(last[0] - last[1]) / 2**0.5)
    assert row["interval"] == pytest.approx(sorted(last))
    assert (row["seeds"], row["finished"], row["failures"], row["evaluator"]) == (2, [0, 1], 0, BRIGHTNESS)
    assert row["card"]["digest"] == lines[0][-1]["card"]["digest"]
    assert row["card"]["measure"]["fakes"] == 20
    assert "seed" not in row["recipe"]
    assert 0 < row["floor"] < 0.05
    for word in (
        "Not told apart",
        "20 fakes against the 1,498 train images",
        "Floor, 20 real images",
        "tiny.py:Tiny:width=4",
    ):
        assert word in (finished / "table.md").read_text()
    assert len((finished / "table.csv").read_text().splitlines()) == 1 + 6
    assert (finished / "table.png").read_bytes().startswith(b"\x89PNG")


def test_the_scale_stands_beside_the_scores(copy: Path) -> None:
    (row, *_) = rows(trials(), copy, scale=True)
    assert row["calibration"][0] == {"damage": "none", "strength": 0, "value": row["floor"], "images": 20}
    assert {step["damage"] for step in row["calibration"]} >= {"noise", "blur", "memorised"}
    assert "Scale, the same images damaged: undamaged" in (copy / "table.md").read_text()
    (row, *_) = rows(trials(), copy)
    assert row["calibration"] is None


def test_best_is_one_generator(finished: Path) -> None:
    """All scores of `best` belong to the same generator; each score does not have its own best."""
    found = {
        (row["architecture"], row["score"]): row["best"] for row in json.loads((finished / "table.json").read_text())
    }
    assert found[TINY, "fakes"]["images"] == found[TINY, "brightness"]["images"]


def test_a_finished_grid_says_the_same_and_plays_nothing(finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.glob("table.*")}
    touched = {path: path.stat().st_mtime_ns for path in (*finished.glob("cells/*/*"), *finished.glob("runs/*/*"))}
    result = run_command("--out", finished, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout == run_command("--out", finished, "--json").stdout
    assert json.loads(result.stdout)["rows"] == json.loads((finished / "table.json").read_text())
    assert {path: path.read_bytes() for path in finished.glob("table.*")} == before
    assert {path: path.stat().st_mtime_ns for path in touched} == touched
    assert "| tiny.py:Tiny:width=4 |" in run_command("--out", finished).stdout


def test_numbers_of_unlike_cards_are_never_averaged(copy: Path) -> None:
    folder = Folder(copy)
    first = next(trial for trial in trials() if trial.architecture == TINY and trial.recipe.seed == 0)
    path = folder.run(first) / "scores.jsonl"
    lines = Run.open(path.parent).lines("scores.jsonl")
    for line in lines:
        line["card"]["digest"] = "ffff" if line["score"] == "brightness" else line["card"]["digest"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [row for row in table.rows_of(trials(), folder, {}) if row["architecture"] == TINY]
    assert [(row["score"], row["seeds"], row["finished"]) for row in found][:2] in (
        [("brightness", 1, [0]), ("brightness", 1, [1])],
        [("brightness", 1, [1]), ("brightness", 1, [0])],
    )
    assert all("cannot be averaged" in row["note"] for row in found[:2])
    assert all(row["std"] is None for row in found[:2])
    assert [row["seeds"] for row in found[2:]] == [2, 2]
    split = [section for section in tables.sections_of(found) if section.title.startswith("brightness")]
    assert len(split) == 2


def test_the_floor_of_other_images_is_not_put_beside_a_number(copy: Path) -> None:
    folder = Folder(copy)
    first = next(trial for trial in trials() if trial.architecture == TINY and trial.recipe.seed == 0)
    path = folder.run(first) / "scores.jsonl"
    lines = Run.open(path.parent).lines("scores.jsonl")
    reals = lines[0]["card"]["measure"]["reals"]["sha256"]
    for line in lines:  # as if the data folder had had other images at that time
        line["card"]["measure"]["reals"]["sha256"] = "0" * 64
        line["card"]["digest"] = "ffff"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept = {"floor": {"brightness": 0.5}, "floor_images": {"brightness": 20}, "calibration": {}}
    known = {trial.dataset: {**kept, "reals": {"brightness": reals}} for trial in trials()}
    found = [row for row in table.rows_of(trials(), folder, known) if row["score"] == "brightness"]
    floors = {(row["architecture"] == TINY, tuple(row["finished"])): row["floor"] for row in found}
    assert floors[True, (0,)] is None
    assert floors[True, (1,)] == floors[False, (0, 1)] == 0.5


def test_near_means_are_not_told_apart() -> None:
    def row(name: str, mean: float, interval: list[float] | None = None) -> dict[str, Any]:
        return {"architecture": name, "mean": mean, "interval": interval}

    assert tables.alike([row("a", 10), row("b", 12), row("c", 14.9), row("d", 20)]) == [["a", "b", "c"]]
    assert tables.alike([row("a", -1, [-2, 0]), row("b", 1, [-0.5, 2])]) == [["a", "b"]]
    assert tables.alike([row("a", -1, [-2, -0.5]), row("b", 1, [0.5, 2])]) == []


def test_the_interval_is_that_of_the_mean() -> None:
    assert table.interval([1.0]) is None
    low, high = table.interval([1.0, 2.0, 3.0, 4.0, 5.0]) or (0, 0)
    assert (low, high) == (pytest.approx(1.8, abs=0.21), pytest.approx(4.2, abs=0.21))
    assert table.interval([2.0, 2.0, 2.0]) == [2.0, 2.0]


# --- what fails -------------------------------------------------------------------------------------------------------

PARTS = '''
import os, signal, time
from pathlib import Path
import torch
import ganzoo

BROKEN = Path(__file__).parent / "broken"

class Generator(torch.nn.Linear):
    fault = staticmethod(lambda: None)
    def forward(self, latents, labels):
        if BROKEN.exists():
            self.fault()
        return torch.tanh(super().forward(latents)).view(-1, 1, 8, 8)

class Discriminator(torch.nn.Linear):
    def forward(self, images, labels):
        return super().forward(images.flatten(1))

class Crashing(ganzoo.Architecture):
    """Raises in its first forward pass."""
    def fault(self):
        raise ValueError("no such\\nlayer")
    def networks(self, images):
        generator = Generator(4, 64)
        generator.fault = self.fault
        return generator, Discriminator(64, 1)
    def latents(self, count, generator):
        return torch.randn(count, 4, generator=generator)

class Slow(Crashing):
    """Slow in every forward pass."""
    def fault(self):
        time.sleep(0.1)

class Quitting(Crashing):
    """Its process ends with exit code 0, without scores."""
    def fault(self):
        os._exit(0)

class Killed(Crashing):
    """Its process is killed by SIGKILL."""
    def fault(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Faulting(Crashing):
    """Its process ends with a segmentation fault."""
    def fault(self):
        os.kill(os.getpid(), signal.SIGSEGV)

class Hanging(Crashing):
    """Never returns, and ignores SIGTERM."""
    def fault(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(10**6)

class Broken(Crashing):
    """Raises when its networks are built."""
    def networks(self, images):
        return {}["nothing"]

class Refusing(Crashing):
    """Refuses all images."""
    def networks(self, images):
        raise ganzoo.RefusedSpec(f"Refusing cannot serve images of {images}.")
'''


def test_failures_are_counted_and_stop_nobody(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "broken").touch()
    names = ("Crashing", "Quitting", "Killed", "Refusing", "Faulting", "Broken")
    crashing, quitting, killed, refusing, faulting, broken = (f"{tmp_path}/parts.py:{name}" for name in names)
    out, messages = tmp_path / "grid", list[str]()
    grid = trials(refusing, crashing, quitting, killed, faulting, broken, TINY, seeds=[0])
    found = {
        row["architecture"]: row for row in rows(grid, out, jobs=2, note=messages.append) if row["score"] == "fakes"
    }
    assert {name: (row["seeds"], row["failures"]) for name, row in found.items()} == {
        refusing: (0, 1),
        crashing: (0, 1),
        quitting: (0, 1),
        killed: (0, 0),  # stopped from outside, so no failure
        faulting: (0, 1),
        broken: (0, 1),
        TINY: (1, 0),
    }
    assert found[refusing]["reasons"] == {"0": "Refusing cannot serve images of 1x8x8."}
    assert "no such" in found[crashing]["reasons"]["0"]
    assert "without the requested scores" in found[quitting]["reasons"]["0"]
    assert found[faulting]["reasons"] == {"0": "Its process was ended by SIGSEGV."}
    assert found[broken]["reasons"]["0"].startswith("KeyError: 'nothing'")
    assert found[crashing]["mean"] is None
    assert found[TINY]["mean"] == 20
    folder = Folder(out)
    assert not folder.log(grid[0]).exists()  # it fails before a process is started
    assert json.loads((folder.status_dir(grid[1]) / "failed.json").read_text())["exit_code"] == 1
    assert any("Refusing cannot serve" in line for line in messages)
    assert "seed 0 failed: Refusing cannot serve" in (out / "table.md").read_text()

    (tmp_path / "broken").unlink()
    again = {row["architecture"]: row for row in rows(grid, out) if row["score"] == "fakes"}
    assert (again[killed]["seeds"], again[crashing]["failures"], again[quitting]["failures"]) == (1, 1, 1)
    (once_more, *_) = rows([grid[1]], out, retry_failed=True)
    assert (once_more["seeds"], once_more["failures"]) == (1, 0)


def test_a_cell_that_hangs_has_failed(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "broken").touch()
    grid = trials(f"{tmp_path}/parts.py:Hanging", TINY, seeds=[0])
    found = {
        row["architecture"]: row for row in rows(grid, tmp_path / "grid", patience=36.0) if row["score"] == "fakes"
    }
    assert [(row["seeds"], row["failures"]) for row in found.values()] == [(0, 1), (1, 0)]
    reason = "Its process wrote nothing for 0.01 hours (--patience), and was killed."
    assert found[str(grid[0].recipe.architecture)]["reasons"] == {"0": reason}


def test_the_first_words_of_a_process_are_the_reason_of_its_failure(tmp_path: Path) -> None:
    """They are read although they were written before the launcher looked at the log, and no words before them are."""
    (trial,) = trials(TINY, seeds=[0])
    folder = Folder(tmp_path / "grid")
    with folder.taken():
        folder.log(trial).write_text("Error: of an earlier process.\n")
        quick = ("-c", "print('Error: it failed at once.'); raise SystemExit(1)")
        with TrialRunner(ZOO, folder, Local(), device="cpu", note=ignore, worker=quick) as runner:
            runner.run([trial])
        assert folder.reason(trial) == "it failed at once."


def test_what_cannot_be_scored_is_found_before_any_training(tmp_path: Path) -> None:
    scored = [Choice.parse(f"{BRIGHTNESS}:layer=nothing")]
    grid = plan_trials(ZOO, [Choice(TINY)], [Choice.parse(DIGITS)], scored, [0, 1], None, {"length": "4 steps"})
    found = rows(grid, tmp_path)
    assert [row["failures"] for row in found] == [2, 2, 2]
    assert "has no layer 'nothing'" in found[0]["reasons"]["1"]
    assert not list(tmp_path.glob("runs/*"))


def test_a_result_that_is_not_one_is_missing(copy: Path) -> None:
    folder, (first, *_) = Folder(copy), trials()
    assert folder.state(first) == "done"
    scores, done = folder.run(first) / "scores.jsonl", folder.status_dir(first) / "done.json"
    kept = re.sub(', "crc": "[0-9a-f]{8}"', "", scores.read_text())  # edited lines would not match it
    for text in ("", kept.replace('"step": 8', '"step": 7'), kept.replace('"value": ', '"value": NaN, "was": ')):
        scores.write_text(text)
        assert folder.state(first) == "missing"
    scores.write_text(kept)
    for text in ("", "[]", "{", '{"step": 9, "images": 3}'):
        done.write_text(text)
        assert folder.state(first) == "missing"


def test_a_run_found_at_its_end_is_not_trained_again(copy: Path) -> None:
    """Its process was killed after the last checkpoint and before it wrote done.json."""
    folder, (first, *_) = Folder(copy), trials()
    before = folder.result(first)
    (folder.status_dir(first) / "done.json").unlink()
    assert folder.state(first) == "missing"
    run_here([first], copy)
    assert folder.result(first) == before


def test_a_half_made_run_is_begun_anew(copy: Path) -> None:
    folder, (first, *_) = Folder(copy), trials()
    before = folder.result(first)
    assert before is not None
    folder.forget(first)
    folder.run(first).mkdir()
    (folder.run(first) / "environment.json").write_text("{")
    run_here([first], copy)
    again = folder.result(first)
    assert again is not None
    assert {name: line["value"] for name, line in again.last.items()} == {
        name: line["value"] for name, line in before.last.items()
    }


def test_one_benchmark_at_a_time(copy: Path) -> None:
    with Folder(copy).taken():
        result = run_command("--out", copy)
    assert result.exit_code == 1
    assert "Another `ganzoo benchmark` works in" in result.stderr


# --- what is killed ---------------------------------------------------------------------------------------------------


@pytest.fixture
def drivers() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def drive(drivers: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ganzoo", "benchmark", *arguments, "--device", "cpu"]
    drivers.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return drivers[-1]


def wait_for(condition: Any, driver: subprocess.Popen[str], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_grid_converges(tmp_path: Path, drivers: list[subprocess.Popen[str]]) -> None:
    """SIGKILL, SIGTERM, then the rest: the table is that of an undisturbed grid."""
    (tmp_path / "parts.py").write_text(PARTS)
    slow = f"{tmp_path}/parts.py:Slow"
    fields = {"length": "60 steps", "checkpoint_every": "2 steps", "samples_every": "60 steps", "batch_size": 16}
    (tmp_path / "r.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
    grid = trials(slow, named=str(tmp_path / "r.toml"), length=None)
    rows_of_undisturbed = rows(grid, run_here(grid, tmp_path / "undisturbed").path)
    folder = run_here(grid[1:], tmp_path / "grid")
    finished = folder.run(grid[1]).stat().st_mtime_ns
    (tmp_path / "broken").touch()
    arguments = ["-a", slow, "-d", DIGITS, "-e", BRIGHTNESS, "--seeds", "0,1", "--recipe", str(tmp_path / "r.toml")]
    arguments += ["--samples", "20", "--out", str(folder.path)]

    def saved() -> int:
        return max((int(path.name) for path in folder.run(grid[0]).glob("checkpoints/[0-9]*")), default=0)

    first = drive(drivers, *arguments)
    wait_for(lambda: saved() > 0, first)
    first.kill()
    first.wait()
    second = drive(drivers, *arguments)  # the trial of the first benchmark has to notice its end, and to save
    wait_for(lambda: "Stopped by" in folder.log(grid[0]).read_text(), second)
    before = saved()
    wait_for(lambda: saved() > before, second)
    second.send_signal(signal.SIGTERM)
    _, stderr = second.communicate(timeout=300)
    assert second.returncode == 143, stderr
    assert "1 of 2 trials left to run" in stderr
    assert "Continue with the same command" in stderr
    assert folder.log(grid[0]).read_text().count("Stopped by SIGTERM") == 2
    assert folder.state(grid[0]) == "missing"

    (tmp_path / "broken").unlink()
    found = rows(grid, folder.path)
    assert without_seconds(found) == without_seconds(rows_of_undisturbed)
    assert found[0]["seeds"] == 2
    assert folder.run(grid[1]).stat().st_mtime_ns == finished


@pytest.mark.slow
def test_the_grid_of_the_issue(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch, drivers: list[subprocess.Popen[str]]
) -> None:
    """2 architectures, 3 datasets, 3 seeds: the same table when killed in the middle and when undisturbed."""
    monkeypatch.setenv("GANZOO_DATA", str(shared_data))
    arguments = [
        "-a",
        "mlp-vanilla",
        "-a",
        "mlp-vanilla:width=64",
        "-d",
        "digits",
        "-d",
        "mnist",
        "-d",
        "fashion-mnist",
    ]
    arguments += ["--seeds", "0..2", "--steps", "60", "--samples", "500", "--jobs", "2", "--json"]
    undisturbed_driver = drive(drivers, *arguments, "--out", str(tmp_path / "undisturbed"))
    (undisturbed, stderr) = undisturbed_driver.communicate()
    assert undisturbed_driver.returncode == 0, stderr
    killed = drive(drivers, *arguments, "--out", str(tmp_path / "killed"))
    wait_for(lambda: len(list((tmp_path / "killed").glob("cells/*/done.json"))) >= 7, killed, 600)
    killed.kill()
    killed.wait()
    again = drive(drivers, *arguments, "--out", str(tmp_path / "killed"))
    (found, stderr) = again.communicate()
    assert again.returncode == 0, stderr
    assert without_seconds(json.loads(found)["rows"]) == without_seconds(json.loads(undisturbed)["rows"])
    assert len(json.loads(found)["rows"]) == 6
    assert all(row["seeds"] == 3 for row in json.loads(found)["rows"])
    started = time.monotonic()
    assert drive(drivers, *arguments, "--out", str(tmp_path / "killed")).communicate()[0] == found
    assert time.monotonic() - started < 60


# --- the plan and bad requests ----------------------------------------------------------------------------------------


def test_seeds() -> None:
    assert parse_seeds("0,1,2") == (0, 1, 2)
    assert parse_seeds("0..4") == (0, 1, 2, 3, 4)
    assert parse_seeds("7, 0..1") == (0, 1, 7)
    assert parse_seeds("5..5") == (5,)
    for text in ("0,,1", "", "a", "-1", "1.5", "0...4", "4..0", "0,0", "0..2,1", "0..999999999", "1,"):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text)


def test_wildcards() -> None:
    every = ZOO.names("architectures")
    assert [c.name for c in expand(ZOO, "architectures", [Choice("mlp-*")])] == [n for n in every if n[:4] == "mlp-"]
    wide = expand(ZOO, "architectures", [Choice.parse("mlp-v*:width=32"), Choice.parse("mlp-vanilla:width=32")])
    assert [str(choice) for choice in wide] == ["mlp-vanilla:width=32"]
    with pytest.raises(UsageError, match="'mlb-\\*' matches none of the architectures"):
        expand(ZOO, "architectures", [Choice("mlb-*")])


def test_a_trial_has_a_recipe_of_its_own() -> None:
    grid = trials(TINY, seeds=[3, 5])
    assert [trial.recipe.seed for trial in grid] == [3, 5]
    assert str(grid[0].recipe.score_every) == "2 steps"
    assert (
        len(
            {
                trial.name
                for trial in [*grid, *trials(f"{TINY}:width=7", seeds=[3]), *trials(TINY, seeds=[3], length="9 steps")]
            }
        )
        == 4
    )
    assert str(trials(TINY, score_every="3")[0].recipe.score_every) == "3 steps"
    lucic = plan_trials(
        ZOO, [Choice(TINY)], [Choice("digits")], [Choice(BRIGHTNESS)], [0], None, {"protocol": "lucic2018"}
    )
    assert str(lucic[0].recipe.length) == "20 epochs"
    assert str(trials(TINY, protocol="lucic2018")[0].recipe.length) == "8 steps"


def test_a_changed_file_is_another_trial(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    before = trials(f"{tmp_path}/parts.py:Crashing", seeds=[0])
    (tmp_path / "parts.py").write_text(PARTS + "\n")
    assert trials(f"{tmp_path}/parts.py:Crashing", seeds=[0])[0].name != before[0].name


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.003187, "3.19 ms"), (0.91, "910 ms"), (0.9996, "1 s"), (2.81, "2.81 s"), (12.3, "12.3 s")]
)
def test_the_time_of_a_step_has_no_exponent(seconds: float, words: str) -> None:
    assert time_of_a_step(seconds) == words


def test_a_dry_run_trains_nothing(finished: Path, tmp_path: Path) -> None:
    result = run_command("--out", tmp_path / "none", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert not (tmp_path / "none").exists()
    assert [(pair["done"], pair["missing"]) for pair in plan["pairs"]] == [(0, 2), (0, 2)]
    assert plan["pairs"][0]["seconds_from"].startswith("8 steps of ")
    assert plan["seconds"] > 0
    assert plan["pairs"][0]["recipe"]["length"] == "8 steps"
    whole = run_command("--out", tmp_path / "none", "--dry-run").stderr
    assert "4 of 4 trials to run" in whole
    assert "Not included: the start of each process, the scoring of pairs without a finished trial" in whole
    done = run_command("--out", finished, "--dry-run")
    assert "mean of 2 finished" in done.stdout
    assert "0 of 4 trials to run" in done.stderr
    assert "Not included" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one architecture"),
        (["-a", "mlp-vanilla"], "one dataset"),
        (["-a", "mlp-vanila", "-d", "digits"], "Did you mean 'mlp-vanilla'"),
        (["-a", "x*", "-d", "digits"], "matches none of the architectures"),
        (["-a", "mlp-vanilla:widht=3", "-d", "digits"], "no option 'widht'"),
        (["-a", "mlp-vanilla", "-d", "digits", "-e", "fid-domian"], "Did you mean 'fid-domain'"),
        (["-a", "mlp-vanilla", "-d", "digits", "--seeds", "0,,1"], "'' is no seed"),
        (["-a", "mlp-vanilla", "-d", "digits", "--epochs", "1", "--steps", "1"], "both set the length"),
        (["-a", "mlp-vanilla", "-d", "digits", "--recipe", "nothing"], "has no recipe 'nothing'"),
        (["-a", "mlp-vanilla", "-d", "digits", "-e", BRIGHTNESS, "-e", f"{BRIGHTNESS}:held_out=true"], "both give"),
        (["--verify", "none.json"], "cannot be read"),
        (["--verify", "none.json", "-a", "mlp-vanilla"], "leave out"),
    ],
)
def test_bad_requests(arguments: list[str], message: str) -> None:
    result = ganzoo("benchmark", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for more in ([], ["--dry-run"]):
        result = run_command("--out", tmp_path / "file", *more)
        assert result.exit_code == 2
        assert "is a file; --out needs a directory" in result.stderr


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_table_is_verified(copy: Path, tmp_path: Path) -> None:
    rows_of_it = verify.read_table(copy / "table.json")
    again = verify.trials_of(ZOO, rows_of_it, copy / "table.json")
    assert sorted(trial.name for trial in again) == sorted(trial.name for trial in trials())
    run_here(again, copy / "verify")
    result = ganzoo("benchmark", "--verify", copy / "table.json", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert [verdict["holds"] for verdict in json.loads(result.stdout)["verdicts"]] == [True] * 6
    assert [verdict["now"] for verdict in json.loads(result.stdout)["verdicts"]] == [row["mean"] for row in rows_of_it]

    result = ganzoo("benchmark", "--verify", copy / "table.json", "--out", copy)
    assert result.exit_code == 2
    assert "would not be run again" in result.stderr

    rows_of_it[0]["mean"] += 10
    rows_of_it[0]["interval"] = [value + 10 for value in rows_of_it[0]["interval"]]
    rows_of_it[1]["card"]["digest"] = "ffff"
    (copy / "table.json").write_text(json.dumps(rows_of_it))
    result = ganzoo("benchmark", "--verify", copy / "table.json", "--device", "cpu")
    assert result.exit_code == 1
    assert "2 of 6 rows do not hold" in result.stderr
    assert "nothing was measured alike" in result.stdout


def test_the_rule() -> None:
    def row(mean: float, std: float | None, interval: list[float] | None) -> dict[str, Any]:
        names = dict.fromkeys(("architecture", "dataset", "evaluator", "score"), "x")
        return names | {
            "mean": mean,
            "std": std,
            "interval": interval,
            "finished": [0],
            "seeds": 1,
            "recipe": {},
            "card": {"digest": "a"},
        }

    def holds(old: dict[str, Any], new: dict[str, Any]) -> bool:
        return bool(verify.verdicts([old], [new])[0]["holds"])

    assert holds(row(10, None, None), row(12.4, None, None))
    assert not holds(row(10, None, None), row(12.6, None, None))
    assert holds(row(10, 1, [9, 11]), row(11.9, 1, [11, 13]))
    assert not holds(row(10, 1, [9, 11]), row(12.1, 1, [11.2, 13]))
    assert holds(row(10, 0.1, [9, 11]), row(11.9, 0.1, [10.9, 12.9]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not the table.json"),
        ("{}", "no list of rows"),
        ('[{"architecture": 3}]', "no list of rows"),
        ("[]", "nothing to verify"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.json").write_text(text)
    result = ganzoo("benchmark", "--verify", tmp_path / "table.json")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_recipe_of_another_version_is_named(copy: Path) -> None:
    found = json.loads((copy / "table.json").read_text())
    found[0]["recipe"]["momentum"] = 1
    (copy / "table.json").write_text(json.dumps(found))
    result = ganzoo("benchmark", "--verify", copy / "table.json")
    assert result.exit_code == 2
    assert "cannot be run again: A recipe has no field 'momentum'" in result.stderr
