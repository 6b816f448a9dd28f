"""What the numbers depend on besides the recipe: saved, compared on resuming, and reported where it differs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kills
import pytest
import tiny
import torch
from helpers import ganzoo
from PIL import Image

from ganzoo import Amount, Choice, GanzooError
from ganzoo.registry.recipes import plan
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
    replayed = ganzoo("replay", painted, "--step", 5, "--accept-changed-images")
    assert "Replayed with another set of training images" in replayed.stderr


def test_a_run_of_an_earlier_version_accepts_any_images(painted):
    facts = json.loads((painted / "environment.json").read_text())
    del facts["training_images"]
    (painted / "environment.json").write_text(json.dumps(facts))
    put(painted.parent / "pictures" / "7.png", 8)
    assert notes_of(painted, 6) == []
