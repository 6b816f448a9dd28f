"""Scores of images that no run draws: arrays and folders of pictures, against datasets, folders and arrays."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import SMALL_DIGITS, ZOO, ganzoo, tiny_recipe
from PIL import Image

import ganzoo as api
from ganzoo import Choice, GanzooError, UsageError
from ganzoo.api.scoring import against_choice
from ganzoo.results.evaluate import evaluate
from ganzoo.results.image_arrays import images_of, open_images
from ganzoo.storage.run import Run
from ganzoo.training.train import start

CPU = torch.device("cpu")
BRIGHTNESS = f"{tiny.__file__}:Brightness"
DIGITS = "digits:size=8"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    start(tiny_recipe(length="4 steps"), out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture(scope="module")
def fakes(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 fakes of the run, as `--save-fakes` writes them."""
    file = tmp_path_factory.mktemp("fakes") / "fakes.npy"
    done = ganzoo("evaluate", run, "-e", BRIGHTNESS, "--samples", 300, "--save-fakes", file)
    assert done.exit_code == 0, done.output
    return file


def score(path: Any, *evaluators: str, against: Any = DIGITS, **more: Any) -> list[dict[str, Any]]:
    chosen = [Choice.parse(name) for name in evaluators or (BRIGHTNESS,)]
    return evaluate(path, ZOO, CPU, chosen, against=against_choice(against), note=lambda text: None, **more)


def values(lines: list[dict[str, Any]]) -> list[tuple[str, float, str]]:
    return [(line["score"], line["value"], line["card"]["digest"]) for line in lines]


def write_pictures(images: np.ndarray, folder: Path, mode: str = "L") -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image.squeeze(0)).convert(mode).save(folder / f"{index:05d}.png")
    return folder


# --- the same images have the same scores -----------------------------------------------------------------------------


def test_the_fakes_of_a_run_have_the_scores_of_the_run_wherever_they_are(run: Path, tmp_path: Path) -> None:
    """To the last digit: as an array in each layout, in an archive, in memory, and as a folder of PNGs."""
    file, silent = tmp_path / "fakes.npy", lambda text: None
    some = [Choice(BRIGHTNESS), Choice("fid-domain")]
    more = [*some, Choice("kid-domain"), Choice("precision-recall"), Choice("memorisation")]
    expected = values(evaluate(run, ZOO, CPU, more, 1000, save_fakes=file, note=silent))
    images = np.load(file)
    assert (images.shape, images.dtype) == ((1000, 1, 8, 8), np.uint8)
    np.save(tmp_path / "nhw.npy", images[:, 0])
    np.save(tmp_path / "nhwc.npy", images.transpose(0, 2, 3, 1))
    np.savez_compressed(tmp_path / "archive.npz", images=images, other=np.zeros(3))
    np.savez(tmp_path / "one.npz", anything=images)
    pictures, colour = write_pictures(images, tmp_path / "pngs"), write_pictures(images, tmp_path / "rgb", "RGB")
    names = ("nhw.npy", "nhwc.npy", "archive.npz", "one.npz")
    for subject in (file, pictures, colour, *(tmp_path / name for name in names), images_of(torch.from_numpy(images))):
        wanted = more if subject in (file, pictures) else some
        lines = evaluate(subject, ZOO, CPU, wanted, against=Choice.parse(DIGITS), note=silent)
        assert values(lines) == [line for line in expected if line[0] in {each["score"] for each in lines}], subject
        assert len(lines) == (len(expected) if wanted is more else 4)
        assert {line["card"]["subject"]["sha256"] for line in lines} == {hashlib.sha256(images.tobytes()).hexdigest()}


