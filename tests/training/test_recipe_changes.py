"""Going on with a changed recipe: `resume --set`, `--dataset`, `--early-stop`, and another run as `--recipe`."""

import json
import shutil

import numpy as np
import pytest
from helpers import SMALL_DIGITS, ZOO, ganzoo, tiny_recipe
from PIL import Image

import ganzoo as package
from ganzoo import Choice, GanzooError, UsageError
from ganzoo.contract.choice import Amount
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.device import find_device
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.replay import replay
from ganzoo.training.train import resume, start

CPU = find_device("cpu")
EVERY = {"tick_every": "2 steps", "checkpoint_every": "4 steps", "samples_every": "4 steps"}


def train(path, steps=8, **fields):
    start(tiny_recipe(length=f"{steps} steps", **{**EVERY, **fields}), path, ZOO, CPU, note=lambda text: None)
    return Run.open(path)


def go_on(path, steps=None, notes=None, **more):
    length = Amount(steps, "steps") if steps else None
    resume(path, ZOO, length=length, note=(notes if notes is not None else []).append, **more)
    return Run.open(path)


def tensors(run):
    return checkpoints.load_latest(run.path / "checkpoints").tensors


def same(one, other):
    """Whether two states have the same weights and optimiser states; the means since the last tick may differ."""
    one, other = ({name: x for name, x in state.items() if not name.startswith("meter/")} for state in (one, other))
    return one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("set") / "run").path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def files(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# --- what may be changed ---


def test_a_changed_batch_size_holds_from_its_step_on_and_is_recorded(run):
    notes = []
    before = Run.open(run).lines("stats.jsonl")
    after = go_on(run, 12, notes, changes={"batch_size": "32", "generator_optimizer.lr": "0.001"})
    assert after.recipe.batch_size == 32
    assert after.recipe.generator_optimizer.options["lr"] == 0.001
    images = [line["images"] for line in after.lines("stats.jsonl")]
    assert images == [32, 64, 96, 128, 192, 256]  # 16 images a step up to step 8, and 32 from there on
    assert after.lines("stats.jsonl")[:4] == before
    (change,) = after.history["changes"]
    assert change["step"] == 8
    assert change["fields"]["batch_size"] == {"from": 16, "to": 32}
    assert any(text.startswith("From step 8 on, batch_size is 32, it was 16") for text in notes)
    saved = checkpoints.load_latest(run / "checkpoints")
    assert json.loads(saved.meta["recipe"])["batch_size"] == 32
    assert saved.meta["history"]["changes"] == after.history["changes"]
    # it goes on, is sampled, and is changed again
    go_on(run, 16)
    assert package.load(run).sample(4) is not None
    last = go_on(run, 20, changes={"batch_size": 8})
    assert [line["images"] for line in last.lines("stats.jsonl")][-2:] == [400, 416]
    assert [entry["step"] for entry in last.history["changes"]] == [8, 16]


def test_a_killed_process_leaves_a_change_that_goes_on_the_same(run, tmp_path):
    whole = go_on(shutil.copytree(run, tmp_path / "whole"), 16, changes={"batch_size": 32})
    go_on(run, 16, changes={"batch_size": 32})
    for checkpoint in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)  # killed at step 12 or later
    killed = go_on(run)
    assert same(tensors(killed), tensors(whole))
    assert killed.history == whole.history


def test_a_change_survives_a_kill_before_its_first_checkpoint(run, trained, tmp_path):
    whole = go_on(shutil.copytree(trained, tmp_path / "whole"), 12, changes={"batch_size": 32})
    go_on(run, 12, changes={"batch_size": 32})
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(trained / "checkpoints", run / "checkpoints")  # as it was when the change was written
    killed = go_on(run)
    assert same(tensors(killed), tensors(whole))
    assert killed.history == whole.history


def test_what_changes_no_number_changes_no_weight(run, tmp_path):
    plain = go_on(shutil.copytree(run, tmp_path / "plain"), 16)
    changes = {"tick_every": 3, "grid": "1x2", "observers": "csv", "evaluators": "sliced-wasserstein"}
    changes |= {"score_every": "4 steps", "score_samples": "32"}
    notes = []
    changed = go_on(run, 16, notes, changes=changes)
    assert same(tensors(changed), tensors(plain))
    assert changed.recipe.tick_every == Amount(3, "steps")
    assert [line["step"] for line in changed.lines("scores.jsonl")] == [8, 12, 16]
    assert (run / "stats.csv").exists()
    assert not [text for text in notes if "bit for bit" in text]
    more = []
    go_on(run, 20, more)
    assert not [text for text in more if "bit for bit" in text or "has changed" in text]


