"""A run that was stopped, observed or killed ends like an undisturbed run, bit for bit; errors leave whole files."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import ZOO, sample, tiny_recipe
from safetensors.torch import load_file
from torch import Tensor

import ganzoo
from ganzoo import Amount, GanzooError, Recipe, TrainingProgress, UsageError
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.replay import replay
from ganzoo.training.signals import signal_in_words
from ganzoo.training.train import Interrupted, resume, start

TINY, SOURING, REMEMBERING = (f"{tiny.__file__}:{name}" for name in ("Tiny", "Souring", "Remembering"))
CPU = torch.device("cpu")


def recipe(steps: int = 8, **changes: Any) -> Recipe:
    """By default three batches an epoch, the last one smaller."""
    return tiny_recipe(**{"subset": "first 40", "length": f"{steps} steps", **changes})


def train(out: Path, steps: int = 8, **changes: Any) -> Path:
    extra_observers = changes.pop("extra_observers", None)
    start(recipe(steps, **changes), out, ZOO, CPU, extra_observers=extra_observers, note=ignore)
    return out


def train_to(out: Path, steps: int, **more: Any) -> Path:
    resume(out, ZOO, length=Amount(steps, "steps"), note=ignore, **more)
    return out


def ignore(text: str) -> None:
    """Discard a note."""


def tensors(out: Path) -> dict[str, Tensor]:
    found = checkpoints.load_latest(out / "checkpoints")
    assert found is not None
    assert found[2] == []
    return found[0]


def files(out: Path) -> dict[str, Any]:
    """All files of a run and its state, without times."""
    kept: dict[str, Any] = {
        "state": {name: value.tolist() for name, value in tensors(out).items()},
        "step": checkpoints.load_latest(out / "checkpoints")[1]["step"],
        "recipe": json.loads((out / "recipe.json").read_text()),
        "directory": sorted(path.name for path in out.iterdir()),
        "newest checkpoint": sorted(path.name for path in (out / "checkpoints").iterdir())[-1],
        "stats": [
            {key: value for key, value in line.items() if "second" not in key}
            for line in Run.open(out).lines("stats.jsonl")
        ],
    }
    for folder in ("samples", "generators"):
        kept |= {f"{folder}/{path.name}": path.read_bytes() for path in (out / folder).iterdir()}
    return kept


def without_ends(found: dict[str, Any], whole: dict[str, Any], *images: int) -> dict[str, Any]:
    """`found` without the grid and the generator of earlier ends, after so many images, that `whole` does not have."""
    names = [
        f"{folder}.{suffix}" for folder, suffix in (("samples/{:09d}", "png"), ("generators/{:09d}", "safetensors"))
    ]
    ends = {name.format(count) for name in names for count in images} - whole.keys()
    assert all(f"generators/{count:09d}.safetensors" in found for count in images)
    return {name: value for name, value in found.items() if name not in ends}


class Watcher:
    """An observer that records its calls, and calls `act` in each."""

    def __init__(self, act: Any = lambda hook, progress: None) -> None:
        self.calls: list[str] = []
        self.moments: list[TrainingProgress] = []
        self.error: BaseException | None = None
        self.act = act

    def _note(self, hook: str, progress: TrainingProgress | None = None) -> None:
        self.calls.append(hook)
        if progress:
            self.moments.append(progress)
        self.act(hook, progress)

    @ganzoo.hookimpl
    def on_run_start(self, run: Run) -> None:
        self._note("on_run_start")

    @ganzoo.hookimpl
    def on_tick(self, run: Run, progress: TrainingProgress, scalars: dict[str, Any]) -> None:
        self._note("on_tick", progress)

    @ganzoo.hookimpl
    def on_samples(self, run: Run, progress: TrainingProgress, path: Path) -> None:
        assert path.is_file()
        self._note("on_samples", progress)

    @ganzoo.hookimpl
    def on_checkpoint(self, run: Run, progress: TrainingProgress, path: Path) -> None:
        assert (path / "MANIFEST.json").is_file()
        self._note("on_checkpoint", progress)

    @ganzoo.hookimpl
    def on_run_end(self, run: Run, error: BaseException | None) -> None:
        self.error = error
        self._note("on_run_end")


def stopping_at(*steps: int, number: int = signal.SIGTERM) -> dict[str, Watcher]:
    """An observer that sends a signal to this process in the ticks of these steps."""

    def act(hook: str, progress: TrainingProgress | None) -> None:
        if hook == "on_tick" and progress and progress.step in steps:
            os.kill(os.getpid(), number)

    return {"stopper": Watcher(act)}


# --- stopped and resumed ---

SYSTEMS: dict[str, Mapping[str, Any]] = {
    "D,G": {"turns": "D,G"},
    "D+G": {"turns": "D+G", "precision": "bf16"},
    "D,D,G": {"turns": "D,D,G", "ema_half_life": 100, "batch_order": "stream"},
    "D,GD": {"turns": "D,GD", "losses": ["hinge", "r1:gamma=0.1"], "ema_half_life": 30},
    "D.reals,D.fakes,G": {
        "turns": "D.reals,D.fakes,G",
        "generator_optimizer": "keras-adam:lr=1e-3",
        "discriminator_optimizer": "shared",
        "generator_mode_for_discriminator": "inference",
        "batch_order": "replacement",
    },
    "classes": {
        "architecture": "TinyConditional",
        "losses": ["relativistic", "r1", "r2"],
        "batch_order": "epochs-drop-last",
    },
    "a loss with a buffer": {"losses": ["nonsaturating", REMEMBERING]},
    "augmented": {"augmentations": ["diffaugment"], "losses": ["wasserstein", "gradient-penalty"]},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_four_steps_and_four_more_are_eight(system, tmp_path):
    changes = {"tick_every": "3 steps", "samples_every": "1 epochs", "checkpoint_every": "6 steps", **SYSTEMS[system]}
    whole = files(train(tmp_path / "whole", 8, **changes))
    out = train(tmp_path / "halves", 4, **changes)
    ended = files(out)
    halves = files(train_to(out, 8))
    images = int(ended["newest checkpoint"])
    assert without_ends(halves, whole, images) == whole
    # the generator and the grid that were shown at the end of the shorter run stay
    assert {name: halves[name] for name in ended if "/" in name} == {n: ended[n] for n in ended if "/" in n}
    assert whole["step"] == 8
    assert len(whole["stats"]) == 3  # at 3, at 6, and what was left at the end
    assert whole["stats"][-1]["partial"]
    # the comparison can fail: another seed ends with another state
    assert files(train(tmp_path / "other", 8, **changes, seed=1))["state"] != whole["state"]


def test_three_resumes_inside_one_epoch(tmp_path):
    changes = {"subset": "all", "tick_every": "2 steps", "ema_half_life": 50}
    whole = files(train(tmp_path / "whole", 9, **changes))
    out = train(tmp_path / "parts", 2, **changes)
    for steps in (3, 5, 9):
        train_to(out, steps)
    assert without_ends(files(out), whole, 32, 48, 80) == whole


def test_the_speed_is_that_since_the_last_line_also_after_a_resume(tmp_path):
    changes = {"tick_every": "3 steps", "subset": "all"}
    out = train(tmp_path / "a", 4, **changes, extra_observers={"slow": Watcher(lambda hook, progress: time.sleep(0.1))})
    lines = Run.open(train_to(out, 9, extra_observers={})).lines("stats.jsonl")
    assert [line["step"] for line in lines] == [3, 6, 9]
    for before, line in zip([{"images": 0, "seconds": 0.0}, *lines], lines, strict=False):
        images, seconds = line["images"] - before["images"], line["seconds"] - before["seconds"]
        assert seconds > 0
        # both times are rounded to a millisecond, the speed to a tenth
        assert images / (seconds + 0.0011) - 0.1 <= line["images_per_second"]
        assert line["images_per_second"] <= images / max(seconds - 0.0011, 1e-9) + 0.1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_between_two_steps_and_nothing_is_lost(tmp_path, number):
    changes = {"tick_every": "1 steps", "checkpoint_every": "4 steps", "samples_every": "2 steps"}
    whole = files(train(tmp_path / "whole", 8, **changes))
    out, stopper = tmp_path / "stopped", stopping_at(3, number=number)
    before = signal.getsignal(number)
    command = re.escape(f"ganzoo resume {shlex.quote(str(out))}")
    with pytest.raises(
        Interrupted, match=rf"Stopped by {signal_in_words(number)} after step 3; .*{command}$"
    ) as stopped:
        train(out, 8, **changes, extra_observers=stopper)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert stopper["stopper"].error is stopped.value
    assert not (out / "lock").exists()
    assert checkpoints.load_latest(out / "checkpoints")[1]["step"] == 3
    with pytest.raises(Interrupted, match="after step 5"):
        resume(out, ZOO, note=ignore, extra_observers=stopping_at(5, number=number))
    resume(out, ZOO, note=ignore)
    assert without_ends(files(out), whole, 40, 72) == whole


def test_a_signal_at_the_last_step_finds_the_run_done(tmp_path):
    changes = {"tick_every": "1 steps", "samples_every": "5 steps"}
    whole = files(train(tmp_path / "whole", 6, **changes))
    assert files(train(tmp_path / "late", 6, **changes, extra_observers=stopping_at(6))) == whole


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    changes = {"tick_every": "1 steps", "samples_every": "2 steps"}
    whole = files(train(tmp_path / "whole", 8, **changes))

    class Killed(BaseException):
        pass

    def act(hook: str, progress: TrainingProgress | None) -> None:
        if hook == "on_tick" and progress and progress.step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "killed", 8, **changes, extra_observers={"killer": Watcher(act)})
    out = tmp_path / "killed"
    assert Run.open(out).lines("stats.jsonl")
    resume(out, ZOO, note=ignore)
    assert files(out) == whole


def test_a_damaged_checkpoint_costs_some_steps_and_no_numbers(tmp_path):
    changes = {"checkpoint_every": "2 steps", "tick_every": "1 steps", "samples_every": "1 steps"}
    whole = files(train(tmp_path / "whole", 8, **changes))
    out = train(tmp_path / "damaged", 6, **changes)
    newest = max((out / "checkpoints").iterdir())
    with open(newest / "state.safetensors", "r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"???")
    notes: list[str] = []
    resume(out, ZOO, length=Amount(8, "steps"), note=notes.append)
    assert len(notes) == 1
    assert "passed over a damaged checkpoint" in notes[0]
    assert newest.name in notes[0]
    assert files(out) == whole


def test_a_run_can_be_made_longer_and_not_trained_twice(tmp_path):
    out = train(tmp_path / "a", 4)
    before = files(out)
    with pytest.raises(UsageError, match=r"has already trained for its 4 steps; .*`ganzoo resume .* --steps 6`"):
        resume(out, ZOO, note=ignore)
    with pytest.raises(UsageError, match=r"has already trained for 4 steps, more than 3 steps; .* --steps 6`"):
        train_to(out, 3)
    with pytest.raises(UsageError, match=r"has already trained for (its 56 images|[0-9]+ images, more than 56 images)"):
        resume(out, ZOO, length=Amount(56, "images"), note=ignore)
    assert files(out) == before  # a length that was refused is not saved
    assert Run.open(out).recipe.length == Amount(4, "steps")


def test_a_resumed_run_notes_what_has_changed(tmp_path):
    out, notes = train(tmp_path / "a", 4), list[str]()
    resume(out, ZOO, length=Amount(6, "steps"), note=notes.append)
    assert notes == []
    facts = json.loads((out / "environment.json").read_text())
    facts["versions"]["torch"] = "1.0"
    del facts["sha256"]  # what is edited does not match it any more
    (out / "environment.json").write_text(json.dumps(facts))
    resume(out, ZOO, length=Amount(8, "steps"), note=notes.append)
    (note,) = notes
    assert "another torch (1.0 then" in note


# --- undisturbed ---


def test_what_observers_do_changes_no_number(tmp_path):
    """They draw samples, and use and seed every kind of random numbers."""
    changes = {"tick_every": "1 steps", "checkpoint_every": "2 steps", "options": {"dropout": 0.5}}
    whole = files(train(tmp_path / "whole", 8, **changes))
    out = tmp_path / "watched"

    def act(hook: str, progress: TrainingProgress | None) -> None:
        torch.rand(3), np.random.rand(3), random.random()
        torch.manual_seed(0)
        if (out / "generators").exists() and list((out / "generators").iterdir()):
            sample(out, ZOO, CPU, tmp_path / "s.png", seed=3)

    watchers = {"first": Watcher(act), "second": Watcher(act)}
    train(out, 4, **changes, extra_observers=watchers)
    sample(out, ZOO, CPU, tmp_path / "s.npy", count=5)
    assert files(train_to(out, 8, extra_observers=watchers)) == whole
    assert set(watchers["first"].calls) == {"on_run_start", "on_tick", "on_samples", "on_checkpoint", "on_run_end"}


def test_observers_of_the_recipe_change_nothing_but_their_own_files(tmp_path):
    plain, watched = (train(tmp_path / name, observers=o) for name, o in (("a", []), ("b", ["csv"])))
    assert (watched / "stats.csv").is_file()
    left, right = files(plain), files(watched)
    for whole, out in ((left, plain), (right, watched)):
        del whole["recipe"], whole["directory"]
        for path in (out / "generators").iterdir():  # their metadata hold the recipes, which differ
            whole[f"generators/{path.name}"] = {name: value.tolist() for name, value in load_file(path).items()}
    assert left == right


def test_hooks_are_called_in_order(tmp_path):
    watcher = Watcher()
    train(tmp_path / "a", 4, extra_observers={"watcher": watcher}, tick_every="2 steps", checkpoint_every="2 steps")
    ticks = ["on_tick", "on_checkpoint", "on_tick", "on_samples", "on_checkpoint"]
    assert watcher.calls == ["on_run_start", "on_samples", *ticks, "on_run_end"]
    assert [progress.step for progress in watcher.moments] == [0, 2, 2, 4, 4, 4]
    assert [progress.images for progress in watcher.moments] == [0, 32, 32, 56, 56, 56]
    assert watcher.error is None


# --- errors ---


def failing_in(hook: str, error: Exception, step: int = 0) -> dict[str, Watcher]:
    def act(hook_called: str, progress: TrainingProgress | None) -> None:
        if hook_called == hook and (progress.step if progress else 0) >= step:
            raise error

    return {"clumsy": Watcher(act)}


@pytest.mark.parametrize(("hook", "step"), [("on_tick", 0), ("on_tick", 3), ("on_samples", 4), ("on_checkpoint", 2)])
@pytest.mark.parametrize("error", [ValueError("boom"), GanzooError("boom")], ids=["error", "sentence"])
def test_an_observer_that_fails_ends_the_run_with_its_name_on_it(tmp_path, hook, step, error):
    bystander = Watcher()
    extra_observers = {"bystander": bystander, **failing_in(hook, error, step)}
    with pytest.raises(GanzooError, match=rf"^Observer clumsy failed in {hook}: .*boom") as failed:
        train(tmp_path / "a", extra_observers=extra_observers, tick_every="1 steps", checkpoint_every="1 steps")
    assert bystander.calls[-1] == "on_run_end"
    assert bystander.error is failed.value
    assert not (tmp_path / "a" / "lock").exists()
    resume(tmp_path / "a", ZOO, note=ignore)
    whole = files(train(tmp_path / "whole", tick_every="1 steps", checkpoint_every="1 steps"))
    assert files(tmp_path / "a") == whole


@pytest.mark.parametrize("hook", ["on_run_start", "on_samples"])
def test_a_run_refused_before_its_first_step_is_not_in_the_way(tmp_path, hook):
    out = tmp_path / "a"
    with pytest.raises(GanzooError, match=rf"^Observer clumsy failed in {hook}: boom"):
        train(out, extra_observers=failing_in(hook, GanzooError("boom")))
    assert not out.exists()
    before = files(train(out, 4))
    with pytest.raises(GanzooError, match=r"^Observer clumsy failed in on_run_start: boom"):
        train_to(out, 8, extra_observers=failing_in("on_run_start", GanzooError("boom")))
    after = files(out)  # a run that has begun is never removed
    assert {**after, "recipe": None} == {**before, "recipe": None}


def test_an_observer_that_fails_at_the_end_hides_no_error_and_no_result(tmp_path):
    def at_end(hook: str, progress: TrainingProgress | None) -> None:
        if hook == "on_run_end":
            raise ValueError("too late")

    bystander = Watcher()
    with pytest.raises(GanzooError, match=r"^Observer late failed in on_run_end: ValueError: too late"):
        train(tmp_path / "a", extra_observers={"late": Watcher(at_end), "bystander": bystander})
    assert bystander.calls[-1] == "on_run_end"
    assert files(tmp_path / "a") == files(train(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        train(tmp_path / "b", extra_observers={"late": Watcher(at_end), **stopping_at(2)})


def test_a_misspelt_hook_is_found_before_the_first_step(tmp_path):
    class Misspelt:
        @ganzoo.hookimpl
        def on_tik(self, run: Run) -> None: ...

    class Greedy:
        @ganzoo.hookimpl
        def on_tick(self, run: Run, game: Any) -> None: ...

    for observer, words in ((Misspelt(), "unknown hook 'on_tik'"), (Greedy(), "game")):
        out = tmp_path / type(observer).__name__
        with pytest.raises(GanzooError, match=f"^Observer mine: .*{words}") as error:
            train(out, extra_observers={"mine": observer})
        assert "\n" not in str(error.value)
        assert not (out / "lock").exists()
        assert not (out / "stats.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words", "kept"),
    [
        ({"tick_every": "1 steps"}, "loss of Souring .* is nan in step 5", 4),
        ({"tick_every": "100 steps"}, "loss of Souring .* is nan in step 5", 4),
    ],
)
def test_a_run_that_diverges_stops_with_one_sentence_and_keeps_the_last_checkpoint(tmp_path, changes, words, kept):
    changes |= {"checkpoint_every": "2 steps", "subset": "all", "losses": ["nonsaturating", f"{SOURING}:after=64"]}
    with pytest.raises(GanzooError, match=f"The training has diverged: .*{words}") as error:
        train(tmp_path / "a", 20, **changes)
    assert "\n" not in str(error.value)
    found = checkpoints.load_latest(tmp_path / "a" / "checkpoints")
    assert found is not None
    assert found[1]["step"] == kept
    newest = Run.open(tmp_path / "a").newest("generators", ".safetensors")
    assert newest is not None
    assert int(newest.stem) == found[1]["images"]  # no generator of a diverged state is saved
    assert all(np.isfinite(line["discriminator_loss"]) for line in Run.open(tmp_path / "a").lines("stats.jsonl"))
    assert not (tmp_path / "a" / "lock").exists()


def test_what_cannot_be_built_leaves_no_directory(tmp_path):
    with pytest.raises(UsageError, match="larger than the 40 training images"):
        train(tmp_path / "a", batch_size=50, batch_order="epochs-drop-last")
    assert not (tmp_path / "a").exists()


def test_a_run_is_resumed_by_one_process_only(tmp_path):
    out = train(tmp_path / "a", 4)
    before = files(out)
    writer = Run.open(out, writes=True)
    with pytest.raises(GanzooError, match=f"being written by process {os.getpid()}"):
        train_to(out, 8)
    writer.close()
    assert files(out) == before
    train_to(out, 8)


def test_a_run_without_its_checkpoints_does_not_start_again(tmp_path):
    out = train(tmp_path / "a", 8, checkpoint_every="4 steps")
    shutil.rmtree(out / "checkpoints")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(GanzooError, match="has been trained and has no checkpoint to continue from"):
        train_to(out, 12)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", ["", "unlinked", "damaged"])
def test_a_run_with_one_generator_and_no_checkpoint_does_not_start_again(tmp_path, damage):
    out = train(tmp_path / "a", 8, checkpoint_every="99 steps")
    shutil.rmtree(out / "checkpoints")
    if damage == "unlinked":
        (out / "history.json").unlink()  # as in a run of version 0.1.0
    elif damage == "damaged":
        (out / "history.json").write_text("{")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert len(list((out / "generators").iterdir())) == 1
    for more in ({}, {"length": Amount(12, "steps")}):
        with pytest.raises(GanzooError, match="has no checkpoint to continue from: put its folder checkpoints back"):
            resume(out, ZOO, note=ignore, **more)
    shutil.rmtree(out / "generators")
    if damage != "unlinked":
        with pytest.raises(GanzooError, match="has no checkpoint to continue from"):
            resume(out, ZOO, note=ignore)
    sampled = [path for path in before if path.parent.name != "generators"]
    assert all(path.read_bytes() == before[path] for path in sampled)


def test_a_run_killed_between_its_first_generator_and_its_first_checkpoint_starts_again(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def save(*arguments: Any, **more: Any) -> Path:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", save)
        with pytest.raises((Killed, GanzooError)):
            train(tmp_path / "killed", 8, checkpoint_every="99 steps")
    out = tmp_path / "killed"
    assert len(list((out / "generators").iterdir())) == 1
    resume(out, ZOO, note=ignore)
    assert files(out) == files(train(tmp_path / "whole", 8, checkpoint_every="99 steps"))


def test_a_run_that_is_scored_is_not_made_shorter(tmp_path):
    scored = {"evaluators": f"{tiny.__file__}:Brightness", "score_every": "5 steps", "score_samples": 20}
    out = train(tmp_path / "a", 4, **scored)
    with pytest.raises(UsageError, match="has already trained for 4 steps, more than 3 steps"):
        train_to(out, 3)
    with (out / "scores.jsonl").open("ab") as file:
        file.write(b"\xff\xfe")  # torn
    train_to(out, 5)


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    out = train(tmp_path / "a", 4)
    changed = json.loads((out / "recipe.json").read_text())
    changed["architecture"]["options"]["width"] = 7
    (out / "recipe.json").write_text(json.dumps(changed))
    with pytest.raises(
        GanzooError,
        match=r"recipe.json is not the recipe that the run was trained with \(architecture is .*new run",
    ):
        train_to(out, 8)
    assert not (out / "lock").exists()


# --- real processes ---


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_process_that_is_stopped_or_killed_can_be_resumed(tmp_path, number, status):
    changes = {"tick_every": "5 steps", "checkpoint_every": "10 steps", "samples_every": "100k steps"}
    out = tmp_path / "a"
    command = [sys.executable, "-m", "ganzoo", "train", TINY, "digits:size=8", "--steps", "1M", "--out", str(out), "-q"]
    command += ["--subset", "first 40", *(f"--{k.replace('_', '-')}={v}" for k, v in changes.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        command, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            wait_for(lambda: len(list(out.glob("checkpoints/0*"))) >= 2, process)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == status
    assert "Traceback" not in stderr
    found = checkpoints.load_latest(out / "checkpoints")
    assert found is not None
    step, images = found[1]["step"], found[1]["images"]
    if number != signal.SIGKILL:
        assert f"Stopped by {signal_in_words(number)} after step {step}; everything is saved." in stderr
        assert f"ganzoo resume {shlex.quote(str(out))}" in stderr
        assert not (out / "lock").exists()
    train_to(out, step + 7)
    whole, resumed = files(train(tmp_path / "whole", step + 7, **changes)), files(out)
    # the generator that a signal has saved can be sampled from, and stays
    assert (resumed if number == signal.SIGKILL else without_ends(resumed, whole, images)) == whole


# --- learning rates ---


def test_a_linear_decay_ends_with_the_run_and_a_rate_of_zero_is_noted(tmp_path):
    notes: list[str] = []
    changes = {"subset": "all", "batch_size": 16, "tick_every": "1 steps"}
    linear = dict.fromkeys(("generator_optimizer", "discriminator_optimizer"), "adam:lr=1e-3,decay=linear")
    start(recipe(8, **changes, **linear), tmp_path / "a", ZOO, CPU, note=notes.append)
    resume(tmp_path / "a", ZOO, length=Amount(12, "steps"), note=notes.append)
    assert notes == []
    assert replay(tmp_path / "a", ZOO, 12)["same"]
    fixed = {"generator_optimizer": "adam:decay_images=64", "discriminator_optimizer": "adam:lr=0"}
    start(recipe(8, **changes, **fixed), tmp_path / "b", ZOO, CPU, note=notes.append)
    assert [note.partition(":")[0] for note in notes] == [
        "The learning rate of the generator is 0 in all steps after step 4, of 8",
        "The learning rate of the discriminator is 0 in all steps after step 0, of 8",
    ]
    notes.clear()
    resume(tmp_path / "b", ZOO, length=Amount(12, "steps"), note=notes.append)
    assert [note.partition(":")[0] for note in notes] == [
        "The learning rate of the generator is 0 in all steps after step 8, of 12",
        "The learning rate of the discriminator is 0 in all steps after step 8, of 12",
    ]