def test_the_default_evaluator_and_another_seed_agree_too(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "fakes.npz"
    of_run = evaluate(run, ZOO, CPU, (), 200, seed=5, save_fakes=file, note=lambda text: None)
    assert [line["score"] for line in of_run] == ["fid-domain"]
    assert values(evaluate(file, ZOO, CPU, against=Choice.parse(DIGITS), seed=5, note=lambda text: None)) == values(
        of_run
    )


def test_the_card_says_what_was_scored(fakes: Path, tmp_path: Path) -> None:
    card = score(fakes)[0]["card"]
    images = np.load(fakes)
    assert card["subject"] == {
        "kind": "array",
        "file": "fakes.npy",
        "layout": "NCHW",
        "images": 300,
        "of": 300,
        "shape": "1x8x8",
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        "seed": 0,
    }
    assert "fakes_resized" not in card["measure"]
    pictures = write_pictures(images[:50], tmp_path / "pngs")
    subject = score(pictures)[0]["card"]["subject"]
    assert (subject["kind"], subject["file"], subject["images"]) == ("folder", "pngs", 50)
    assert subject["decoded"] == "by image-folder, 1 channels, as they are"
    assert subject["sha256"] == hashlib.sha256(images[:50].tobytes()).hexdigest()


def test_scores_of_images_are_not_written_anywhere(fakes: Path) -> None:
    before = sorted(fakes.parent.iterdir())
    line = score(fakes)[0]
    assert (line["images"], line["step"], line["training"]) == (None, None, False)
    assert sorted(fakes.parent.iterdir()) == before


def test_fewer_images_are_chosen_at_random_and_always_the_same(fakes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = (score(fakes, samples=100)[0] for _ in range(2))
    assert (first["value"], first["card"]["subject"]["sha256"]) == (again["value"], again["card"]["subject"]["sha256"])
    assert (first["card"]["subject"]["images"], first["card"]["subject"]["of"]) == (100, 300)
    done = ganzoo("evaluate", fakes, "--against", DIGITS, "-e", BRIGHTNESS, "--samples", 100)
    assert "100 of the 300 images of" in done.stderr
    done = ganzoo("evaluate", fakes, "--against", DIGITS, "-e", BRIGHTNESS)
    assert "holds 300 images, not the 10,000 of protocol default: compare its scores only with" in done.stderr


# --- what they are compared with --------------------------------------------------------------------------------------


def test_folders_and_arrays_are_compared_with_each_other(fakes: Path, tmp_path: Path) -> None:
    """The reals are a folder or an array; a folder is read in the size and the channels of what is scored."""
    train, _ = ZOO.build("datasets", SMALL_DIGITS, split="train").read(torch.arange(120))
    reals = write_pictures(train.numpy(), tmp_path / "photos")
    np.save(tmp_path / "reals.npy", train.numpy())
    np.savez(tmp_path / "reals.npz", images=train[:, 0].numpy(), labels=np.arange(120) % 3)
    pictures = write_pictures(np.load(fakes)[:60], tmp_path / "fakes")
    for subject in (fakes, pictures):
        for against in (str(reals), str(tmp_path / "reals.npy"), str(tmp_path / "reals.npz"), Choice.parse(DIGITS)):
            measure = score(subject, "sliced-wasserstein", against=against)[0]["card"]["measure"]
            grey = subject == fakes or not str(against).endswith("photos")
            assert measure["shape"] == ("1x8x8" if grey else "3x8x8"), (subject, against)
    chosen = f"image-folder:path={reals},size=8,channels=1,test_share=0"
    measure = score(fakes, against=chosen)[0]["card"]["measure"]
    assert measure["reals"]["images"] == 120
    with_options = f"{reals}:size=8,channels=1,test_share=0"
    done = ganzoo("evaluate", pictures, "--against", with_options, "-e", BRIGHTNESS, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["scores"][0]["card"]["measure"]["reals"]["images"] == 120
    done = ganzoo("evaluate", pictures, "--against", reals, "-e", "sliced-wasserstein", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["run"] == str(pictures)


def test_a_run_is_compared_with_another_dataset_and_its_scores_are_kept_only_for_its_own(
    run: Path, tmp_path: Path
) -> None:
    train, _ = ZOO.build("datasets", SMALL_DIGITS, split="train").read(torch.arange(120))
    reals = write_pictures(255 - train.numpy(), tmp_path / "photos")
    (run / "scores.jsonl").unlink(missing_ok=True)
    own = score(run, samples=50)
    assert len(Run.open(run).lines("scores.jsonl")) == len(own)
    assert own[0]["card"]["subject"]["training_images"] == "same"
    other = ganzoo("evaluate", run, "-e", BRIGHTNESS, "--samples", 50, "--against", reals, "--json")
    assert other.exit_code == 0, other.output
    line = json.loads(other.stdout)["scores"][0]
    assert line["card"]["subject"]["training_images"] == "other"
    assert line["card"]["measure"]["reals"]["dataset"] == "image-folder"
    assert line["card"]["measure"]["shape"] == "1x8x8"  # a folder is read in the shape of the fakes
    assert "are not kept in" in other.stderr
    assert len(Run.open(run).lines("scores.jsonl")) == len(own)


def test_images_of_another_size_are_resized_only_if_asked_and_the_card_says_how(fakes: Path, tmp_path: Path) -> None:
    large = np.load(fakes)[:60].repeat(2, 2).repeat(2, 3)
    np.save(tmp_path / "large.npy", large)
    with pytest.raises(UsageError, match=r"large.npy has images of 1x16x16, and digits:size=8 of 1x8x8: add --resize"):
        score(tmp_path / "large.npy")
    card = score(tmp_path / "large.npy", resize=True)[0]["card"]
    assert card["measure"]["fakes_resized"] == "bilinear with antialiasing, rounded, from 1x16x16 to 1x8x8"
    assert card["subject"]["shape"] == "1x16x16"
    assert card["subject"]["sha256"] == hashlib.sha256(large.tobytes()).hexdigest()
    assert card["digest"] != score(fakes, samples=60)[0]["card"]["digest"]
    pictures = write_pictures(large, tmp_path / "large")
    alike = score(pictures, resize=True)[0]
    assert alike["value"] == score(tmp_path / "large.npy", resize=True)[0]["value"]
    assert alike["card"]["digest"] == card["digest"]


def test_labels_come_from_an_archive_a_file_beside_the_array_and_the_names_of_folders(tmp_path: Path) -> None:
    images, labels = ZOO.build("datasets", SMALL_DIGITS, split="test").read(torch.arange(60))
    accuracy = []
    np.savez(tmp_path / "a.npz", images=images.numpy(), labels=labels.numpy())
    np.save(tmp_path / "b.npy", images.numpy())
    with (tmp_path / "b.labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "class"])
        writer.writerows((index, label, label) for index, label in enumerate(labels.tolist()))
    for index, (image, label) in enumerate(zip(images.numpy(), labels.tolist(), strict=True)):
        (tmp_path / "c" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(tmp_path / "c" / str(label) / f"{index:03d}.png")
    for name in ("a.npz", "b.npy", "c"):
        (line,) = score(tmp_path / name, "class-accuracy")
        accuracy.append(line["value"])
    assert len(set(accuracy)) == 1
    assert accuracy[0] > 0.8
    (tmp_path / "b.labels.csv").unlink()
    with pytest.raises(UsageError, match=r"class-accuracy .* asks for classes, and .*b.npy has no labels that are"):
        score(tmp_path / "b.npy", "class-accuracy")


def test_the_labels_of_a_conditional_run_are_saved_with_its_fakes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = ganzoo("train", "cgan", DIGITS, "--steps", 2, "--batch-size", 8, "--out", out, "-q")
    assert done.exit_code == 0, done.output
    file = tmp_path / "fakes.npz"
    given = ("-e", "class-accuracy", "--samples", 40, "--json")
    of_run = ganzoo("evaluate", out, *given, "--save-fakes", file)
    assert of_run.exit_code == 0, of_run.output
    of_file = ganzoo("evaluate", file, *given, "--against", DIGITS)
    assert values(json.loads(of_file.stdout)["scores"]) == values(json.loads(of_run.stdout)["scores"])
    assert open_images(file).labels.tolist() == [index % 10 for index in range(40)]


# --- several at once --------------------------------------------------------------------------------------------------


def test_several_are_one_table_and_one_object(run: Path, fakes: Path) -> None:
    given = ("--against", DIGITS, "-e", BRIGHTNESS, "--samples", 300)
    done = ganzoo("evaluate", run, fakes, *given)
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    assert rows[0] == ["run", "score", "value", "better", "fakes", "reals", "images seen", "card"]
    assert [row[:2] for row in rows[2:]] == [
        [str(each), name] for name in ("brightness", "reals", "fakes") for each in (run, fakes)
    ]
    assert rows[2][2:6] == rows[3][2:6]
    assert "cannot be compared" not in done.stderr
    runs = json.loads(ganzoo("evaluate", run, fakes, *given, "--json").stdout)["runs"]
    assert [each["run"] for each in runs] == [str(run), str(fakes)]
    assert values(runs[0]["scores"]) == values(runs[1]["scores"])


def test_scores_that_cannot_be_compared_are_noted(run: Path, fakes: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.load(fakes)[:100])
    done = ganzoo("evaluate", fakes, tmp_path / "few.npy", "--against", DIGITS, "-e", BRIGHTNESS)
    assert "The values of brightness cannot be compared: their cards have 2 digests" in done.stderr


def test_one_that_cannot_be_scored_does_not_cost_the_others(run: Path, fakes: Path, tmp_path: Path) -> None:
    done = ganzoo("evaluate", fakes, tmp_path / "gone.npy", "--against", DIGITS, "-e", BRIGHTNESS, "--json")
    assert done.exit_code == 2
    assert "There is no file" in done.stderr
    assert [each["run"] for each in json.loads(done.stdout)["runs"]] == [str(fakes)]


def test_python_does_the_same(run: Path, fakes: Path) -> None:
    of_run = api.evaluate(run, BRIGHTNESS, samples=300)
    images = np.load(fakes)
    for subject in (fakes, str(fakes), images, torch.from_numpy(images)):
        assert values(api.evaluate(subject, BRIGHTNESS, against=DIGITS)) == values(of_run)
    assert api.evaluate(images, BRIGHTNESS, against={"name": "digits", "options": {"size": 8}}).plot()
    with pytest.raises(UsageError, match="the array holds no run"):
        api.evaluate(images, BRIGHTNESS)
    with pytest.raises(UsageError, match="has no keyword 'agaisnt'"):
        api.evaluate(images, BRIGHTNESS, agaisnt=DIGITS)


# --- bad input --------------------------------------------------------------------------------------------------------

ZEROS = np.zeros((20, 1, 8, 8), np.uint8)
FLOATS = np.linspace(0, 1, 20 * 64, dtype=np.float32).reshape(20, 1, 8, 8)
WITH_NAN = FLOATS.copy()
WITH_NAN[3:5, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            FLOATS,
            "float32 numbers from 0 to 1, and scores need uint8 images from 0 to 255: if 1 is white, save (images",
        ),
        (FLOATS * 2 - 1, "float32 numbers from -1 to 1, .*save ((images + 1) * 127.5).round()"),
        (FLOATS * 255, "float32 numbers from 0 to 255, .*save images.round()"),
        (FLOATS * 1e6, "float32 numbers from 0 to 1e+06, .*scale them to this range"),
        (WITH_NAN, "2 of 20 images of .* hold NaN or infinity: check the generator"),
        (ZEROS.astype(np.int64), "int64 numbers from 0 to 0, .*save images.astype('uint8')"),
        (ZEROS.astype(np.int64) - 4, "int64 numbers from -4 to -4, .*scale them to this range"),
        (ZEROS.astype(bool), "truth values, .*save images.astype('uint8') * 255"),
        (ZEROS.astype("S3"), "|S3, and scores need uint8"),
        (ZEROS[0, 0], "an array of shape (8, 8): images are (N, C, H, W)"),
        (ZEROS.reshape(20, 2, 4, 8), "images have 1 or 3 channels, and neither axis 1 nor axis 3"),
        (np.zeros((4, 3, 5, 3), np.uint8), "either axis may be"),
        (ZEROS[:0], "holds no images"),
        (ZEROS[:1], "holds 1 image: a score needs at least 2"),
        (np.zeros((20, 3, 8, 8), np.uint8), "colour images of 3x8x8, and digits:size=8 has grey ones of 1x8x8"),
        (np.zeros((20, 9, 7), np.uint8), "images of 1x9x7, and digits:size=8 of 1x8x8: add --resize"),
    ],
)
def test_arrays_that_are_not_images_are_refused_in_one_sentence(array: Any, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "fakes.npy", array)
    with pytest.raises(GanzooError) as error:
        score(tmp_path / "fakes.npy")
    assert all(part in str(error.value) for part in words.split(".*")), error.value
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def _archive(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return data.getvalue()


def _npy(array: np.ndarray, **options: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, array, **options)
    return data.getvalue()


def test_damaged_files_and_objects_are_refused(tmp_path: Path) -> None:
    objects = _npy(np.array([Touch(tmp_path / "run")], dtype=object), allow_pickle=True)
    huge = _npy(ZEROS).replace(b"(20, 1, 8, 8)", b"(99999999, 1, 9, 9)"[:13].ljust(13))
    cases = {
        "a.npy": b"no array",
        "b.npy": _npy(ZEROS)[:-5],
        "c.npy": objects,
        "d.npz": b"no archive",
        "e.npz": _archive(images=objects),
        "f.npz": _archive(images=huge),
        "g.npz": _archive(images=_npy(ZEROS)[:-5]),
        "h.npy": _archive(images=_npy(ZEROS)),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GanzooError) as error:
            score(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
        assert "allow_pickle" not in str(error.value)
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "two.npz", first=ZEROS, second=ZEROS)
    with pytest.raises(GanzooError, match=r"holds 2 arrays \(first, second\), none of them named images"):
        score(tmp_path / "two.npz")
    np.savez(tmp_path / "labels.npz", images=ZEROS, labels=np.zeros(3, int))
    with pytest.raises(GanzooError, match="not a whole number for each of 20 images"):
        score(tmp_path / "labels.npz")
    np.save(tmp_path / "i.npy", ZEROS)
    (tmp_path / "i.labels.csv").write_text("image,class\n0,1\n")
    with pytest.raises(GanzooError, match="cannot be read as the labels of the images beside it"):
        score(tmp_path / "i.npy")


def test_folders_that_cannot_be_scored_are_refused(tmp_path: Path, fakes: Path) -> None:
    pictures = write_pictures(np.load(fakes)[:20], tmp_path / "mixed")
    (pictures / "notes.txt").write_text("not a picture")
    assert score(pictures)[2]["value"] == 20  # a note says that the file is not read
    Image.new("L", (12, 9)).save(pictures / "large.png")
    with pytest.raises(GanzooError, match=r"pictures of several sizes, and the reals are of 1x8x8: add --resize"):
        score(pictures)
    card = score(pictures, resize=True)[0]["card"]
    assert card["subject"]["decoded"].endswith("central squares, bilinear with antialiasing, at 8x8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    for name in ("empty", "texts"):
        with pytest.raises(UsageError, match="holds no run"):
            score(tmp_path / name)
    (pictures / "broken.png").write_bytes(b"no picture")
    with pytest.raises(GanzooError, match=r"cannot be read \(broken.png"):
        score(pictures, resize=True)


def test_requests_that_make_no_sense_are_refused(run: Path, fakes: Path, tmp_path: Path) -> None:
    def refused(*arguments: Any) -> str:
        done = ganzoo("evaluate", *arguments)
        assert done.exit_code == 2, done.output
        assert not done.stdout
        return str(done.stderr)

    assert "holds no run (there is no recipe.json), so say what to compare its images with" in refused(fakes)
    assert "is no run, its images are there already: leave out --at and --save-fakes" in refused(
        fakes, "--against", DIGITS, "--at", 3, "--save-fakes", tmp_path / "a.npy"
    )
    assert "holds only 300 images" in refused(fakes, "--against", DIGITS, "--samples", 301)
    assert "this is a run: name the dataset" in refused(fakes, "--against", run)
    assert "There is no dataset 'digitz'" in refused(fakes, "--against", "digitz")
    assert "holds no run and no images (it does not exist)" in refused(tmp_path / "nowhere", "--against", DIGITS)
    assert "(it is a file of another kind)" in refused(__file__, "--against", DIGITS)
    assert "--save-fakes is for one RUN" in refused(run, run, "--save-fakes", tmp_path / "a.npy")
    assert "name a file that ends in .npy" in refused(run, "--save-fakes", tmp_path / "a.png")
    assert "is no folder that can be written" in refused(run, "--save-fakes", tmp_path / "no" / "a.npy")
    assert "leave out RUN, --at, --seed, --against" in refused("--calibrate", DIGITS, "--against", DIGITS)


def test_too_few_real_images_are_refused(fakes: Path, tmp_path: Path) -> None:
    train, _ = ZOO.build("datasets", SMALL_DIGITS, split="train").read(torch.arange(12))
    np.save(tmp_path / "reals.npy", train.numpy())
    with pytest.raises(GanzooError, match=r"memorisation .*at least 100 images of each kind, and there are 11 real"):
        score(fakes, "memorisation", against=str(tmp_path / "reals.npy"))
    np.save(tmp_path / "few.npy", train.numpy()[:4])
    with pytest.raises(GanzooError, match=r"few.npy is empty: test_every=10"):
        score(fakes, "memorisation", against=str(tmp_path / "few.npy"))
