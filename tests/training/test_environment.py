"""What the numbers depend on besides the recipe: saved, compared on resuming, and reported where it differs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import kills
import pytest
import tiny
import torch
from helpers import ganzoo
from PIL import Image

from ganzoo import Amount, Choice, GanzooError, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.build import build_setup
from ganzoo.training.environment import environment
from ganzoo.training.replay import replay
from ganzoo.training.train import resume, start

#: entry -> another value of it, written into the run's environment.json
CHANGES: dict[str, Any] = {
    "device": "cuda:0",
    "device_name": "an abacus",
    "instructions": "AVX1024",
    "threads": 97,
    "memory_format": "contiguous_format",
    "capture": True,
    "compile": ["generator"],
    "world_size": 8,
}
#: entry -> how a message names it; written again on purpose: these are the words that users read
WORDS = {
    "device_name": "processor or GPU",
    "instructions": "set of instructions",
    "threads": "number of threads",
    "memory_format": "memory layout",
    "capture": "CUDA graph setting",
    "compile": "choice of compiled networks",
    "world_size": "number of processes",
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("environment") / "run"
    quick = {"length": "2 steps", "evaluators": (), "samples_every": "100 steps"}
    start(kills.recipe().merged(quick), out, kills.ZOO, kills.CPU, note=lambda text: None)
    return out


def notes_of(run: Path, steps: int) -> list[str]:
    notes: list[str] = []
    resume(run, kills.ZOO, "cpu", Amount(steps, "steps"), note=notes.append, compile=False)
    return notes


def test_each_entry_that_differs_is_noted(stopped):
    file = stopped / "environment.json"
    facts = json.loads(file.read_text())
    del facts["sha256"]  # what is edited does not match it any more
    assert notes_of(stopped, 3) == []
    for steps, (item, other) in enumerate(CHANGES.items(), start=4):
        assert facts[item] != other
        file.write_text(json.dumps({**facts, item: other}))
        (note,) = notes_of(stopped, steps)
        then, here = (
            ", ".join(value) or "none" if isinstance(value, list) else value for value in (other, facts[item])
        )
        what = f"another {WORDS.get(item, item)} ({then} then, {here} now)"
        assert note == f"Resumed with {what}: the numbers are no longer the same bit for bit."
    # an entry that an earlier version did not save cannot be compared
    file.write_text(json.dumps({key: value for key, value in facts.items() if key not in ("instructions", "capture")}))
    assert notes_of(stopped, steps + 1) == []
    file.write_text(json.dumps(facts))


def test_the_saved_environment_is_the_present_one(stopped):
    facts = json.loads((stopped / "environment.json").read_text())
    now = environment(build_setup(kills.recipe(), kills.ZOO, kills.CPU), kills.ZOO)
    assert facts["threads"] == torch.get_num_threads()
    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert (facts["memory_format"], facts["capture"], facts["world_size"]) == ("channels_last", False, 1)
    assert CHANGES.keys() <= now.keys()


def test_packages_and_parts_are_named(stopped):
    file = stopped / "environment.json"
    facts = json.loads(file.read_text())
    facts.pop("sha256", None)  # what is edited does not match it any more
    here = facts["parts"]
    then = {
        **facts,
        "versions": {**facts["versions"], "torch": "1.0", "einops": "0.8"},
        "parts": {
            **here,
            "losses": [{"id": "somebody/hinge", "version": "3", "target": "a:B"}],
            "generator_optimizer": [{**here["generator_optimizer"][0], "version": "0.0.1"}],
        },
    }
    del then["versions"]["numpy"]
    file.write_text(json.dumps(then))
    notes = notes_of(stopped, 40)
    file.write_text(json.dumps(facts))
    version = facts["versions"]["torch-ganzoo"]
    sha = here["losses"][1]["sha256"][:12]
    adam = here["generator_optimizer"][0]["id"]
    assert [note.removeprefix("Resumed with ").partition(": the numbers")[0] for note in notes] == [
        f"another torch (1.0 then, {facts['versions']['torch']} now)",
        "another einops (0.8 then, none now)",
        f"another numpy (none then, {facts['versions']['numpy']} now)",
        f"another loss (somebody/hinge 3 then, torch-ganzoo/nonsaturating {version} now)",
        f"another loss (none then, {tiny.__file__}:Remembering of sha256 {sha} now)",
        f"another generator optimizer ({adam} 0.0.1 then, {adam} {version} now)",
    ]
    assert not any("{" in note for note in notes)


# --- the training images ---


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    """A run of four steps on the folder `pictures` beside it, with a checkpoint after the second step."""
    for number in range(12):
        put(tmp_path / "pictures" / f"{number}.png", number)
    images = Choice("image-folder", {"path": str(tmp_path / "pictures"), "size": 8, "test_share": 0})
    fields = {"length": "4 steps", "checkpoint_every": "2 steps", "batch_size": 4}
    recipe = plan(kills.ZOO, Choice(f"{tiny.__file__}:Tiny"), images, None, fields)
    start(recipe, tmp_path / "run", kills.ZOO, kills.CPU, note=lambda text: None)
    return tmp_path / "run"


def put(path: Path, grey: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (8, 8), 20 * grey).save(path)


def without_history(run: Path) -> None:
    """Take away what version 0.1.0 did not save."""
    (run / "history.json").unlink()
    for path in (run / "checkpoints").iterdir():
        tensors, meta = checkpoints.load(path)
        del meta["history"]
        shutil.rmtree(path)
        checkpoints.save(path.parent, path.name, tensors, meta, keep=9)


def test_other_images_are_refused_and_can_be_accepted(painted):
    picture = painted.parent / "pictures" / "7.png"
    put(picture, 8)
    words = r"image-folder:.* have changed since .*/run was trained on them \(sha256 \w{12} then, \w{12} now\): "
    words += "restore them, or continue with --accept-changed-images"
    before = {path.name: path.read_bytes() for path in painted.iterdir() if path.is_file()}
    for attempt in (lambda: notes_of(painted, 6), lambda: replay(painted, kills.ZOO, 3)):
        with pytest.raises(GanzooError, match=words) as error:
            attempt()
        assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in painted.iterdir() if path.is_file()} == before
    assert replay(painted, kills.ZOO, 4, changed_images=True)["not_as_it_was"].keys() == {"training_images"}
    put(picture, 7)  # the same image, in a new file
    assert replay(painted, kills.ZOO, 4)["same"]
    assert notes_of(painted, 6) == []
    put(picture, 9)
    notes: list[str] = []
    resume(painted, kills.ZOO, "cpu", Amount(8, "steps"), changed_images=True, note=notes.append)
    (note,) = notes
    assert re.fullmatch(
        r"Resumed with another set of training images \(\w{12} then, \w{12} now\): the numbers are no longer .*", note
    )


def test_the_command_line_reports_other_images(painted):
    put(painted.parent / "pictures" / "7.png", 8)
    refused = ganzoo("resume", painted, "--steps", 6, "-q")
    assert refused.exit_code == 1
    assert "--accept-changed-images" in refused.stderr
    accepted = ganzoo("resume", painted, "--steps", 6, "-q", "--accept-changed-images")
    assert accepted.exit_code == 0, accepted.stderr
    assert "Resumed with another set of training images" in accepted.stderr
    # step 5 was trained on the images that are there now, step 4 on those that are gone
    replayed = ganzoo("replay", painted, "--step", 5)
    assert replayed.exit_code == 0, replayed.stderr
    assert "Replayed with" not in replayed.stderr
    assert "--accept-changed-images" in ganzoo("replay", painted, "--step", 4).stderr
    replayed = ganzoo("replay", painted, "--step", 4, "--accept-changed-images")
    assert "Replayed with another set of training images" in replayed.stderr


def test_a_run_of_an_earlier_version_accepts_any_images(painted):
    facts = json.loads((painted / "environment.json").read_text())
    del facts["training_images"], facts["sha256"]
    (painted / "environment.json").write_text(json.dumps(facts))
    without_history(painted)
    put(painted.parent / "pictures" / "7.png", 8)
    assert notes_of(painted, 6) == []


# --- the history of a run on a set of images that was changed ---


@pytest.fixture
def halved(tmp_path: Path) -> Path:
    """A run of 18 epochs on 20 pictures, 360 images; then half of the pictures are gone."""
    for number in range(20):
        put(tmp_path / "pictures" / f"{number:02d}.png", number % 12)
    images = Choice("image-folder", {"path": str(tmp_path / "pictures"), "size": 8, "test_share": 0})
    fields = {"length": "18 epochs", "checkpoint_every": "9 epochs", "samples_every": "9 epochs", "batch_size": 4}
    recipe = plan(kills.ZOO, Choice(f"{tiny.__file__}:Tiny"), images, None, {**fields, "tick_every": "1 epochs"})
    start(recipe, tmp_path / "run", kills.ZOO, kills.CPU, note=lambda text: None)
    for number in range(10):
        (tmp_path / "pictures" / f"{number:02d}.png").unlink()
    return tmp_path / "run"


def on_changed_images(run: Path, length: str) -> list[str]:
    notes: list[str] = []
    resume(run, kills.ZOO, "cpu", Amount.parse(length), changed_images=True, note=notes.append)
    return notes


def names(run: Path) -> dict[str, list[int]]:
    folders = ("samples", "generators", "checkpoints")
    return {folder: sorted(int(path.stem) for path in (run / folder).iterdir()) for folder in folders}


@pytest.mark.parametrize("old", [False, True], ids=["history", "version 0.1.0"])
def test_images_and_epochs_are_counted_on_over_changed_images(halved: Path, old: bool) -> None:
    if old:
        without_history(halved)
    before = names(halved)
    assert before == {"samples": [0, 180, 360], "generators": [180, 360], "checkpoints": [180, 360]}
    for length in ("17 epochs", "18 epochs", "360 images", "90 steps"):
        with pytest.raises(UsageError, match="has already trained for"):
            on_changed_images(halved, length)
    assert names(halved) == before
    assert len(on_changed_images(halved, "20 epochs")) == 1
    # two epochs of ten images, in three steps each
    lines = Run.open(halved).lines("stats.jsonl")[-3:]
    assert [(line["step"], line["images"], line["epoch"]) for line in lines] == [
        (90, 360, 18.0),
        (93, 370, 19.0),
        (96, 380, 20.0),
    ]
    assert names(halved) == {"samples": [0, 180, 360, 380], "generators": [180, 360, 380], "checkpoints": [360, 380]}
    newest = Run.open(halved).newest("generators", ".safetensors")
    assert newest is not None
    assert newest.stem == "000000380"
    # from now on these are the images of the run: they need not be accepted again, and every step is exact
    assert replay(halved, kills.ZOO, 96)["same"]
    assert notes_of(halved, 99) == []
    assert replay(halved, kills.ZOO, 99)["same"]
    with pytest.raises(GanzooError, match="have changed since"):
        replay(halved, kills.ZOO, 80)
    saved = checkpoints.load_latest(halved / "checkpoints")
    assert saved is not None
    assert (saved.meta["step"], saved.meta["images"]) == (99, 390)
    segments = [(entry["step"], entry["images"], entry["epochs"]) for entry in saved.meta["history"]["segments"]]
    assert segments == [(0, 0, "0"), (90, 360, "18")]
    assert Run.open(halved).history == {**saved.meta["history"], "checkpoint_saved": True}


def test_a_step_of_an_earlier_set_without_a_checkpoint_between_is_not_replayed(halved: Path) -> None:
    on_changed_images(halved, "93 steps")
    shutil.rmtree(halved / "checkpoints" / "000000360")
    with pytest.raises(GanzooError, match="the training images were changed after step 90") as error:
        replay(halved, kills.ZOO, 92)
    assert "\n" not in str(error.value)


def test_a_stop_after_changed_images_changes_nothing(halved: Path) -> None:
    """Eight epochs on the new set at once, and in three parts."""
    other = halved.parent / "other"
    shutil.copytree(halved, other)
    on_changed_images(halved, "24 epochs")
    for steps in (91, 95, 108):
        on_changed_images(other, f"{steps} steps")
    first, second = (checkpoints.load_latest(run / "checkpoints") for run in (halved, other))
    assert first is not None
    assert second is not None
    assert first.meta["images"] == second.meta["images"] == 420
    assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())


def test_checkpoints_of_a_run_that_version_0_1_0_continued_are_in_the_order_of_their_steps(halved: Path) -> None:
    """That version counted anew: its checkpoint after 306 images is of a later step than that after 360."""
    tensors, meta = checkpoints.load(halved / "checkpoints" / "000000360")
    checkpoints.save(halved / "checkpoints", "000000306", tensors, {**meta, "step": 92, "images": 306}, keep=9)
    without_history(halved)
    saved = checkpoints.load_latest(halved / "checkpoints")
    assert saved is not None
    assert saved.meta["step"] == 92
    assert Run.open(halved).newest_checkpoint() == halved / "checkpoints" / "000000306"
    on_changed_images(halved, "95 steps")
    assert names(halved)["generators"] == [180, 360, 370]
    assert names(halved)["checkpoints"] == [306, 370]
