"""Samples are a function of the seed: grids, arrays, interpolations and animations of one run show the same images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import SMALL_DIGITS, ZOO, change_environment, ganzoo, sample, tiny_recipe
from PIL import Image

from ganzoo import Choice, GanzooError, UsageError
from ganzoo.engine.sampler import balanced_labels, draw, draw_all, draw_latents
from ganzoo.engine.seeds import derive
from ganzoo.registry.recipes import plan
from ganzoo.results.load import load_generator
from ganzoo.results.sample import (
    class_number,
    draw_images,
    draw_interpolations,
    row_names,
    sample_latents,
    slerp,
)
from ganzoo.storage import pictures
from ganzoo.training.train import start

CPU = torch.device("cpu")
SIZE = 8
#: factor by which a tile is enlarged to be 72 pixels wide, and pixels between two tiles
SCALE, GAP = 9, 2
#: pixels around a grid, and pixels of a picture of one row or column besides its tiles
MARGIN = pictures.MARGIN
FRAME = 2 * MARGIN - GAP


def train(out: Path, name: str, **changes: Any) -> Path:
    architecture = Choice(f"{tiny.__file__}:{name}", {"width": 32})
    fields = {"length": "40 steps", "samples_every": "10 steps", "generator_optimizer": "adam:lr=0.02", **changes}
    start(plan(ZOO, architecture, SMALL_DIGITS, None, fields), out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "tiny", "Tiny", checkpoint_every="20 steps")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "conditional", "TinyConditional", ema_half_life=100)


def array(run: Path, tmp_path: Path, **more: Any) -> np.ndarray:
    return np.load(sample(run, ZOO, CPU, tmp_path / "images.npy", **more), allow_pickle=False)


def tiles(path: Path, rows: int, columns: int, left: int = MARGIN) -> np.ndarray:
    """The images (rows, columns, 8, 8) of a grid, at their own size."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    step = SIZE * SCALE + GAP
    assert pixels.shape == (FRAME + rows * step, left - GAP + columns * step + MARGIN, 3)
    found = [
        pixels[MARGIN + row * step :, left + column * step :][: SIZE * SCALE : SCALE, : SIZE * SCALE : SCALE, 0]
        for row in range(rows)
        for column in range(columns)
    ]
    return np.stack(found).reshape(rows, columns, SIZE, SIZE)


# --- arrays and grids ---


def test_the_same_seed_gives_the_same_bytes(run, tmp_path):
    for suffix in (".png", ".npy"):
        files = [sample(run, ZOO, CPU, tmp_path / f"{n}{suffix}", seed=s).read_bytes() for n, s in enumerate((3, 3, 4))]
        assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("kind", ["run", "conditional"])
def test_the_first_images_are_the_same_for_any_count(kind, tmp_path, request):
    path = request.getfixturevalue(kind)
    many = array(path, tmp_path, count=301, seed=5)
    assert many.shape == (301, 1, SIZE, SIZE)
    assert many.dtype == np.uint8
    assert len(np.unique(many.reshape(301, -1), axis=0)) == 301
    for count in (1, 2, 10, 64, 65, 250, 251):
        assert np.array_equal(array(path, tmp_path, count=count, seed=5), many[:count]), count


def test_a_grid_shows_what_the_array_holds(run, tmp_path):
    images = array(run, tmp_path, count=6, seed=2)[:, 0]
    grid = tiles(sample(run, ZOO, CPU, tmp_path / "a.png", shape=(2, 3), seed=2), 2, 3)
    assert np.array_equal(grid.reshape(6, SIZE, SIZE), images)


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        ({}, (2, 3)),  # the recipe's own
        ({"shape": (1, 5)}, (1, 5)),
        ({"count": 16}, (4, 4)),
        ({"count": 10}, (4, 3)),
        ({"count": 1}, (1, 1)),
        ({"count": 300}, (19, 16)),
        ({"count": 3, "shape": (2, 2)}, (2, 2)),
    ],
)
def test_the_shape_of_a_grid(run, tmp_path, more, shape):
    tiles(sample(run, ZOO, CPU, tmp_path / "a.png", **more), *shape)


