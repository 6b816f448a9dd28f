"""Scores during training: they change nothing, are complete after a stop or a crash, and keep the best checkpoint."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import ZOO, tiny_recipe
from helpers import ganzoo as run_ganzoo
from safetensors.torch import load_file

import ganzoo
from ganzoo import Amount, Choice, Recipe, TrainingProgress, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.results.evaluate import evaluate
from ganzoo.results.load import load_generator
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import Interrupted, resume, start

CPU = torch.device("cpu")
BRIGHTNESS = f"{tiny.__file__}:Brightness"
SCORED = {"evaluators": [BRIGHTNESS], "score_every": "3 steps", "score_samples": 64}


def recipe(steps: int = 10, **changes: Any) -> Recipe:
    fields = {"subset": "first 40", "length": f"{steps} steps", "checkpoint_every": "2 steps", **changes}
    return tiny_recipe(**fields)


def train(out: Path, steps: int = 10, **changes: Any) -> Path:
    start(recipe(steps, **changes), out, ZOO, CPU, note=lambda text: None)
    return out


def state(out: Path) -> dict[str, Any]:
    saved = checkpoints.load_latest(out / "checkpoints")
    assert saved is not None
    return {name: value.tolist() for name, value in saved.tensors.items()}


def scores(out: Path) -> list[tuple[Any, ...]]:
    return [
        (line["score"], line["value"], line["step"], line["images"], line.get("partial", False))
        for line in Run.open(out).lines("scores.jsonl")
        if line["training"]
    ]


def left(out: Path) -> dict[str, Any]:
    """All files of a run, its state and its scores, without times."""
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    return {"names": names, "state": state(out), "scores": scores(out)}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("scored") / "run", **SCORED)


def test_scores_come_at_their_interval_and_at_the_end(scored):
    found = scores(scored)
    assert [row[2] for row in found if row[0] == "brightness"] == [3, 6, 9, 10]
    assert [row[4] for row in found if row[0] == "brightness"] == [False, False, False, True]
    assert {row[0] for row in found} == {"brightness", "reals", "fakes"}
    assert {row[1] for row in found if row[0] == "fakes"} == {64}


def test_scores_change_no_bit_of_the_training(scored, tmp_path):
    plain = train(tmp_path / "plain")
    assert state(scored) == state(plain)
    for file in (plain / "samples").iterdir():
        assert file.read_bytes() == (scored / "samples" / file.name).read_bytes()
    for file in (plain / "generators").iterdir():  # their metadata hold the recipes, which differ
        weights, others = load_file(file), load_file(scored / "generators" / file.name)
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_what_was_scored_can_be_scored_again(scored):
    for line in [line for line in Run.open(scored).lines("scores.jsonl") if line["score"] == "brightness"]:
        again = evaluate(scored, ZOO, CPU, [Choice(BRIGHTNESS)], samples=64, at=line["images"])[0]
        assert again["value"] == line["value"]
        assert again["card"]["digest"] == line["card"]["digest"]


def test_the_best_is_kept_beside_the_last_two(tmp_path):
    class Recorder:
        """Collects the images seen at each score."""

        @ganzoo.hookimpl
        def on_score(self, run: Run, progress: TrainingProgress, scores: list[dict[str, Any]]) -> None:
            order.append(progress.images)

    order: list[int] = []
    out = tmp_path / "run"
    fields = {**SCORED, "best_by": "reals", "score_every": "2 steps"}  # always 1498: the first of equals is the best
    start(recipe(12, **fields), out, ZOO, CPU, note=lambda text: None, extra_observers={"recorder": Recorder()})
    best = Run.open(out).best()
    assert best is not None
    assert (best["score"], best["images"]) == ("reals", order[0])
    kept = sorted(int(path.name) for path in (out / "checkpoints").iterdir())
    assert kept == [order[0], *order[-2:]]
    trained = load_generator(out, ZOO, CPU, "best")
    assert trained.images_seen == order[0]
    assert order[0] < load_generator(out, ZOO, CPU).images_seen


def test_best_is_the_lowest_or_the_highest_of_what_was_measured_alike(tmp_path):
    run = Run(tmp_path, Recipe())
    assert run.best() is None
    for value, digest, better in ((1.0, "a", "lower"), (0.1, "b", "lower"), (2.0, "a", "lower")):
        more = {"card": {"digest": digest}, "step": 1, "images": 16}
        run.append("scores.jsonl", {"score": "x", "value": value, "better": better, "training": True, **more})
    run.append("scores.jsonl", {"score": "x", "value": 0.0, "better": "lower", "training": False, **more})
    assert run.best()["value"] == 1.0
    for value in (3.0, 5.0, 4.0):
        more["card"] = {"digest": "c"}
        run.append("scores.jsonl", {"score": "y", "value": value, "better": "higher", "training": True, **more})
    assert Run(tmp_path, Recipe(best_by="y")).best()["value"] == 5.0


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_run_stopped_anywhere_and_resumed_has_the_same_scores(scored, tmp_path, stop):
    class Stop:
        """Ends the run in the middle."""

        @ganzoo.hookimpl
        def on_tick(self, run: Run, progress: TrainingProgress, scalars: dict[str, Any]) -> None:
            if progress.step == stop:
                raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="Stopped at once"):
        start(
            recipe(**SCORED, tick_every="1 steps"),
            out,
            ZOO,
            CPU,
            note=lambda text: None,
            extra_observers={"stop": Stop()},
        )
    resume(out, ZOO, note=lambda text: None)
    assert left(out)["scores"] == scores(scored)[: len(left(out)["scores"])]
    assert state(out).keys() == state(scored).keys()
    assert len(left(out)["scores"]) == 12


def test_a_crash_before_the_last_checkpoint_is_a_run_that_has_not_ended(scored, tmp_path):
    class Crash:
        """Ends the run after the last score, before the last checkpoint."""

        @ganzoo.hookimpl
        def on_score(self, run: Run, progress: TrainingProgress, scores: list[dict[str, Any]]) -> None:
            if progress.step == 10:
                raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="Stopped at once"):
        start(recipe(**SCORED), out, ZOO, CPU, note=lambda text: None, extra_observers={"crash": Crash()})
    assert len(scores(out)) == 12
    resume(out, ZOO, note=lambda text: None)
    assert left(out) == left(scored)


def test_a_longer_run_keeps_the_score_of_its_first_end(scored, tmp_path):
    short = train(tmp_path / "short", steps=7, **SCORED)
    assert [row[2] for row in scores(short)][::3] == [3, 6, 7]
    resume(short, ZOO, length=Amount(10, "steps"), note=lambda text: None)
    # the generator of step 7 stays and can be named, and so do its scores
    assert [row for row in scores(short) if row[2] != 7] == scores(scored)
    assert len([row for row in scores(short) if row[2] == 7]) == 3
    assert state(short) == state(scored)


def test_the_share_of_scoring_is_noted(tmp_path):
    said: list[str] = []
    start(recipe(**SCORED), tmp_path / "run", ZOO, CPU, note=said.append)
    assert any(line.startswith("Scoring took ") and line.endswith("% of the run.") for line in said)


def test_one_missing_score_of_the_last_step_is_made_up(tmp_path):
    out = train(tmp_path / "run", **SCORED)
    lines = (out / "scores.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('{"score": "reals"' in line and '"step": 10,' in line)]
    assert len(kept) == len(lines) - 1
    (out / "scores.jsonl").write_text("".join(kept))
    resume(out, ZOO, note=lambda text: None)
    steps = {name: [row[2] for row in scores(out) if row[0] == name] for name in ("brightness", "reals", "fakes")}
    assert all(found == [3, 6, 9, 10] for found in steps.values())
    with pytest.raises(UsageError, match="has already trained"):
        resume(out, ZOO, note=lambda text: None)


def test_an_unknown_best_by_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(
        UsageError, match="--best-by 'fid' is not a score of this run; it has: brightness, reals, fakes"
    ):
        start(recipe(**SCORED, best_by="fid"), tmp_path / "run", ZOO, CPU, note=lambda text: None)
    assert not (tmp_path / "run").exists()


def test_a_part_whose_file_has_changed_is_refused_without_accept_changed_code(tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text(Path(tiny.__file__).read_text())
    out = tmp_path / "run"
    fields = {"length": "4 steps", "subset": "first 40", "losses": ["nonsaturating", f"{copy}:Remembering"]}
    mine = plan(ZOO, Choice(f"{copy}:Tiny"), Choice("digits", {"size": 8}), None, fields)
    with pytest.raises(Interrupted):
        start(mine, out, ZOO, CPU, note=lambda text: None, extra_observers={"stop": _Signal()})
    copy.write_text(copy.read_text() + "\n# another comment\n")
    for command in (lambda: resume(out, ZOO), lambda: evaluate(out, ZOO, CPU, [Choice(BRIGHTNESS)], samples=64)):
        with pytest.raises(ganzoo.GanzooError, match=r"mine\.py has changed since .* --accept-changed-code"):
            command()
    evaluate(out, ZOO, CPU, [Choice(BRIGHTNESS)], samples=64, changed_code=True)
    resume(out, ZOO, changed_code=True, note=lambda text: None)


def test_a_part_that_imports_a_changed_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helping_hand.py").write_text("BIAS = 0.5\n")
    (tmp_path / "helping").mkdir()
    (tmp_path / "helping" / "other.py").write_text("")
    copy = tmp_path / "mine.py"
    copy.write_text(Path(tiny.__file__).read_text() + "\nimport helping_hand\n")
    out = tmp_path / "run"
    fields = {"length": "4 steps", "subset": "first 40", "losses": ["nonsaturating", f"{copy}:Remembering"]}
    mine = plan(ZOO, Choice(f"{copy}:Tiny"), Choice("digits", {"size": 8}), None, fields)
    start(mine, out, ZOO, CPU, note=lambda text: None)
    parts = json.loads((out / "environment.json").read_text())["parts"]
    assert list(parts["architecture"][0]["imports"]) == list(parts["losses"][1]["imports"]) == ["helping_hand.py"]
    (tmp_path / "helping" / "other.py").write_text("# not imported")
    resume(out, ZOO, length=Amount(5, "steps"), note=lambda text: None)
    for change in (lambda file: file.write_text("BIAS = 0.7\n"), Path.unlink):
        change(tmp_path / "helping_hand.py")
        for command in (lambda: resume(out, ZOO), lambda: evaluate(out, ZOO, CPU, [Choice(BRIGHTNESS)], samples=64)):
            with pytest.raises(
                ganzoo.GanzooError, match=r"helping_hand\.py has changed since .* --accept-changed-code"
            ):
                command()
    notes: list[str] = []
    resume(out, ZOO, length=Amount(6, "steps"), changed_code=True, note=notes.append)
    assert notes[0].startswith(f"Resumed with another architecture ({copy}:Tiny of sha256 ")
    assert "helping_hand.py " in notes[0]


def test_scores_that_cannot_be_compared_are_mentioned_beside_the_best(tmp_path):
    out = tmp_path / "run"
    train(out, steps=9, **SCORED)
    said = run_ganzoo("resume", out, "--steps", 12).stderr
    assert "brightness (lower is better): last " in said
    assert "not to be compared" not in said
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["score"] == "brightness"]
    assert steps == [3, 6, 9, 12]
    for line in lines[:2]:
        line["card"]["digest"] = "ffff"  # as if measured against other real images
        line["value"] = 0.0
        del line["crc"]
    (out / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = run_ganzoo("resume", out, "--steps", 15).stderr
    best = Run.open(out).best()
    assert best["value"] > 0
    assert f"best {best['value']:.4f} at {best['images']}." in said
    assert "This is the best of 4 scores. 1 earlier score was measured against other images" in said


class _Signal:
    """Asks the run to stop, as Ctrl-C would."""

    @ganzoo.hookimpl
    def on_tick(self, run: Run, progress: TrainingProgress, scalars: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_the_recipe_of_another_architecture_can_be_used(tmp_path):
    mixed = plan(ZOO, Choice("dcgan-tutorial"), Choice("digits"), "mlp-vanilla", {"length": "2 steps"})
    published = ZOO.load("architectures", Choice("mlp-vanilla")).recipe
    assert [choice.name for choice in mixed.losses] == [choice.name for choice in published.losses]
    assert (mixed.turns, mixed.batch_size) == (published.turns, published.batch_size)
    assert mixed.architecture is not None
    assert mixed.architecture.name == "dcgan-tutorial"
    with pytest.raises(UsageError, match=r"has no recipe 'mlp-vanila'\. Did you mean 'mlp-vanilla'"):
        plan(ZOO, Choice("dcgan-tutorial"), Choice("digits"), "mlp-vanila")
