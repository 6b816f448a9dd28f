"""Random sequences of commands on one run directory: train, stop, kill, resume, lengthen, score by hand, sample.

After every command the run is compared with uninterrupted runs of the same recipe, bit for bit. Quick here; many more
sequences, and mutants that the comparison must notice, under the `slow` marker.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import ZOO, sample, tiny_recipe
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import ganzoo
from ganzoo import Amount, Choice, GanzooError, Recipe, TrainingProgress, UsageError
from ganzoo.engine.game import Game
from ganzoo.results.evaluate import evaluate
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.checkpointer import Checkpointer
from ganzoo.training.train import Interrupted, resume, start

CPU = torch.device("cpu")
BRIGHTNESS = Choice(f"{tiny.__file__}:Brightness")
#: no run is trained for more steps
LONGEST = 12
HOOKS = ("on_tick", "on_samples", "on_score", "on_checkpoint")


def recipe(steps: int) -> Recipe:
    """Five steps an epoch, the last batch smaller; dropout, an EMA, a loss with a buffer; intervals that overlap."""
    return tiny_recipe(
        length=f"{steps} steps",
        subset="first 72",
        tick_every="2 steps",
        samples_every="3 steps",
        checkpoint_every="4 steps",
        evaluators=[str(BRIGHTNESS)],
        score_every="5 steps",
        score_samples=16,
        ema_half_life=50,
        losses=["nonsaturating", f"{tiny.__file__}:Remembering"],
    )


#: hook, steps after the newest checkpoint, and what happens then; None: the command ends by itself
End = tuple[str, int, Callable[[], None]] | None


class Killed(BaseException):
    """Ends a run as a crash would."""


class At:
    """Does something at the first call of a hook at or after a step."""

    def __init__(self, hook: str, step: int, act: Callable[[], None]) -> None:
        self.hook, self.step, self.act = hook, step, act

    def _called(self, hook: str, progress: TrainingProgress) -> None:
        if hook == self.hook and progress.step >= self.step:
            self.act()

    @ganzoo.hookimpl
    def on_tick(self, run: Run, progress: TrainingProgress) -> None:
        self._called("on_tick", progress)

    @ganzoo.hookimpl
    def on_samples(self, run: Run, progress: TrainingProgress) -> None:
        self._called("on_samples", progress)

    @ganzoo.hookimpl
    def on_score(self, run: Run, progress: TrainingProgress) -> None:
        self._called("on_score", progress)

    @ganzoo.hookimpl
    def on_checkpoint(self, run: Run, progress: TrainingProgress) -> None:
        self._called("on_checkpoint", progress)


def kill() -> None:
    raise Killed


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# --- uninterrupted runs ---


@cache
def uninterrupted(folder: Path, steps: int) -> Path:
    """A run of so many steps."""
    out = folder / f"uninterrupted-{steps}"
    start(recipe(steps), out, ZOO, CPU, note=lambda text: None)
    return out


def state(out: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """The step and the tensors of the newest checkpoint; none of its files is damaged."""
    saved = checkpoints.load_latest(out / "checkpoints")
    if saved is None:
        return 0, {}
    assert saved.notes == []
    return saved.meta["step"], saved.tensors


def stats(out: Path) -> list[dict[str, Any]]:
    lines = Run.open(out).lines("stats.jsonl")
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def training_scores(out: Path) -> list[tuple[Any, ...]]:
    lines = [line for line in Run.open(out).lines("scores.jsonl") if line["training"]]
    return [tuple(line.get(key) for key in ("step", "images", "score", "value", "partial")) for line in lines]


def hand_scores(out: Path) -> list[dict[str, Any]]:
    return [line for line in Run.open(out).lines("scores.jsonl") if not line["training"]]


def files(out: Path, *folders: str) -> dict[str, bytes]:
    found = [path for folder in folders for path in (out / folder).glob("*") if path.stem.isdecimal()]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


@cache
def expected(folder: Path, steps: int, what: Callable[[Path], Any]) -> Any:
    """What `what` finds in the uninterrupted run."""
    return what(uninterrupted(folder, steps))


def pictures_and_generators(out: Path) -> dict[str, bytes]:
    return files(out, "samples", "generators")


# --- the machine ---


class RunMachine(RuleBasedStateMachine):
    """The commands on one run directory, and what is true after each of them."""

    folder: Path
    runs = 0
    #: situations that the sequences so far have reached
    reached: set[str] = set()

    def __init__(self) -> None:
        super().__init__()
        type(self).runs += 1
        self.out = self.folder / f"run-{self.runs}"
        self.length = self.saved_step = 0
        #: whether the run has reached its length, and whether its last process ended by itself
        self.finished = self.clean = False
        self.by_hand: list[dict[str, Any]] = []
        #: steps of the checkpoints from which the run was continued: it may have been ended there
        self.ends: set[int] = set()

    def expected(self, steps: int, what: Callable[[Path], Any]) -> Any:
        return expected(self.folder, steps, what)

    def images(self, steps: int) -> int:
        return steps // 5 * 72 + steps % 5 * 16

    def steps(self, images: int) -> int:
        return images // 72 * 5 + images % 72 // 16

    def train(self, begin: Callable[[dict[str, object]], Any], end: End) -> None:
        """Start or resume; `end` stops or kills it. Where it never happens, the run is finished afterwards."""
        self.ends.add(self.saved_step)
        self.finished = self.clean = False
        kept = self.up_to(self.saved_step) if self.out.exists() else {}
        try:
            begin({"end": At(end[0], self.saved_step + end[1], end[2])} if end else {})
            self.finished = self.clean = True
        except Killed:
            self.reached.add("killed")
            step, _ = state(self.out)
            written = [row[0] for row in training_scores(self.out)]
            if not step:
                self.reached.add("killed before the first checkpoint")
            if max([line["step"] for line in stats(self.out)], default=0) > step:
                self.reached.add("killed with lines beyond the checkpoint")
            if self.length in written:
                self.reached.add("killed after the last score")
            self.finished = step == self.length and step in written  # killed after its last file
            self.leave_traces(step)
        except Interrupted as stopped:
            self.reached.add("stopped")
            step, _ = state(self.out)
            if f"after step {step};" not in str(stopped):
                raise
        # nothing that the run had at its newest checkpoint is lost
        assert kept.items() <= pictures_and_generators(self.out).items()

    def up_to(self, step: int) -> dict[str, bytes]:
        """The grids and generators of so many steps and fewer."""
        found = pictures_and_generators(self.out)
        return {name: content for name, content in found.items() if self.steps(int(Path(name).stem)) <= step}

    def leave_traces(self, step: int) -> None:
        """What a process leaves that is killed while it writes, and its lock."""
        (self.out / "samples").mkdir(exist_ok=True)
        for name in (".stats.jsonl.5c1e", "samples/.000000016.png.5c1e"):
            (self.out / name).write_bytes(b"half")
        (self.out / "checkpoints").mkdir(exist_ok=True)
        (self.out / "checkpoints" / f".tmp-{self.images(step + 1):09d}-5c1e").mkdir(exist_ok=True)
        with open(self.out / "stats.jsonl", "a") as file:
            file.write('{"step": ')
        lock = {"pid": os.getpid(), "host": socket.gethostname(), "start": "another life", "boot": "another boot"}
        (self.out / "lock").write_text(json.dumps(lock))

    ends = st.one_of(
        st.tuples(st.sampled_from(HOOKS), st.integers(0, 4), st.just(kill)),
        st.tuples(st.sampled_from(HOOKS), st.integers(0, 4), st.sampled_from([stop, kill])),
        st.none(),
    )

    @initialize(length=st.integers(1, LONGEST).map(lambda n: LONGEST + 1 - n), end=ends)
    def start(self, length: int, end: End) -> None:
        self.length = length
        self.train(
            lambda more: start(recipe(length), self.out, ZOO, CPU, note=lambda text: None, extra_observers=more), end
        )

    @rule(end=ends)
    def resume(self, end: End) -> None:
        notes: list[str] = []
        dead = (self.out / "lock").exists()
        if self.finished:
            with pytest.raises(UsageError, match="has already trained for"):
                resume(self.out, ZOO, note=notes.append)
            return
        self.reached.add("resumed inside an epoch" if self.saved_step % 5 else "resumed between epochs")
        self.train(lambda more: resume(self.out, ZOO, note=notes.append, extra_observers=more), end)
        assert any("has died without finishing" in note for note in notes) == dead

    @precondition(lambda self: self.length < LONGEST)
    @rule(more=st.integers(1, 5), end=ends)
    def lengthen(self, more: int, end: End) -> None:
        if self.finished and stats(self.out)[-1].get("partial"):
            self.reached.add("lengthened after a partial line")
        self.length = min(self.length + more, LONGEST)
        length = Amount(self.length, "steps")
        self.train(
            lambda observers: resume(self.out, ZOO, length=length, note=lambda text: None, extra_observers=observers),
            end,
        )

    @precondition(lambda self: self.generators_of_steps())
    @rule(seed=st.integers(0, 2), choice=st.integers(0, 9), newest=st.booleans())
    def score_by_hand(self, seed: int, choice: int, newest: bool) -> None:
        images = self.generator(choice, newest)
        lines = evaluate(self.out, ZOO, CPU, samples=8, seed=seed, at=None if newest else images)
        assert {line["images"] for line in lines} == {images}
        if self.steps(images) > self.saved_step:
            self.reached.add("scored beyond the checkpoint")
        self.by_hand += lines

    @precondition(lambda self: self.generators_of_steps())
    @rule(seed=st.integers(0, 2), choice=st.integers(0, 9), newest=st.booleans())
    def sample(self, seed: int, choice: int, newest: bool) -> None:
        """The same images as from the uninterrupted run of as many steps."""
        images = self.generator(choice, newest)
        drawn = [
            np.load(sample(run, ZOO, CPU, self.folder / "images.npy", count=6, seed=seed, at=at))
            for run, at in (
                (self.out, None if newest else images),
                (uninterrupted(self.folder, self.steps(images)), None),
            )
        ]
        assert np.array_equal(*drawn)

    def generators_of_steps(self) -> list[int]:
        """The images seen by the generators of the run, without one that was saved before the first step."""
        return sorted(images for name in files(self.out, "generators") if (images := int(Path(name).stem)))

    def generator(self, choice: int, newest: bool) -> int:
        """The images seen by one of the generators of the run."""
        seen = self.generators_of_steps()
        return seen[-1] if newest else seen[choice % len(seen)]

    # --- what is always true ---

    @invariant()
    def the_state_is_that_of_an_uninterrupted_run(self) -> None:
        step, tensors = state(self.out)
        assert step >= self.saved_step  # a checkpoint is never lost
        self.saved_step = step
        if self.finished:
            assert step == self.length
        if step:
            _, others = self.expected(step, state)
            assert tensors.keys() == others.keys()
            assert [name for name, value in tensors.items() if not torch.equal(value, others[name])] == []

    @invariant()
    def each_tick_is_written_once_and_in_order(self) -> None:
        lines = stats(self.out)
        steps = [line["step"] for line in lines]
        if self.finished:
            assert lines == self.expected(self.length, stats)
        assert steps == sorted(set(steps))
        assert [step for step in range(2, steps[-1] + 1, 2) if step not in steps] == [] if steps else True
        for line in lines:
            assert line == self.expected(line["step"], stats)[-1]

    @invariant()
    def no_score_is_lost_or_made_twice(self) -> None:
        assert hand_scores(self.out) == self.by_hand
        scores = training_scores(self.out)
        if self.finished:
            # the scores of earlier ends stay
            of_ends = [row for row in scores if row[4] and row[0] != self.length]
            assert {row[0] for row in of_ends} <= self.ends
            assert [row for row in scores if row not in of_ends] == self.expected(self.length, training_scores)
        assert len({(row[0], row[2]) for row in scores}) == len(scores)
        for row in scores:
            assert row in self.expected(row[0], training_scores)

    @invariant()
    def pictures_and_generators_are_those_of_uninterrupted_runs(self) -> None:
        found = pictures_and_generators(self.out)
        if self.finished:
            expected = self.expected(self.length, pictures_and_generators).keys()
            assert expected <= found.keys()
            assert {self.steps(int(Path(name).stem)) for name in found.keys() - expected} <= self.ends
        for name, content in found.items():
            steps = self.steps(int(Path(name).stem))
            if not steps and name.startswith("generators"):
                continue  # only a run that was stopped before its first step saves one of no images
            assert content == self.expected(steps or 1, pictures_and_generators)[name], name

    @invariant()
    def there_is_one_writer_at_a_time(self) -> None:
        if (self.out / "lock").exists():  # of a dead process: the next resume takes it over
            return
        writer = Run.open(self.out, writes=True)
        try:
            with pytest.raises(GanzooError, match=f"being written by process {os.getpid()}"):
                Run.open(self.out, writes=True)
        finally:
            writer.close()

    @invariant()
    def a_run_that_ended_by_itself_leaves_nothing_behind(self) -> None:
        if self.clean:
            hidden = [path.name for path in self.out.rglob(".*")]
            assert hidden == []
            assert Run.open(self.out).recipe == recipe(self.length)


def run_machine(folder: Path, examples: int, steps: int, phases: tuple[Phase, ...] = (Phase.generate,)) -> None:
    RunMachine.folder, RunMachine.reached = folder, set()
    checks = list(HealthCheck)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        RunMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=checks,
        ),
    )


def run_fixed_sequences(folder: Path) -> None:
    """A stop, a kill with lines beyond the checkpoint, and a stop before the first step; each is continued."""
    RunMachine.folder, RunMachine.reached = folder, set()
    checks = (
        RunMachine.the_state_is_that_of_an_uninterrupted_run,
        RunMachine.each_tick_is_written_once_and_in_order,
        RunMachine.no_score_is_lost_or_made_twice,
        RunMachine.pictures_and_generators_are_those_of_uninterrupted_runs,
        RunMachine.there_is_one_writer_at_a_time,
        RunMachine.a_run_that_ended_by_itself_leaves_nothing_behind,
    )
    for end in (("on_tick", 3, stop), ("on_tick", 4, kill), ("on_samples", 0, stop)):
        machine = RunMachine()
        machine.start(length=LONGEST, end=end)
        for check in checks:
            check(machine)
        machine.resume(end=None)
        for check in checks:
            check(machine)


def test_a_stopped_and_a_killed_run_are_continued(tmp_path: Path) -> None:
    run_fixed_sequences(tmp_path)
    assert RunMachine.reached >= {"killed", "stopped", "killed with lines beyond the checkpoint"}


def test_any_sequence_of_commands_leaves_what_an_uninterrupted_run_leaves(tmp_path: Path) -> None:
    run_machine(tmp_path, examples=7, steps=7)
    assert len(RunMachine.reached) >= 3  # which ones depends on the version of hypothesis


@pytest.mark.slow
def test_many_sequences(tmp_path: Path) -> None:
    run_machine(tmp_path, examples=100, steps=20)
    assert RunMachine.reached == {
        "killed",
        "stopped",
        "killed before the first checkpoint",
        "killed with lines beyond the checkpoint",
        "killed after the last score",
        "resumed inside an epoch",
        "resumed between epochs",
        "lengthened after a partial line",
        "scored beyond the checkpoint",
    }


def _forget_the_ema(restore: Any) -> Any:
    def mutant(self: Game, tensors: dict[str, torch.Tensor]) -> None:
        fresh = {name: value.clone() for name, value in self.state().items() if name.startswith("average/")}
        restore(self, {**tensors, **fresh})

    return mutant


#: owner, method, and what is done instead
MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "files beyond the checkpoint stay": (Run, "cut_back", lambda plain: lambda *arguments: None),
    "the EMA is not restored": (Game, "restore", _forget_the_ema),
    "nothing is restored": (Game, "restore", lambda plain: lambda self, tensors: None),
    "no checkpoint is written": (Checkpointer, "write", lambda plain: lambda self, snapshot: None),
    "no score is appended": (
        Run,
        "append",
        lambda plain: lambda self, name, *lines: plain(self, name, *lines) if name == "stats.jsonl" else None,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_machine_notices(mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in range(1, LONGEST + 1):
        for what in (state, stats, training_scores, pictures_and_generators):
            expected(tmp_path, steps, what)
    owner, method, change = MUTANTS[mutant]
    monkeypatch.setattr(owner, method, change(getattr(owner, method)))
    with pytest.raises((AssertionError, GanzooError)):
        run_machine(tmp_path, examples=30, steps=10)