def test_options_of_losses_change_and_a_set_back_value_is_the_old_training(run, tmp_path):
    plain = go_on(shutil.copytree(run, tmp_path / "plain"), 12)
    lr = Run.open(run).recipe.generator_optimizer.options["lr"]
    again = go_on(run, 12, changes={"generator_optimizer.lr": lr, "losses.label_smoothing": 0.0})
    assert same(tensors(again), tensors(plain))
    assert "changes" not in again.history
    smoothed = go_on(run, 16, changes={"losses.nonsaturating.label_smoothing": "0.1"})
    assert smoothed.recipe.losses[0].options["label_smoothing"] == 0.1


# --- what may not ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture.width": 12}, "architecture cannot change within a run: it would be another network"),
        ({"dataset": "mnist"}, "give --dataset path=NEW"),
        ({"seed": 3}, "seed cannot change within a run"),
        ({"turns": "D,D,G"}, "turns cannot change"),
        ({"epochs": 3}, "a recipe has no field 'epochs'"),
        ({"batchsize": 3}, "Did you mean 'batch_size'"),
        ({"batch_size": "many"}, "batch_size must be a whole number, not 'many'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"precision": "fp8"}, "precision='fp8' is not one of"),
        ({"generator_optimizer.lr": "fast"}, "'lr'"),
        ({"generator_optimizer.rate": 1}, "has no option 'rate'"),
        ({"generator_optimizer": "rmsprop"}, "the checkpoint holds the state of adam, which rmsprop"),
        ({"losses": "hinge"}, "the checkpoint holds the state of nonsaturating, which hinge"),
        ({"losses.r1.gamma": 1}, "name one part of losses: losses.nonsaturating.OPTION"),
        ({"ema_half_life": 100}, "has no moving average"),
        ({"batch_size.x": 1}, "batch_size is no part"),
        ({"score_every": "often"}, "'often' is not an amount"),
        ({"early_stop": "fid patience=2"}, "needs an evaluator"),
        ({"evaluators": "sliced-wasserstein", "early_stop": "fid patience=2"}, "'fid' is not a score of this run"),
        ({"early_stop": "fid patience=0"}, "the patience must be at least 1"),
    ],
)
def test_the_rest_is_refused_by_name_and_nothing_is_written(run, changes, words):
    before = files(run)
    with pytest.raises(UsageError) as refused:
        go_on(run, 12, changes=changes)
    assert words in str(refused.value)
    assert files(run) == before


def test_an_edited_recipe_is_still_noticed(run):
    go_on(run, 12, changes={"batch_size": 32})
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**recipe, "batch_size": 64}))
    with pytest.raises(GanzooError, match="batch_size is 64, it was"):
        go_on(run, 16)
    (run / "recipe.json").write_text(json.dumps({**recipe, "batch_size": 16}))  # the first value, but not the last
    with pytest.raises(GanzooError, match="batch_size is 16, it was 32"):
        go_on(run, 16)


def test_a_lost_history_is_read_from_the_checkpoint(run):
    go_on(run, 12, changes={"batch_size": 32})
    (run / "history.json").unlink()
    assert go_on(run, 16).recipe.batch_size == 32


def test_replay_refuses_steps_before_the_change(run):
    go_on(run, 16, changes={"batch_size": 32})
    assert replay(run, ZOO, 14, note=lambda text: None)["images"] == 8 * 16 + 6 * 32
    with pytest.raises(GanzooError, match="the recipe was changed after step 8"):
        replay(run, ZOO, 8, note=lambda text: None)