def test_by_default_the_file_is_in_the_run(run):
    assert sample(run, ZOO, CPU, seed=9) == run / "sample-9.png"
    assert sample(run, ZOO, CPU, seed=9, interpolate=True) == run / "interpolation-9.png"
    assert sample(run, ZOO, CPU, animate=True) == run / "training.gif"
    assert all((run / name).is_file() for name in ("sample-9.png", "interpolation-9.png", "training.gif"))


def test_an_older_generator_can_be_sampled(run, tmp_path):
    ends = [array(run, tmp_path, count=4, at=at) for at in (None, 640, 320)]
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])
    with pytest.raises(GanzooError, match="has no generator saved at 333 images; it has them at 320, 640 images"):
        array(run, tmp_path, at=333)


def test_files_of_others_beside_the_generators_are_not_listed(run, tmp_path):
    out = Path(shutil.copytree(run, tmp_path / "run"))
    (out / "generators" / "my favourite.safetensors").touch()
    with pytest.raises(GanzooError, match="it has them at 320, 640 images"):
        array(out, tmp_path, at=333)


# --- classes ---


def test_a_class_on_demand(conditional, tmp_path):
    trained = load_generator(conditional, ZOO, CPU)
    latents = draw_latents(trained.architecture, 12, CPU, derive(1, "sample"))
    for label in (0, 9):
        expected = draw_all(trained.network, trained.architecture, latents, [label] * 12).numpy()
        assert np.array_equal(array(conditional, tmp_path, count=12, label=label, seed=1), expected)
    with pytest.raises(UsageError, match="--class 10: the run's dataset has the classes 0 to 9"):
        array(conditional, tmp_path, label=10)


def test_a_class_is_refused_for_an_unconditional_generator(run, tmp_path):
    for more in ({}, {"interpolate": True}):
        with pytest.raises(UsageError, match="--class 3: Tiny is not conditional"):
            sample(run, ZOO, CPU, tmp_path / "a.png", label=3, **more)
    assert not (tmp_path / "a.png").exists()


def test_a_conditional_grid_has_one_class_in_each_row(conditional, tmp_path):
    trained = load_generator(conditional, ZOO, CPU)
    latents = draw_latents(trained.architecture, 12, CPU, derive(0, "sample"))
    labels = [row for row in range(4) for _ in range(3)]
    expected = draw_all(trained.network, trained.architecture, latents, labels).numpy()
    path = sample(conditional, ZOO, CPU, tmp_path / "a.png", shape=(4, 3))
    with Image.open(path) as picture:
        left = picture.width - 3 * (SIZE * SCALE + GAP) + GAP - MARGIN
    assert left > MARGIN + 12  # the names of the classes
    assert np.array_equal(tiles(path, 4, 3, left).reshape(12, SIZE, SIZE), expected[:, 0])


def test_images_as_tensors_are_those_of_the_files(conditional, tmp_path):
    trained = load_generator(conditional, ZOO, CPU)
    images, labels = draw_images(trained, 30, seed=5)
    assert (images.dtype, images.shape, labels.dtype) == (torch.uint8, (30, 1, SIZE, SIZE), torch.int64)
    assert labels.tolist() == [*range(10)] * 3
    assert np.array_equal(images.numpy(), array(conditional, tmp_path, count=30, seed=5))
    again = draw_all(trained.network, trained.architecture, sample_latents(trained, 30, 5), labels)
    assert torch.equal(again, images)
    _, labels = draw_images(trained, 5, columns=2, classes=(7, 1))
    assert labels.tolist() == [7, 7, 1, 1, 7]
    assert row_names(trained, labels[::2]) == ["7", "1", "7"]
    walks, labels = draw_interpolations(trained, 2, 3, seed=4, classes=[9])
    assert (walks.shape, labels.tolist()) == ((6, 1, SIZE, SIZE), [9] * 6)
    with pytest.raises(UsageError, match="No class is named"):
        draw_images(trained, 5, classes=())


# --- interpolations ---


