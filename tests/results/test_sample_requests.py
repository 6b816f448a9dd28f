"""Samples as people ask for them: folders, given latents, truncation, tiles, walks, real images beside them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import SMALL_DIGITS, ZOO, ganzoo, sample
from PIL import Image

import ganzoo as api
from ganzoo import Choice, GanzooError, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.results.drawing import draw
from ganzoo.results.latents import is_gaussian, lerp, sample_latents, truncated
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.request import SampleRequest, place
from ganzoo.storage import pictures
from ganzoo.training.train import start

CPU = torch.device("cpu")


def train(out: Path, name: str, dataset: Choice = SMALL_DIGITS) -> Path:
    fields = {"length": "20 steps", "samples_every": "10 steps", "generator_optimizer": "adam:lr=0.02", "grid": "4x3"}
    architecture = Choice(f"{tiny.__file__}:{name}", {"width": 32})
    start(plan(ZOO, architecture, dataset, None, fields), out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "tiny", "Tiny")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "conditional", "TinyConditional")


def drawn(run: Path, **fields: Any) -> Any:
    trained = load_generator(run, ZOO, CPU)
    return draw(trained, SampleRequest(**fields), ZOO, lambda text: None)


# --- files ---


def test_a_folder_holds_single_pictures_and_a_table(conditional, tmp_path):
    images = drawn(conditional, count=12, seed=3, out=Path("x.npy")).images
    out = sample(conditional, ZOO, CPU, directory=tmp_path / "fakes", count=12, seed=3)
    names = sorted(path.name for path in out.glob("*.png"))
    assert names[:2] == ["00000-0.png", "00001-1.png"]
    for name, image in zip(names, images, strict=True):
        with Image.open(out / name) as picture:
            assert np.array_equal(np.asarray(picture), image[0].numpy())
    rows = list(csv.DictReader((out / "images.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == names
    assert rows[11] == {"file": "00011-1.png", "image": "11", "label": "1", "class": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["fakes"]


def test_an_unconditional_folder_has_no_labels(run, tmp_path):
    (tmp_path / "empty").mkdir()
    out = sample(run, ZOO, CPU, directory=tmp_path / "empty", count=2)
    assert (out / "images.csv").read_text() == "file,image\n00000.png,0\n00001.png,1\n"


@pytest.mark.parametrize(
    ("name", "words"), [("full", "holds other files"), ("file", "is a file"), ("no/a", "there is no")]
)
def test_a_folder_that_cannot_be_written_is_refused(run, tmp_path, name, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=words):
        sample(run, ZOO, CPU, directory=tmp_path / name, count=2)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_the_command_line_knows_a_folder_by_its_slash(conditional, tmp_path):
    for number, arguments in enumerate((["-o", f"{tmp_path}/0/"], ["--png-dir", tmp_path / "1"])):
        result = ganzoo("sample", conditional, "-n", "3", *arguments, "--json")
        assert result.exit_code == 0, result.output
        printed = json.loads(result.stdout)
        assert Path(printed["path"]) == tmp_path / str(number)
        assert printed["labels"] == str(tmp_path / str(number) / "images.csv")
    both = ganzoo("sample", conditional, "-o", f"{tmp_path}/2/", "--png-dir", tmp_path / "3")
    assert both.exit_code == 2
    assert "exclude each other" in both.output
    assert place("a.webp") == {"out": Path("a.webp"), "animate": ".webp"}
    assert place("a.png") == {"out": Path("a.png")}


def test_an_npz_can_be_drawn_again(conditional, tmp_path):
    out = sample(conditional, ZOO, CPU, tmp_path / "a.npz", count=8, seed=2, label=5)
    with np.load(out) as arrays:
        assert set(arrays.files) == {"images", "latents", "labels", "class_names"}
        images, latents, labels = arrays["images"], arrays["latents"], arrays["labels"]
    assert labels.tolist() == [5] * 8
    assert np.array_equal(latents, sample_latents(load_generator(conditional, ZOO, CPU), 8, 2).numpy())
    again = drawn(conditional, latents=out)
    assert np.array_equal(again.images.numpy(), images)
    assert again.labels.tolist() == [5] * 8
    other = drawn(conditional, latents=torch.from_numpy(latents), classes=(3,))
    assert other.labels.tolist() == [3] * 8


def test_a_picture_of_20000_images_is_refused_with_what_to_do(run):
    result = ganzoo("sample", run, "-n", "20000")
    assert result.exit_code == 2
    for word in ("20,000 images", "-o DIR/", "FILE.npy"):
        assert word in result.output
    with pytest.raises(UsageError, match="too large to be looked at"):
        pictures.grid(torch.zeros(1, 1, 9000, 9000, dtype=torch.uint8), 1)


# --- which images ---


BAD_LATENTS = {
    "shape": (np.zeros((3, 5), np.float32), "takes latents of N x 4 numbers, and these are 3 x 5"),
    "one": (np.zeros(4, np.float32), "N x 4 numbers, and these are 4 of"),
    "empty": (np.zeros((0, 4), np.float32), "these are 0 x 4"),
    "text": (np.array([["a"] * 4]), "takes latents of N x 4 numbers"),
    "nan": (np.full((2, 4), np.nan, np.float32), "not finite"),
}


@pytest.mark.parametrize("name", BAD_LATENTS)
def test_latents_that_do_not_fit_are_refused(run, tmp_path, name):
    array, words = BAD_LATENTS[name]
    assert load_generator(run, ZOO, CPU).architecture.latents(1, torch.Generator()).shape == (1, 4)
    np.save(tmp_path / "z.npy", array)
    with pytest.raises(UsageError, match=words):
        sample(run, ZOO, CPU, tmp_path / "a.png", latents=tmp_path / "z.npy")
    assert not (tmp_path / "a.png").exists()


def test_files_that_hold_no_latents_are_refused(run, tmp_path):
    (tmp_path / "a.npy").write_bytes(b"text")
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    for name, words in (
        ("a.npy", "no|is not an array"),
        ("b.npz", "no array named latents"),
        ("c.npy", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=words):
            sample(run, ZOO, CPU, latents=tmp_path / name)
    with pytest.raises(UsageError, match=r"must end in \.npy"):
        sample(run, ZOO, CPU, tmp_path / "a.png", latents=tmp_path / "a.txt")


def test_a_tile_is_one_of_the_grid_of_the_training(conditional, tmp_path):
    newest = sorted((conditional / "samples").glob("*.png"))[-1]
    tile = sample(conditional, ZOO, CPU, tmp_path / "a.png", tile=(3, 2), scale=9)
    with Image.open(newest) as opened, Image.open(tile) as one:
        grid, alone = np.asarray(opened.convert("RGB")), np.asarray(one.convert("RGB"))
    left = grid.shape[1] - pictures.MARGIN - 3 * 72 - 2 * 2 + 1 * 74
    top = grid.shape[0] - pictures.MARGIN - 4 * 72 - 3 * 2 + 2 * 74
    bottom = alone.shape[0] - pictures.MARGIN
    right = alone.shape[1] - pictures.MARGIN
    assert np.array_equal(grid[top : top + 72, left : left + 72], alone[bottom - 72 : bottom, right - 72 : right])
    assert drawn(conditional, tile=(3, 2)).labels.tolist() == [2]
    for wrong in ((5, 1), (1, 4), (0, 1)):
        with pytest.raises(UsageError, match=r"rows 1 to 4 and the columns 1 to 3"):
            drawn(conditional, tile=wrong)
    assert ganzoo("sample", conditional, "--tile", "2x3").exit_code == 2


def test_truncation_is_a_truncated_normal_distribution():
    latents = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    for limit in (0.3, 1.0, 2.0):
        inside = latents[latents.abs() <= limit].double()
        found = truncated(latents, limit)
        assert float(found.abs().max()) <= limit
        assert abs(float(found.std()) - float(inside.std())) < 0.01
        for share in (0.1, 0.5, 0.9):
            assert abs(float(found.flatten()[:40_000].quantile(share)) - float(inside[:40_000].quantile(share))) < 0.02
    assert (truncated(latents.sort(0).values, 1.0).diff(dim=0) >= 0).all()
    torch.testing.assert_close(truncated(latents, 30.0), latents, atol=1e-4, rtol=1e-4)


def test_only_gaussian_latents_are_truncated(run):
    for name, gaussian in (("dcgan-tutorial", True), ("mlp-keras-gan", True), ("sngan", True), ("cgan", False)):
        assert is_gaussian(ZOO.build("architectures", Choice(name))) == gaussian, name

    class Sphere(tiny.Tiny):
        def latents(self, count: int, generator: torch.Generator) -> torch.Tensor:
            drawn = torch.randn(count, 64, generator=generator)
            return drawn / drawn.norm(dim=1, keepdim=True) * 8

    assert not is_gaussian(Sphere())


def test_a_truncated_sample_is_nearer_to_the_centre(run):
    trained = load_generator(run, ZOO, CPU)
    if not is_gaussian(trained.architecture):
        with pytest.raises(UsageError, match="are not Gaussian"):
            drawn(run, truncation=0.5)
        return
    assert float(drawn(run, count=20, truncation=0.5).latents.abs().max()) <= 0.5


def test_rows_of_classes_by_ranges_and_names(conditional):
    assert drawn(conditional, classes="3..5").labels.tolist() == [3] * 3 + [4] * 3 + [5] * 3
    assert drawn(conditional, classes="7,1", shape=(2, 2)).labels.tolist() == [7, 7, 1, 1]
    assert drawn(conditional, classes="0..9", count=20).labels.tolist() == [n for n in range(10) for _ in range(2)]
    for text, words in (("5..3", "write 3..5"), ("0..12", "classes 0 to 9"), ("", "No class is named")):
        with pytest.raises(UsageError, match=words):
            drawn(conditional, classes=text)
    assert ganzoo("sample", conditional, "--class", "1", "--classes", "0..2").exit_code == 2


# --- walks ---


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_walk_between_two_seeds_ends_at_their_samples(run, method):
    walk = drawn(run, from_seed=3, to_seed=7, frames=6, method=method)
    assert (walk.columns, len(walk.images)) == (6, 6)
    assert torch.equal(walk.images[:1], drawn(run, count=1, seed=3).images)
    assert torch.equal(walk.images[-1:], drawn(run, count=1, seed=7).images)


def test_lerp_is_a_straight_line():
    first, last = torch.randn(2, 4), torch.randn(2, 4)
    torch.testing.assert_close(lerp(first, last, torch.tensor([0.25, 0.5]))[1], (first[1] + last[1]) / 2)


def test_a_walk_leads_along_given_latents(run):
    latents = sample_latents(load_generator(run, ZOO, CPU), 3, 5)
    walk = drawn(run, latents=latents, interpolate=True, frames=4)
    images = drawn(run, latents=latents).images
    assert len(walk.images) == 2 * 4
    assert torch.equal(walk.images[[0, 3, 4, 7]], images[[0, 1, 1, 2]])
    with pytest.raises(UsageError, match="3 walks lead along 4 latents"):
        drawn(run, latents=latents, interpolate=True, shape=(3, 4))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_walks_and_trainings_as_animations(run, tmp_path, suffix):
    walk = sample(run, ZOO, CPU, tmp_path / f"a{suffix}", from_seed=1, to_seed=2, frames=5, animate=suffix)
    grids = sample(run, ZOO, CPU, tmp_path / f"b{suffix}", animate=suffix, frames=2)
    with Image.open(walk) as one, Image.open(grids) as two:
        assert one.size == (72 + 2 * pictures.MARGIN,) * 2
        assert 3 <= one.n_frames <= 5
        assert two.n_frames == 2
    result = ganzoo("sample", run, "-o", tmp_path / f"c{suffix}")
    assert result.exit_code == 0, result.output


# --- real images beside them ---


def test_real_images_stand_left_of_generated_ones_of_their_class(conditional):
    drawing = drawn(conditional, shape=(10, 2), with_reals=True)
    assert drawing.groups == [("real", 2), ("generated", 2)]
    shown = drawing.shown.reshape(10, 4, 1, 8, 8)
    assert torch.equal(shown[:, 2:].flatten(0, 1), drawing.images)
    dataset = ZOO.build("datasets", SMALL_DIGITS, split="train")
    images, labels = dataset.read(torch.arange(len(dataset)))
    for row in range(10):
        for real in shown[row, :2]:
            same = (images == real).flatten(1).all(dim=1)
            assert row in labels[same].tolist()
    assert not torch.equal(shown[0, 0], shown[0, 1])
    assert torch.equal(drawn(conditional, shape=(10, 2), with_reals=True).shown, drawing.shown)


def test_the_nearest_training_images_are_found(run, tmp_path):
    found = drawn(run, count=3, neighbours=4).neighbours
    assert found.positions.shape == (3, 4)
    assert (found.distances.diff(dim=1) >= 0).all()
    dataset = ZOO.build("datasets", SMALL_DIGITS, split="train")
    assert torch.equal(dataset.read(found.positions.flatten())[0], found.images.flatten(0, 1))
    # a training image is its own nearest neighbour
    from ganzoo.results.reals import TrainingImages

    reals = TrainingImages(load_generator(run, ZOO, CPU), ZOO, "--neighbours", lambda text: None)
    own = reals.nearest(dataset.read(torch.tensor([5, 17]))[0], 1)
    assert own.distances.max() < 1e-2
    assert torch.equal(own.images[:, 0], dataset.read(torch.tensor([5, 17]))[0])
    assert torch.equal(own.labels[:, 0], dataset.read(torch.tensor([5, 17]))[1])
    with np.load(sample(run, ZOO, CPU, tmp_path / "a.npz", count=3, neighbours=4)) as arrays:
        assert np.array_equal(arrays["neighbours"], found.positions.numpy())


def test_the_nearest_training_images_in_pixels(run, monkeypatch):
    from ganzoo.results import reals

    dataset = ZOO.build("datasets", SMALL_DIGITS, split="train")
    notes: list[str] = []
    images = dataset.read(torch.tensor([4, 17]))[0]
    shifted = images.clamp(max=250) + 5  # nearest to themselves, though not equal to any

    def nearest():
        return reals.TrainingImages(load_generator(run, ZOO, CPU), ZOO, "--neighbours", notes.append).nearest(
            shifted, 3, reals.PIXELS
        )

    found = nearest()
    every = dataset.read(torch.arange(len(dataset)))[0].double()
    differences = (every[None] - shifted[:, None].double()).square().flatten(2).mean(dim=2).sqrt()
    assert torch.allclose(found.distances.double(), differences.sort(dim=1).values[:, :3], rtol=1e-5)
    assert found.by == "pixels"
    assert notes == []
    # where the training images do not fit in memory, evenly spread ones are compared, and a note says so
    monkeypatch.setattr(reals, "_NUMBERS", len(dataset) * dataset.spec.pixels // 2)
    found = nearest()
    assert (found.positions % 2 == 0).all() or (found.positions % 3 == 0).all()
    assert len(notes) == 1
    assert "training images are compared, evenly spread" in notes[0]


def test_a_dataset_that_is_gone_is_named(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(24):
        Image.new("L", (8, 8), 10 * number).save(folder / f"{number}.png")
    photos = Choice("image-folder", {"path": str(folder), "size": 8, "test_share": 0.0})
    run = train(tmp_path / "run", "Tiny", photos)
    assert sample(run, ZOO, CPU, neighbours=2, count=2).is_file()  # without labels: by pixels
    with pytest.raises(GanzooError, match="24 training images: draw fewer than 30"):
        sample(run, ZOO, CPU, with_reals=True, count=30)
    folder.rename(tmp_path / "elsewhere")
    for fields in ({"with_reals": True}, {"neighbours": 3}):
        with pytest.raises(GanzooError, match=r"shows images of .*, which cannot be read: .* a folder of pictures"):
            sample(run, ZOO, CPU, **fields)
    assert sample(run, ZOO, CPU, count=2).is_file()


# --- contradictions ---


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"from_seed": 1}, "belong together"),
        ({"from_seed": 1, "to_seed": 2, "seed": 3}, "exclude each other"),
        ({"truncation": 0.0}, "number above 0"),
        ({"truncation": -1.0}, "number above 0"),
        ({"truncation": float("nan")}, "number above 0"),
        ({"method": "lerp"}, "there is no walk"),
        ({"method": "cubic", "interpolate": True}, "slerp or lerp"),
        ({"frames": 5}, "--frames is the length"),
        ({"frames": 1, "interpolate": True}, "at least 2"),
        ({"tile": (1, 1), "seed": 3}, "--tile draws one tile"),
        ({"tile": (1, 1), "interpolate": True}, "--tile draws one tile"),
        ({"latents": Path("a.npy"), "seed": 3}, "--latents and a seed"),
        ({"latents": Path("a.npy"), "truncation": 0.5}, "--truncation changes"),
        ({"with_reals": True, "neighbours": 3}, "two pictures"),
        ({"with_reals": True, "interpolate": True}, "not walks"),
        ({"with_reals": True, "out": Path("a.npy")}, "name a .png file"),
        ({"neighbours": 1000}, "number from 1 to 32"),
        ({"theme": "pink"}, "it is dark or light"),
        ({"scale": 0}, "factor from 1 to 64"),
        ({"count": 0}, "name at least 1"),
        ({"animate": ".gif", "title": "x"}, "as they are"),
        ({"out": Path("a.png"), "directory": Path("b")}, "exclude each other"),
    ],
)
def test_contradictions_are_refused(fields, words):
    with pytest.raises(UsageError, match=words):
        SampleRequest(**fields)


def test_every_request_has_a_file_of_its_own(conditional, tmp_path):
    np.save(tmp_path / "z.npy", np.zeros((2, 4), np.float32))
    np.save(tmp_path / "y.npy", np.ones((2, 4), np.float32))
    requests: list[dict[str, Any]] = [
        {},
        {"classes": "0..9"},
        {"classes": "0..8"},
        {"latents": tmp_path / "z.npy"},
        {"latents": tmp_path / "y.npy"},
        {"tile": (1, 2)},
        {"tile": (2, 1)},
        {"interpolate": True},
        {"interpolate": True, "method": "lerp"},
        {"interpolate": True, "frames": 4},
        {"interpolate": True, "frames": 4, "animate": ".webp"},
        {"from_seed": 1, "to_seed": 2},
        {"from_seed": 2, "to_seed": 1},
        {"with_reals": True},
        {"neighbours": 2},
        {"neighbours": 3},
        {"theme": "light"},
        {"title": "a"},
        {"title": "b"},
        {"caption": True},
        {"scale": 2},
        {"animate": ".gif"},
        {"animate": ".gif", "frames": 2},
        {"animate": ".gif", "theme": "light"},
    ]
    files = [sample(conditional, ZOO, CPU, **request).name for request in requests]
    assert len(set(files)) == len(requests)
    assert files[11] == "interpolation-1-to-2.png"


# --- Python ---


def test_python_draws_what_the_command_line_draws(conditional, tmp_path):
    run = api.load(conditional, device="cpu")
    pairs = [
        (run.sample(classes="0..2", caption=True, title="Digits", theme="light"), ["--classes", "0..2", "--caption"]),
        (run.sample(tile=(2, 2)), ["--tile", "2,2"]),
        (run.sample(with_reals=True), ["--with-reals"]),
        (run.sample(4, neighbours=2), ["-n", "4", "--neighbours", "2"]),
        (run.interpolate(from_seed=1, to_seed=2, frames=4), ["--from-seed", "1", "--to-seed", "2", "--frames", "4"]),
    ]
    more = [["--title", "Digits", "--theme", "light"], [], [], [], []]
    for number, ((grid, options), others) in enumerate(zip(pairs, more, strict=True)):
        files = tmp_path / f"python-{number}.png", tmp_path / f"command-{number}.png"
        grid.save(files[0])
        assert ganzoo("sample", conditional, *options, *others, "-o", files[1]).exit_code == 0
        assert files[0].read_bytes() == files[1].read_bytes(), options
    assert pairs[3][0].neighbours.shape == (4, 2)
    grid = run.sample(3, seed=2)
    assert torch.equal(run.sample(latents=grid.latents, classes=grid.labels.tolist(), grid=(3, 1)).tensor, grid.tensor)
    grid.save(tmp_path / "a.npz")
    assert grid.save(f"{tmp_path}/folder/") == tmp_path / "folder"
    assert run.gif(tmp_path / "a.webp", frames=2) == tmp_path / "a.webp"
    with pytest.raises(UsageError, match=r"must end in \.gif"):
        run.gif(tmp_path / "a.jpg")


def test_a_sample_needs_a_trained_generator_only(run: Path) -> None:
    trained = load_generator(run, ZOO, CPU)
    assert isinstance(trained, TrainedGenerator)
    assert drawn(run, count=5).images.shape == (5, 1, 8, 8)