def test_the_command_line_and_python_change_the_same(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    result = ganzoo("resume", run, "--steps", 12, "--set", "batch_size=32", "--set", "grid=1x2", "-q")
    assert result.exit_code == 0, result.output
    package.load(other).resume(steps=12, set={"batch_size": 32, "grid": "1x2"}, quiet=True)
    assert (run / "recipe.json").read_text() == (other / "recipe.json").read_text()
    assert same(tensors(Run.open(run)), tensors(Run.open(other)))
    refused = ganzoo("resume", run, "--steps", 16, "--set", "architecture.width=3")
    assert refused.exit_code == 2
    assert "another network" in refused.output
    assert ganzoo("resume", run, "--set", "batch_size").exit_code == 2


# --- a folder that has moved ---


def test_a_folder_that_has_moved_is_found_at_its_new_place(tmp_path):
    pixels = np.random.default_rng(0)
    for number in range(20):
        folder = tmp_path / "old" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{number}.png")
    architecture = tiny_recipe().architecture
    dataset = Choice("image-folder", {"path": str(tmp_path / "old"), "size": "8"})
    recipe = plan(ZOO, architecture, dataset, None, {"length": "4 steps", "batch_size": 4, "batch_order": "stream"})
    start(recipe, tmp_path / "run", ZOO, CPU, note=lambda text: None)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(GanzooError):
        go_on(tmp_path / "run", 8)
    moved = ganzoo("resume", tmp_path / "run", "--steps", 8, "--dataset", f"path={tmp_path / 'new'}", "-q")
    assert moved.exit_code == 0, moved.output
    run = go_on(tmp_path / "run", 12)
    assert run.recipe.dataset.options["path"] == str(tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "other")
    next((tmp_path / "other").rglob("*.png")).unlink()
    before = files(run.path)
    with pytest.raises(GanzooError, match="have changed"):
        go_on(run.path, 16, dataset={"path": tmp_path / "other"})
    with pytest.raises(UsageError, match="only path can change"):
        go_on(run.path, 16, dataset={"size": 16})
    assert files(run.path) == before


def test_a_dataset_without_a_path_has_not_moved(run):
    with pytest.raises(UsageError, match="digits has no path"):
        go_on(run, 12, dataset={"path": "x"})


# --- early stop ---

SCORED = {"evaluators": ["sliced-wasserstein"], "score_samples": 32, "score_every": "4 steps"}


def scored(path, worse, monkeypatch, steps=40, **fields):
    """A run whose scores get worse after `worse` scorings."""
    from ganzoo.evaluation import scorer

    score = scorer.Scorer.score

    def made_up(self, fakes, subject, *more):
        lines = score(self, fakes, subject, *more)
        number = subject["images_seen"] // 64
        return [{**line, "value": float(abs(number - worse))} for line in lines]

    monkeypatch.setattr(scorer.Scorer, "score", made_up)
    return train(path, steps, **SCORED, **fields)


def test_a_run_stops_where_its_score_has_not_improved(tmp_path, monkeypatch):
    rule = "sliced-wasserstein patience=2"
    run = scored(tmp_path / "a", 2, monkeypatch, early_stop=rule)
    assert run.recipe.early_stop == rule
    assert [line["step"] for line in run.lines("scores.jsonl")] == [4, 8, 12, 16]
    assert run.lines("stats.jsonl")[-1]["step"] == 16
    # it goes on where it is told to
    notes = []
    go_on(run.path, None, notes)
    assert "Stopped early after step 16: sliced-wasserstein has not improved in 2 scorings" in " ".join(notes)
    assert Run.open(run.path).lines("stats.jsonl")[-1]["step"] == 16
    longer = go_on(run.path, 24, changes={"early_stop": "off"})
    assert longer.lines("stats.jsonl")[-1]["step"] == 24
    assert longer.recipe.early_stop == ""


@pytest.mark.parametrize("killed_after", [8, 12, 16])
def test_a_resumed_run_stops_at_the_same_step(tmp_path, monkeypatch, killed_after):
    whole = scored(tmp_path / "whole", 2, monkeypatch, early_stop="sliced-wasserstein patience=2")
    plain = scored(tmp_path / "a", 2, monkeypatch, steps=killed_after, early_stop="sliced-wasserstein patience=9")
    changes = {"early_stop": "sliced-wasserstein patience=2"}
    resumed = go_on(plain.path, 40, changes=changes)
    assert [line["step"] for line in resumed.lines("scores.jsonl")] == [4, 8, 12, 16]
    assert same(tensors(resumed), tensors(whole))


def test_the_rule_is_checked_before_the_first_step(tmp_path):
    with pytest.raises(UsageError, match="needs an evaluator"):
        train(tmp_path / "a", early_stop="fid patience=2")
    with pytest.raises(UsageError, match="'fid' is not a score of this run; it has: sliced-wasserstein"):
        train(tmp_path / "b", **SCORED, early_stop="fid patience=2")
    assert not (tmp_path / "a").exists()
    for text, words in (("fid", "is not written 'SCORE patience=N'"), ("fid patience=0", "at least 1")):
        with pytest.raises(UsageError, match=words):
            Recipe(early_stop=text)
        result = ganzoo("train", "mlp-vanilla", "digits", "--early-stop", text, "--dry-run")
        assert result.exit_code == 2
    assert "early_stop" not in Recipe().to_dict()  # recipes without it are those of earlier versions


# --- another run as a recipe ---


def test_a_run_is_a_recipe_for_another(run, tmp_path):
    fields = json.loads((run / "recipe.json").read_text())
    for named in (run, run / "recipe.json", str(run)):
        found = package.plan(recipe=named).to_dict()
        assert found == fields
        forked = package.plan(recipe=named, batch_size=32).to_dict()
        assert forked == {**fields, "batch_size": 32}
    architecture = fields["architecture"]["name"]
    result = ganzoo("train", architecture, "digits", "--recipe", run, "--batch-size", 32, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["recipe"] == {**fields, "batch_size": 32}
    result = ganzoo("train", architecture, str(SMALL_DIGITS), "--recipe", run / "recipe.json", "--dry-run", "--json")
    assert json.loads(result.stdout)["recipe"] == fields


def test_a_bad_recipe_file_is_a_sentence(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.json").write_text('{"colour": 1}')
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("a.json", "is not the recipe.json of a run"),
        ("b.json", "is no JSON object"),
        ("c.json", "no field 'colour'"),
        ("d.json", "There is no recipe file"),
        ("empty", "has no recipe"),
    ):
        result = ganzoo("train", "mlp-vanilla", "digits", "--recipe", tmp_path / name, "--dry-run")
        assert result.exit_code == 2, result.output
        assert words in result.output.replace("\n", " "), result.output


# --- which generator ---


def test_at_takes_images_steps_epochs_best_and_last(run):
    loaded = package.load(run)
    images = [int(path.stem) for path in loaded.generators]
    assert images == [64, 128]
    first = loaded.sample(2, at=64).tensor
    assert (loaded.sample(2, at="step:4").tensor == first).all()
    assert (loaded.sample(2, at="images:64").tensor == first).all()
    assert (loaded.sample(2, at="last").tensor == loaded.sample(2).tensor).all()
    for at, words in (
        ("epoch:0.5", "has no generator saved at epoch 0.5; the nearest: epoch 0.0854 (128 images)"),
        ("step:5", "has no generator saved at step 5; the nearest: step 4 (64 images) and step 8 (128 images)"),
        (65, "has no generator saved at 65 images; it has them at 64, 128 images"),
    ):
        with pytest.raises(GanzooError) as refused:
            loaded.sample(2, at=at)
        assert words in str(refused.value)
    with pytest.raises(UsageError, match="has no best generator"):
        loaded.sample(2, at="best")
    for at in ("worst", "epoch:", "step:1.5", "-3", True):
        with pytest.raises(UsageError, match="names no saved generator"):
            loaded.sample(2, at=at)
    result = ganzoo("sample", run, "--at", "step:4", "--grid", "1x2", "-o", run / "x.png")
    assert result.exit_code == 0, result.output
    result = ganzoo("sample", run, "--at", "midnight")
    assert result.exit_code == 2
    assert "names no saved generator" in result.output


def test_at_finds_an_epoch_also_where_batches_do_not_end_with_it(tmp_path):
    fields = {"subset": "first 40", "batch_order": "stream", "checkpoint_every": "1 epochs"}
    run = train(tmp_path / "run", 8, **fields)
    loaded = package.load(run.path)
    assert [int(path.stem) for path in loaded.generators] == [48, 80, 128]
    assert (loaded.sample(2, at="epoch:1").tensor == loaded.sample(2, at=48).tensor).all()
    assert (loaded.sample(2, at="epoch:2").tensor == loaded.sample(2, at=80).tensor).all()
    assert (loaded.sample(2, at="epoch:3").tensor == loaded.sample(2, at=128).tensor).all()