@pytest.mark.parametrize("kind", ["run", "conditional"])
def test_an_interpolation_ends_at_samples(kind, tmp_path, request):
    path = request.getfixturevalue(kind)
    picture = sample(path, ZOO, CPU, tmp_path / "a.png", shape=(3, 5), seed=4, interpolate=True)
    with Image.open(picture) as opened:
        left = opened.width - 5 * (SIZE * SCALE + GAP) + GAP - MARGIN
    walks = tiles(picture, 3, 5, left)
    trained = load_generator(path, ZOO, CPU)
    for column, end in ((0, "first"), (4, "last")):
        latents = draw_latents(trained.architecture, 3, CPU, derive(4, end))
        expected = draw_all(trained.network, trained.architecture, latents, [0, 1, 2])[:, 0].numpy()
        assert np.array_equal(walks[:, column], expected)
    steps = np.abs(np.diff(walks.astype(int), axis=1)).sum(axis=(2, 3))
    whole = np.abs(walks[:, -1].astype(int) - walks[:, 0]).sum(axis=(1, 2))
    assert (steps.max(axis=1) < whole).all()


@pytest.mark.parametrize("kind", ["run", "conditional"])
@pytest.mark.parametrize("animate", [False, True])
def test_an_interpolation_takes_any_count(kind, animate, tmp_path, request):
    out = tmp_path / ("a.gif" if animate else "a.png")
    path = request.getfixturevalue(kind)
    assert sample(path, ZOO, CPU, out, count=5, interpolate=True, animate=animate).is_file()


def test_slerp_stays_on_the_arc():
    first, last = torch.randn(7, 4), torch.randn(7, 4)
    torch.testing.assert_close(slerp(first, last, torch.zeros(7)), first)
    torch.testing.assert_close(slerp(first, last, torch.ones(7)), last)
    unit = torch.nn.functional.normalize(first), torch.nn.functional.normalize(last)
    between = slerp(*unit, torch.rand(7))
    torch.testing.assert_close(between.norm(dim=1), torch.ones(7), rtol=1e-3, atol=1e-3)
    for same in (slerp(first, first, torch.rand(7)), slerp(first, -first, torch.rand(7))):
        assert same.isfinite().all()
    torch.testing.assert_close(slerp(first, first, torch.rand(7)), first, rtol=1e-3, atol=1e-3)


# --- animations ---


def frames(path: Path) -> list[tuple[int, tuple[int, int]]]:
    """Milliseconds and size of every frame."""
    with Image.open(path) as picture:
        found = []
        for index in range(picture.n_frames):
            picture.seek(index)
            found.append((picture.info["duration"], picture.size))
        assert picture.info["loop"] == 0
    return found


def test_the_animation_of_a_training_has_a_frame_for_each_grid(run, tmp_path):
    found = frames(sample(run, ZOO, CPU, tmp_path / "a.gif", animate=True))
    assert len(found) == len(list((run / "samples").iterdir())) == 5
    assert [duration for duration, _ in found] == [400] * 4 + [1500]


def test_the_frames_are_in_the_order_of_the_training(run, tmp_path):
    """Also beyond a billion images, where the names grow longer."""
    copy = tmp_path / "copy"
    (copy / "samples").mkdir(parents=True)
    (copy / "recipe.json").write_bytes((run / "recipe.json").read_bytes())
    for images, grey in ((999_999_999, 60), (1_000_000_000, 120), (0, 0), (2_000_000_000, 180)):
        Image.new("RGB", (4, 4), (grey, grey, grey)).save(copy / "samples" / f"{images:09d}.png")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(copy / "samples" / "notes.png")
    with Image.open(sample(copy, ZOO, CPU, animate=True)) as picture:
        shades = []
        for index in range(picture.n_frames):
            picture.seek(index)
            shades.append(picture.convert("RGB").getpixel((0, 0))[0])
    assert shades == [0, 60, 120, 180]


def test_an_animated_interpolation_has_48_frames(run, tmp_path):
    found = frames(sample(run, ZOO, CPU, tmp_path / "a.gif", shape=(2, 2), interpolate=True, animate=True))
    assert sum(duration for duration, _ in found) == 48 * 80  # equal frames are merged into a longer one
    assert len(found) > 10
    assert {size for _, size in found} == {(2 * (SIZE * SCALE + GAP) + FRAME,) * 2}


