"""`ganzoo recommend`: which recipe is taken for which images, device and time, and whether its command trains it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO, ganzoo
from PIL import Image

import ganzoo as api
from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.experiments import recommend_candidates, recommend_measure, step_times
from ganzoo.experiments.recommend_candidates import candidates_of
from ganzoo.experiments.step_times import StepTimes, measure_steps
from ganzoo.registry.recipes import plan
from ganzoo.training.build import TrainingSetup, build_setup

CPU = torch.device("cpu")
Timed = Callable[[float], None]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Let every step take so many seconds for each million parameters: then the choice depends on no machine."""

    def set_speed(seconds: float) -> None:
        def measured(setup: TrainingSetup) -> StepTimes:
            networks = (setup.game.generator, setup.game.discriminator)
            million = sum(one.numel() for network in networks for one in network.parameters()) / 1e6
            return StepTimes(seconds * million, 0.0, 3, None)

        monkeypatch.setattr(recommend_measure, "measure_steps", measured)

    return set_speed


def pictures(folder: Path, count: int, classes: tuple[str, ...] = ("",), grey: bool = False) -> Path:
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / classes[number % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        colours = random.integers(0, 255, (9, 11, 1 if grey else 3), dtype=np.uint8)
        Image.fromarray(np.broadcast_to(colours, (9, 11, 3)).copy()).save(place / f"{number}.png")
    return folder


def trained_by(command: str) -> dict[str, Any]:
    """The recipe that a command trains, as --dry-run prints it."""
    words = shlex.split(command)
    assert words[:2] == ["ganzoo", "train"]
    result = ganzoo(*words[1:], "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["recipe"]  # type: ignore[no-any-return]


# --- the choice -------------------------------------------------------------------------------------------------


def test_with_time_enough_the_recipe_with_the_most_merit_is_taken_whole(timed: Timed) -> None:
    timed(0.001)
    found = api.recommend("digits", 30, device="cpu")
    best = max((one.merit, name) for name, one in recommend_candidates._declared(ZOO) if _suits(one, 16, 1498))
    assert found.measured.candidate.name == best[1]
    assert found.measured.candidate.uses_classes
    assert found.steps == found.measured.own_steps
    assert "--steps" not in found.command
    assert trained_by(found.command) == found.recipe.to_dict()
    assert not found.others
    assert any("10 classes with 149 images" in text for text in found.reasons)
    assert any("The whole recipe takes about" in text for text in found.reasons)


def _suits(suited: api.Suited, side: int, count: int) -> bool:
    low, high = suited.sides
    return suited.device in ("", "cpu") and low <= side <= high and suited.images[0] <= count <= suited.images[1]


def test_with_little_time_the_fastest_is_taken_and_the_better_ones_are_named(timed: Timed) -> None:
    timed(5.0)
    found = api.recommend("digits", 2, device="cpu")
    assert found.others
    assert all("has better images in the end, and would need about" in text for text in found.others)
    assert found.steps < found.measured.own_steps
    assert 0.5 * 120 < found.seconds <= 120
    assert f"--steps {found.steps} " in found.command
    recipe = found.recipe
    assert recipe.to_dict() == trained_by(found.command)
    # an EMA that is slower would show the initial weights until the end
    assert 0 < recipe.ema_half_life <= found.steps * found.measured.images_of_a_step / 10
    assert str(recipe.samples_every) == f"{max(1, found.steps // 20)} steps"
    assert any("Samples show more than blurs after about" in text for text in found.reasons)
    longer = api.recommend("digits", 200, device="cpu")
    assert longer.steps > 10 * found.steps or longer.measured.candidate.merit > found.measured.candidate.merit


def test_few_photos_get_augmentation_and_a_small_batch(timed: Timed, tmp_path: Path) -> None:
    timed(0.1)
    folder = pictures(tmp_path / "Zoé's photos, 2024", 60)
    found = api.recommend(str(folder), 30, device="cpu")
    assert found.recipe.augmentations
    assert 4 * found.recipe.batch_size <= 64
    assert found.spec == ImageSpec(3, 64, 64)
    assert any("54 images are few for this batch: batch size 8." in text for text in found.reasons)
    assert trained_by(found.command) == found.recipe.to_dict()
    # as a user: the command on stdout, the reasons on stderr, and the recipe in a file
    file = tmp_path / "a.toml"
    result = ganzoo("recommend", folder, "--device", "cpu", "-o", file)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{found.command} --device cpu\n"
    assert "54 training images of 3x64x64, without classes; device cpu." in result.stderr
    assert f"The recipe is in {file}." in result.stderr
    words = shlex.split(result.stdout)
    again = trained_by(shlex.join([*words[:4], "--recipe", str(file)]))
    assert again == found.recipe.to_dict()


def test_grey_pictures_are_read_as_grey_and_few_images_of_a_class_do_not_count(timed: Timed, tmp_path: Path) -> None:
    timed(0.1)
    grey = pictures(tmp_path / "grey", 60, ("cats", "dogs", "owls"), grey=True)
    found = api.recommend(f"{grey}:size=32", 30, device="cpu")
    assert (found.spec.channels, found.spec.classes) == (1, 3)
    assert not found.measured.candidate.uses_classes
    assert any("no colours" in text for text in found.reasons)
    assert any("fewer than 50: the classes are not used" in text for text in found.reasons)
    assert trained_by(found.command)["dataset"]["options"]["channels"] == 1
    colour = pictures(tmp_path / "colour", 40, ("cats", "dogs"))
    assert api.recommend(str(colour), device="cpu").spec.channels == 3


def test_a_size_that_a_member_cannot_serve_becomes_the_nearest(timed: Timed, tmp_path: Path) -> None:
    timed(0.001)
    np.save(tmp_path / "large.npy", np.random.default_rng(0).integers(0, 255, (30, 700, 700), dtype=np.uint8))
    found = api.recommend("digits:size=20", device="cpu")
    assert found.measured.candidate.resized is None or found.measured.candidate.spec.height == 16
    far = api.recommend(f"npy:path={tmp_path / 'large.npy'}", device="cpu")
    resized = far.measured.candidate.resized
    assert resized is not None
    assert resized == ("700x700", far.spec.height)
    assert 256 <= far.spec.height < 700
    (sentence,) = [text for text in far.reasons if "700x700" in text]
    assert sentence.endswith(f"so they are resized to {far.spec.height}x{far.spec.height}, the nearest it can serve.")
    assert trained_by(far.command)["dataset"]["options"]["size"] == far.spec.height
    small = api.recommend("digits:size=5", device="cpu")
    assert small.spec.height == 8


def test_on_cuda_the_published_sizes_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is declared: the networks are too large to be built here."""
    monkeypatch.setattr(recommend_candidates, "_serves", lambda architecture, spec: spec.height in (32, 64, 128, 256))

    def names(size: int, count: int, classes: int = 1) -> list[str]:
        spec, dataset = ImageSpec(3, size, size, classes), Choice("image-folder", {"path": ".", "size": size})
        found = candidates_of(ZOO, dataset, spec, count, torch.device("cuda"))
        ordered = sorted(found, key=lambda one: -one.merit)
        return [f"{one.name} {one.suited.recipe} {one.spec.height} {one.uses_classes}" for one in ordered]

    assert names(64, 50_000)[:2] == ["r3gan ffhq-64 64 False", "stylegan2 auto-64 64 False"]
    assert names(64, 400)[0] == "stylegan2 auto-64 64 False"
    assert names(32, 50_000, 10)[0] == "r3gan cifar10 32 True"
    assert "biggan  32 True" in names(32, 50_000, 10)
    assert "biggan  32 True" not in names(32, 50_000)
    assert names(200, 5000)[0] == "stylegan2 auto-256 256 False"
    assert names(100, 5000)[0] == "stylegan2 auto-128 128 False"


def test_every_declared_recipe_is_there() -> None:
    declared = list(recommend_candidates._declared(ZOO))
    assert len({name for name, _ in declared}) >= 5
    for name, suited in declared:
        for options in (suited.options, {**suited.options, **suited.with_classes}):
            dataset = Choice("digits", {"size": suited.sides[0]})
            recipe = plan(ZOO, Choice(name, options), dataset, suited.recipe or None)
            assert recipe.architecture is not None
            made: Architecture = ZOO.build("architectures", recipe.architecture)
            assert made.conditional or not suited.with_classes or options == suited.options
    with pytest.raises(ValueError, match="merit is 1 to 10"):
        api.Suited(sides=(8, 16), merit=11, needs=1, reason="is good")
    with pytest.raises(ValueError, match="sides and images are"):
        api.Suited(sides=(16, 8), merit=1, needs=1, reason="is good")


# --- bad input --------------------------------------------------------------------------------------------------

ODD = """
import torch
import ganzoo

class Odd(ganzoo.Dataset):
    "Images that no architecture serves, and without an option for another size."

    def __init__(self, *, split: str = "train") -> None:
        self.spec = ganzoo.ImageSpec(1, 3, 5)

    def __len__(self) -> int:
        return 100

    def read(self, indices):
        return torch.zeros(len(indices), 1, 3, 5, dtype=torch.uint8), torch.zeros(len(indices), dtype=torch.int64)
"""


def test_bad_input_is_one_sentence(tmp_path: Path, timed: Timed) -> None:
    timed(0.1)
    (tmp_path / "odd.py").write_text(ODD)
    three, none = pictures(tmp_path / "three", 3), tmp_path / "none"
    (tmp_path / "empty").mkdir()
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("digits", "--minutes", 0), 2, "'0' is not a number above 0"),
        (("digits", "--minutes", "-5"), 2, "-5"),
        (("digits", "--minutes", "soon"), 2, "soon"),
        (("digits", "--minutes", "inf"), 2, "inf"),
        (("digist",), 2, "Did you mean 'digits'?"),
        (("digits:sise=3",), 2, "sise"),
        ((three,), 2, "training images, and a GAN needs at least 20"),
        ((none,), 2, f"There is no folder {none}"),
        ((tmp_path / "empty",), 1, "no pictures"),
        ((f"{tmp_path / 'odd.py'}:Odd",), 2, "No architecture serves 100 images of 1x3x5"),
        (("dcgan",), 2, "It is one of the architectures."),
        (("digits", "-o", tmp_path / "a.json"), 2, "name a file that ends in .toml"),
        (("digits", "-o", none / "a.toml"), 2, "in a directory that exists"),
        (("digits", "--device", "tpu"), 2, "tpu"),
    ]
    for words, status, text in cases:
        result = ganzoo("recommend", *words)
        assert result.exit_code == status, (words, result.output)
        assert text in result.output, (words, result.output)
        assert "Traceback" not in result.output
        assert not result.stdout
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="a number above 0"):
            api.recommend("digits", minutes)


def test_a_recipe_that_cannot_be_trained_here_is_passed_over(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(0.001)
    refused: list[str] = []
    measure = recommend_measure.build_setup

    def build(recipe: Any, *more: Any) -> TrainingSetup:
        name = recipe.architecture.name
        if len(refused) < limit:
            refused.append(name)
            raise GanzooError(f"{name} does not fit into the memory.")
        return measure(recipe, *more)

    monkeypatch.setattr(recommend_measure, "build_setup", build)
    limit = 1
    assert api.recommend("digits", device="cpu").measured.candidate.name not in refused
    limit = 1000
    with pytest.raises(GanzooError, match=r"No suited recipe can be trained here: .* does not fit into the memory"):
        api.recommend("digits", device="cpu")


# --- the times --------------------------------------------------------------------------------------------------


def test_steps_with_a_due_loss_are_counted_as_often_as_they_come() -> None:
    kinds = step_times._kinds([1, 16, 4])
    assert [share for share, _ in kinds] == [12 / 16, 3 / 16, 1 / 16]
    assert [list(islice(steps, 4)) for _, steps in kinds] == [[1, 2, 3, 5], [4, 8, 12, 20], [0, 16, 32, 48]]
    assert [share for share, _ in step_times._kinds([1, 1])] == [1.0]


def test_the_mean_time_is_that_of_a_whole_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = build_setup(plan(ZOO, Choice("mlp-vanilla"), Choice("digits", {"size": 8})), ZOO, CPU)
    setup.game.losses[0].every = 4
    clock = 0.0

    def step(game: Any, feed: Any, seed: int, number: int, update: Any) -> None:
        nonlocal clock
        clock += 8.0 if number % 4 == 0 else 1.0

    monkeypatch.setattr(step_times, "run_step", step)
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: clock)
    assert measure_steps(setup).seconds == pytest.approx((8 + 1 + 1 + 1) / 4)


def test_the_random_state_of_the_process_is_as_before(timed: Timed) -> None:
    timed(0.001)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    api.recommend("digits:size=8", device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_on_this_machine(tmp_path: Path) -> None:
    """A few real steps; the recommended command is one that trains."""
    found = api.recommend("digits:size=8", 0.05, device="cpu")
    facts = found.to_dict()
    assert facts["seconds_per_step"] > 0
    assert facts["memory_bytes"] is None or facts["memory_bytes"] > 1 << 20
    assert facts["parameters"]["generator"] > 1000
    assert json.loads(json.dumps(facts)) == facts
    run = api.train(recipe=found.recipe, epochs=None, steps=1, out=tmp_path / "run", quiet=True)
    assert run.progress.step == 1


@pytest.mark.slow
def test_the_estimate_holds_within_a_factor_of_one_and_a_half(tmp_path: Path) -> None:
    for dataset, minutes in (("digits", 0.5), (str(pictures(tmp_path / "photos", 100)), 1.0)):
        found = api.recommend(dataset, minutes, device="cpu")
        started = time.perf_counter()
        api.train(recipe=found.recipe, out=tmp_path / str(minutes), quiet=True)
        assert 1 / 1.5 < (time.perf_counter() - started) / found.seconds < 1.5


def test_memory_is_not_known_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> int:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "write_text", refuse)
    assert step_times._peak_memory(CPU)() is None