# --- errors ---


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("a.jpg", {}, "must end in .png, .npy or .npz"),
        ("a", {}, "must end in .png, .npy or .npz"),
        ("a.gif", {}, "must end in .png, .npy or .npz"),
        ("a.npy", {"interpolate": True}, "must end in .png"),
        ("a.png", {"animate": True}, "must end in .gif"),
        ("a.png", {"interpolate": True, "animate": True}, "must end in .gif"),
        ("nowhere/a.png", {}, "there is no directory"),
    ],
)
def test_a_file_of_another_kind_is_refused(run, tmp_path, name, more, words):
    with pytest.raises(UsageError, match=words):
        sample(run, ZOO, CPU, tmp_path / name, **more)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_file(run, tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match="this is a directory"):
        sample(run, ZOO, CPU, tmp_path / "a.png")


def test_a_file_or_shape_is_refused_before_the_generator_is_loaded(run, tmp_path):
    (tmp_path / "recipe.json").write_bytes((run / "recipe.json").read_bytes())  # a run that has no generator
    with pytest.raises(UsageError, match=r"must end in \.png, \.npy or \.npz"):
        sample(tmp_path, ZOO, CPU, tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="-n 10 images do not fill a grid of 2x2"):
        sample(tmp_path, ZOO, CPU, count=10, shape=(2, 2))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"animate": True, "count": 5}, "--gif shows the grids of the training as they are"),
        ({"animate": True, "at": 320}, "--gif shows the grids of the training as they are"),
        ({"animate": True, "seed": 3}, "--gif shows the grids of the training as they are"),
        ({"count": 10, "shape": (2, 2)}, "-n 10 images do not fill a grid of 2x2"),
        ({"count": 2, "shape": (2, 2)}, "-n 2 images do not fill a grid of 2x2"),
    ],
)
def test_contradicting_options_are_refused(run, more, words):
    with pytest.raises(UsageError, match=words):
        sample(run, ZOO, CPU, **more)


def test_a_run_without_grids_or_generator_is_refused(tmp_path, run):
    (tmp_path / "recipe.json").write_bytes((run / "recipe.json").read_bytes())
    with pytest.raises(GanzooError, match="has no sample grids to animate"):
        sample(tmp_path, ZOO, CPU, animate=True)
    with pytest.raises(GanzooError, match="has no generator saved yet: train it first"):
        sample(tmp_path, ZOO, CPU)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, b"8\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_generator_is_named(run, tmp_path, damage):
    for name in ("recipe.json", "environment.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "generators").mkdir()
    (tmp_path / "generators" / "000000640.safetensors").write_bytes(damage)
    with pytest.raises(GanzooError, match=r"000000640\.safetensors does not fit .*Tiny"):
        sample(tmp_path, ZOO, CPU)


# --- the sampler itself ---


def test_latents_are_a_function_of_seed_and_index():
    architecture = tiny.Tiny()
    many = draw_latents(architecture, 200, CPU, seed=1)
    for count in (1, 63, 64, 65, 200):
        assert torch.equal(draw_latents(architecture, count, CPU, seed=1), many[:count])
    assert not torch.equal(draw_latents(architecture, 200, CPU, seed=2), many)
    assert len(many.unique(dim=0)) == 200
    assert balanced_labels(7, 3, CPU).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_drawing_restores_the_mode_of_the_network_and_computes_no_gradients():
    architecture = tiny.Tiny()
    network, _ = architecture.networks(tiny.ganzoo.ImageSpec(1, SIZE, SIZE))
    latents, labels = draw_latents(architecture, 10, CPU, seed=1), balanced_labels(10, 1, CPU)
    before = network.norm.running_mean.clone()
    for mode in (True, False):
        network.train(mode)
        batches = list(draw(network, architecture, latents, labels, batch_size=4))
        assert network.training == network.norm.training == mode
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert {batch.dtype for batch in batches} == {torch.uint8}
    assert torch.equal(network.norm.running_mean, before)
    assert torch.is_grad_enabled()


# --- names of classes, and of files ---


@pytest.fixture
def named(conditional, tmp_path):
    """The conditional run, with these names for its classes."""

    def rename(names: list[str]) -> Path:
        path = tmp_path / "named"
        shutil.copytree(conditional, path, dirs_exist_ok=True)
        change_environment(path, class_names=names)
        return path

    return rename


ANIMALS = ["cats", "dogs", "a b", "a-b", "e", "f", "g", "h", "i", "j"]


@pytest.mark.parametrize(
    ("names", "label", "number"),
    [
        (ANIMALS, "dogs", 1),
        (ANIMALS, "2", 2),
        (ANIMALS, 2, 2),
        (["1", "2", "10", *map(str, range(11, 18))], "2", 1),
        (["1", "2", "10", *map(str, range(11, 18))], "10", 2),
        (["1", "2", "10", *map(str, range(11, 18))], 2, 2),
    ],
)
def test_a_class_is_named_or_numbered(named, names, label, number):
    trained = load_generator(named(names), ZOO, CPU)
    assert class_number(trained, label) == number
    assert draw_images(trained, 3, classes=[label])[1].tolist() == [number] * 3


@pytest.mark.parametrize(
    ("names", "label", "words"),
    [
        (ANIMALS, "dog", r"has the classes cats, dogs, .*\(numbers 0 to 9\)\. Did you mean 'dogs'"),
        (ANIMALS, "10", "numbers 0 to 9"),
        (["0", "5", "900", *map(str, range(11, 18))], "1", "has the classes 0, 5, 900"),
        ([str(n) for n in range(10)], "ten", "has the classes 0 to 9"),
        ([str(n) for n in range(10)], "-1", "has the classes 0 to 9"),
        ([str(n) for n in range(10)], "9" * 5000, "has the classes 0 to 9"),
    ],
)
def test_an_unknown_class_is_refused_with_those_that_are_there(named, names, label, words):
    with pytest.raises(UsageError, match=words):
        draw_images(load_generator(named(names), ZOO, CPU), 3, classes=[label])


def test_the_command_line_takes_the_name_of_a_class(named, tmp_path):
    run, out = named(ANIMALS), tmp_path / "x.npy"
    result = ganzoo("sample", run, "--class", "dogs", "-n", "3", "-o", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["labels"] == str(tmp_path / "x.labels.csv")
    assert (tmp_path / "x.labels.csv").read_text() == "image,label,class\n0,1,dogs\n1,1,dogs\n2,1,dogs\n"
    assert ganzoo("sample", run, "--class", "1", "-n", "3", "-o", tmp_path / "y.npy").exit_code == 0
    assert out.read_bytes() == (tmp_path / "y.npy").read_bytes()


def test_an_array_of_an_unconditional_generator_has_no_labels(run, tmp_path):
    sample(run, ZOO, CPU, tmp_path / "x.npy", count=3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_no_request_overwrites_the_file_of_another(named):
    run = named(ANIMALS)
    requests: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"label": "dogs"},
        {"label": 2},
        {"label": 3},
        {"count": 4},
        {"shape": (4, 1)},
        {"shape": (1, 4)},
        {"at": 1280},
        {"label": 2, "at": 1280, "shape": (2, 2)},
    ]
    requests += [{**request, "interpolate": True} for request in requests]
    requests += [{**request, "animate": True} for request in requests[len(requests) // 2 :]]
    at = int(load_generator(run, ZOO, CPU).images_seen)
    files = [sample(run, ZOO, CPU, **{**one, **({"at": at} if "at" in one else {})}).name for one in requests]
    assert len(set(files)) == len(requests)
    assert files[0] == "sample-0.png"
    assert files[2] == "sample-0-class-1-dogs.png"
    assert {files[3], files[4]} == {"sample-0-class-2-a-b.png", "sample-0-class-3-a-b.png"}
    assert files[9] == f"sample-0-class-2-a-b-at-{at}-2x2.png"


def test_a_newest_generator_that_was_removed_is_missed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    start(tiny_recipe(checkpoint_every="4 steps"), out, ZOO, torch.device("cpu"), note=lambda text: None)
    assert "lost" not in ganzoo("sample", out).stderr
    newest = max((out / "generators").glob("*.safetensors"))
    newest.unlink()
    done = ganzoo("sample", out)
    assert done.exit_code == 0
    assert f"has lost the generator at {int(newest.stem)} images" in done.stderr
