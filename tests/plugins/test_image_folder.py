"""Folders of pictures: what is read of them, how, and what is said of those that cannot be read."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ganzoo as ganzoo_cli
from PIL import Image

import ganzoo
from ganzoo_plugins.datasets import _picture_cache, _pictures
from ganzoo_plugins.datasets._listing import is_test_picture
from ganzoo_plugins.datasets._notes import Progress
from ganzoo_plugins.datasets._picture_cache import PictureCache
from ganzoo_plugins.datasets._pictures import careful, decode
from ganzoo_plugins.datasets.image_folder import ImageFolder

AVIF = pytest.param(
    "avif", marks=pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF")
)


def everything(dataset: ganzoo.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.read(torch.arange(len(dataset)))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def paint(path: Path, mode: str = "RGB", size: tuple[int, int] = (12, 8), color=(200, 100, 50), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
    return path


def only(folder: Path, **options) -> torch.Tensor:
    """The one picture of a folder."""
    dataset = ImageFolder(path=str(folder), **{"test_share": 0.0, "size": 4, **options})
    assert len(dataset) == 1
    return dataset.read(torch.tensor([0]))[0][0]


def test_sub_folders_are_classes(folder):
    for name in ("zebra/1.png", "apple/deep/2.JPG", "apple/3.webp", "apple/.hidden.png", ".git/4.png", "apple/._5.png"):
        paint(folder / name.replace(".JPG", ".jpg")).rename(folder / name)
    (folder / "empty").mkdir()
    (folder / "apple/notes.txt").write_text("not a picture")
    (folder / "apple/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "cover.txt").write_text("nor this")
    dataset = ImageFolder(path=str(folder), size=4, test_share=0.0)
    assert dataset.class_names == ("apple", "zebra")
    assert everything(dataset)[1].tolist() == [0, 0, 1]
    assert everything(dataset)[1].dtype == torch.int64
    assert (str(dataset.spec), dataset.spec.classes) == ("3x4x4", 2)


def test_loose_pictures_are_one_class_and_split_by_name(folder):
    for number in range(200):
        paint(folder / f"{number}.png", size=(4, 4), color=(number, 0, 0))
    train, test = (ImageFolder(path=str(folder), split=split, size=0, test_share=0.2) for split in ("train", "test"))
    assert train.class_names == ()
    assert train.spec.classes == 1
    assert everything(train)[1].unique().tolist() == [0]
    numbers = {part: set(everything(part)[0][:, 0, 0, 0].tolist()) for part in (train, test)}
    assert numbers[train] | numbers[test] == set(range(200))
    assert not numbers[train] & numbers[test]
    assert 25 < len(test) < 55
    for number in range(100):
        paint(folder / f"later{number}.png", size=(4, 4), color=(255, 0, 0))
    later = ImageFolder(path=str(folder), split="test", size=0, test_share=0.2)
    assert set(everything(later)[0][:, 0, 0, 0].tolist()) - {255} == numbers[test]


@pytest.mark.parametrize(
    ("mode", "color", "file", "expected"),
    [
        ("RGB", (200, 100, 50), "a.png", (200, 100, 50)),
        ("RGB", (200, 100, 50), "a.png", (124,)),
        ("L", 77, "a.png", (77, 77, 77)),
        ("1", 1, "a.png", (255, 255, 255)),
        ("LA", (100, 0), "a.png", (255, 255, 255)),  # nothing but the white ground
        ("RGBA", (200, 100, 50, 255), "a.png", (200, 100, 50)),
        ("RGBA", (0, 0, 0, 128), "a.png", (127,)),
        ("CMYK", (0, 255, 255, 0), "a.tif", (255, 0, 0)),
        ("I;16", 0x8000, "a.png", (128, 128, 128)),
        ("I;16", 0xFFFF, "a.tif", (255,)),
        ("I;16", 256, "a.png", (1,)),
    ],
)
def test_every_mode_becomes_bytes(folder, mode, color, file, expected):
    paint(folder / file, mode, color=color)
    assert only(folder, channels=len(expected))[:, 0, 0].tolist() == list(expected)


def test_palettes_are_looked_up(folder):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(folder / "a.png")
    assert only(folder)[:, 0, 0].tolist() == [10, 20, 30]
    picture.save(folder / "a.png", transparency=1)
    assert only(folder)[:, 0, 0].tolist() == [255, 255, 255]


def test_exif_rotation_is_honoured(folder):
    picture = Image.new("RGB", (8, 4))
    picture.paste((255, 255, 255), (0, 0, 4, 4))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: white on the top
    picture.save(folder / "a.png", exif=exif)
    image = only(folder, size=0, channels=1)
    assert image.shape == (1, 8, 4)
    assert image[0, :4].eq(255).all()
    assert image[0, 4:].eq(0).all()


def test_crop_takes_the_centre_and_plain_resizing_distorts(folder):
    picture = Image.new("L", (12, 4))
    picture.paste(255, (4, 0, 8, 4))
    picture.save(folder / "a.png")
    assert only(folder, channels=1).eq(255).all()
    distorted = only(folder, channels=1, crop=False)
    assert distorted.shape == (1, 4, 4)
    assert 60 < distorted.float().mean() < 110


def broken_pictures(folder: Path) -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(jpeg, "jpeg")
    Image.fromarray(noise).save(png, "png")
    return {
        "cut.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "cut.png": png.getvalue()[: len(png.getvalue()) // 2],
        "empty.png": b"",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "text.jpg": b"this is no picture",
    }


def test_broken_pictures_stop_the_run_with_a_list(folder):
    paint(folder / "good.png")
    for name, content in broken_pictures(folder).items():
        (folder / name).write_bytes(content)
    with pytest.raises(ganzoo.GanzooError) as caught:
        ImageFolder(path=str(folder), test_share=0.0)
    message = str(caught.value)
    assert message.startswith(f"5 of 6 pictures in {folder} cannot be read (cut.jpg: ")
    assert "cut.png: " in message
    assert "empty.png: cannot identify image file; " in message
    assert "; and 2 more): mend or delete them, or leave them out with skip_broken=true." in message
    assert "\n" not in message


def test_a_picture_that_comes_back_while_another_process_decodes_is_read(folder, monkeypatch):
    paint(folder / "a.png").rename(folder / "a.away")
    paint(folder / "b.png")
    load, calls = PictureCache._load, []

    def load_and_bring_back(cache):
        calls.append(cache)
        if len(calls) == 2:  # the lock is held now
            (folder / "a.away").rename(folder / "a.png")
        return load(cache)

    monkeypatch.setattr(PictureCache, "_load", load_and_bring_back)
    cache = PictureCache(folder, ["a.png", "b.png"], {"channels": 3, "size": 4, "crop": True}, retry=True)
    assert cache.broken == {}
    assert cache.row_of("a.png") >= 0


def test_broken_pictures_are_skipped_when_asked(folder, capsys):
    for name, content in broken_pictures(folder).items():
        (folder / name).write_bytes(content)
    with pytest.raises(ganzoo.GanzooError, match="5 of 5 pictures"):
        ImageFolder(path=str(folder), test_share=0.0, skip_broken=True)
    paint(folder / "good.png", color=(9, 9, 9))
    (folder / "dangling.png").symlink_to("nowhere.png")
    for _ in range(2):  # read, then from the cache
        dataset = ImageFolder(path=str(folder), size=4, test_share=0.0, skip_broken=True)
        assert everything(dataset)[0].unique().tolist() == [9]
        assert len(dataset) == 1
    # said once, however often the folder is read
    assert capsys.readouterr().err.count(f"6 of 7 pictures in {folder} cannot be read (cut.jpg: ") == 1
    with pytest.raises(ganzoo.GanzooError, match="6 of 7 pictures"):
        ImageFolder(path=str(folder), size=4, test_share=0.0)


def test_a_picture_with_a_wrong_suffix_is_read_all_the_same(folder):
    paint(folder / "a.png").rename(folder / "a.jpg")
    assert only(folder)[:, 0, 0].tolist() == [200, 100, 50]


def test_other_formats_are_refused_whatever_their_suffix_says(folder):
    paint(folder / "a.pcx").rename(folder / "a.png")
    with pytest.raises(ganzoo.GanzooError, match=r"a.png: cannot identify"):
        ImageFolder(path=str(folder), test_share=0.0)


def test_pictures_too_large_to_be_true_are_refused(folder):
    paint(folder / "bomb.png", "1", (10_000, 9_500), 0)
    with pytest.raises(ganzoo.GanzooError, match=r"bomb.png: .*decompression bomb"):
        ImageFolder(path=str(folder), test_share=0.0)


def test_without_a_size_all_pictures_must_have_one(folder):
    paint(folder / "a.png", size=(5, 7))
    assert only(folder, size=0).shape == (3, 7, 5)
    paint(folder / "b.png", size=(6, 7))
    with pytest.raises(ganzoo.GanzooError, match=r"size=0 wants .* a.png is 7x5 but b.png is 7x6: give size="):
        ImageFolder(path=str(folder), size=0, test_share=0.0)


def test_folders_without_an_answer_say_what_to_do(folder, tmp_path):
    with pytest.raises(ganzoo.UsageError, match="image-folder:path=DIR"):
        ImageFolder()
    with pytest.raises(ganzoo.GanzooError, match="nowhere cannot be listed"):
        ImageFolder(path=str(tmp_path / "nowhere"))
    with pytest.raises(ganzoo.GanzooError, match=r"has no pictures: .*png"):
        ImageFolder(path=str(folder))
    paint(folder / "a.png")
    with pytest.raises(ganzoo.GanzooError, match="cannot be listed"):
        ImageFolder(path=str(folder / "a.png"))
    with pytest.raises(ganzoo.GanzooError, match=r"The test split of .* is empty"):
        ImageFolder(path=str(folder), split="test", test_share=0.0)
    paint(folder / "cats/b.png")
    with pytest.raises(ganzoo.GanzooError, match=r"both in folders \(cats\) and loose \(a.png\)"):
        ImageFolder(path=str(folder))


def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    paint(tmp_path / "elsewhere/a.png")
    (folder / "cats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(folder)
    dataset = ImageFolder(path=str(folder), size=4, test_share=0.0)
    assert dataset.class_names == ("cats",)
    assert len(dataset) == 1


def test_pictures_are_decoded_once_until_they_change(folder, capsys):
    paint(folder / "a.bmp", color=(1, 1, 1))
    assert only(folder).unique().tolist() == [1]
    assert "Decoding 1 pictures" in capsys.readouterr().err
    assert only(folder).unique().tolist() == [1]
    assert not capsys.readouterr().err
    date = (folder / "a.bmp").stat().st_mtime_ns
    paint(folder / "a.bmp", color=(2, 2, 2))
    os.utime(folder / "a.bmp", ns=(date, date))  # another picture of the same length and date
    assert only(folder).unique().tolist() == [2]
    assert only(folder, size=5).shape == (3, 5, 5)


def caches() -> list[Path]:
    return [path for path in (ganzoo.cache_dir() / "image-folder").iterdir() if path.is_dir()]


@pytest.fixture
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))


def colours(folder: Path, count: int = 10) -> torch.Tensor:
    """Pictures of the folder: number n is of the colour n."""
    for number in range(count):
        paint(folder / f"{number:03d}.png", "L", (4, 4), number + 100)
    return torch.arange(100, 100 + count, dtype=torch.uint8)


def values(folder: Path, **options) -> list[int]:
    dataset = ImageFolder(path=str(folder), **{"size": 0, "channels": 1, "test_share": 0.0, **options})
    return everything(dataset)[0][:, 0, 0, 0].tolist()


@pytest.mark.usefixtures("_cache")
def test_a_flipped_bit_in_the_cache_is_never_read(folder, capsys):
    expected = colours(folder).tolist()
    assert values(folder) == expected
    (images,) = caches()[0].glob("images-*.bin")
    good = images.read_bytes()
    for place in range(len(good)):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        images.write_bytes(content)
        capsys.readouterr()
        dataset = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
        assert everything(dataset)[0].flatten(1).unique(dim=1).flatten().tolist() == expected
        said = capsys.readouterr().err
        assert f"what is damaged is decoded anew, beginning with {place // 16:03d}.png." in said
        assert images.read_bytes() == good, "and mended"
    assert dataset.verify() == "read 10 images of 1x4x4, each decoded anew and compared"


@pytest.mark.usefixtures("_cache")
def test_a_flipped_bit_in_the_index_of_the_cache_is_never_read(folder):
    expected = colours(folder, 3).tolist()
    assert values(folder) == expected
    index = caches()[0] / "index"
    good = index.read_bytes()
    for place in range(0, len(good), 7):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        index.write_bytes(content)
        assert values(folder) == expected


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
def test_a_damaged_cache_is_made_anew(damage, folder, capsys):
    expected = colours(folder).tolist()
    values(folder)
    capsys.readouterr()
    (images,) = caches()[0].glob("images-*.bin")
    if damage == "gone":
        images.unlink()
    else:
        images.write_bytes(images.read_bytes()[:-1] if damage == "cut" else b"")
    assert values(folder) == expected
    assert "is damaged: the pictures are decoded anew.\nDecoding 10 pictures" in capsys.readouterr().err
    assert values(folder) == expected
    assert not capsys.readouterr().err
    assert len(list(caches()[0].iterdir())) == 2


@pytest.mark.usefixtures("_cache")
def test_a_damaged_cache_of_pictures_that_have_changed_is_refused(folder):
    colours(folder)
    dataset = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
    (images,) = caches()[0].glob("images-*.bin")
    images.write_bytes(bytes(160))
    paint(folder / "003.png", "L", (4, 4), 7)
    with pytest.raises(ganzoo.GanzooError, match=r"003.png has changed while it was used, and its copy .* is damaged"):
        dataset.read(torch.tensor([3]))


@pytest.mark.usefixtures("_cache")
def test_verify_compares_with_the_pictures(folder):
    colours(folder)
    dataset = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
    paint(folder / "003.png", "L", (4, 4), 7)
    with pytest.raises(ganzoo.GanzooError, match=r"003.png is not what .* holds of it: delete that folder"):
        dataset.verify()


def decoded(monkeypatch) -> list[str]:
    """The names of the pictures that are decoded from here on."""
    names: list[str] = []
    monkeypatch.setattr(_picture_cache, "decode", lambda path, **how: names.append(path.name) or decode(path, **how))
    return names


@pytest.mark.usefixtures("_cache")
def test_only_what_is_new_is_decoded(folder, monkeypatch, capsys):
    expected = colours(folder).tolist()
    running = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
    names = decoded(monkeypatch)
    assert values(folder) == expected
    assert names == []
    capsys.readouterr()
    paint(folder / "0045.png", "L", (4, 4), 45)
    assert values(folder) == [*expected[:5], 45, *expected[5:]]
    assert names == ["0045.png"]
    assert capsys.readouterr().err == f"Decoding 1 of 11 pictures of {folder}, those that are new or have changed.\n"
    (folder / "0045.png").rename(folder / "zebra.png")  # the same content is known
    os.utime(folder / "003.png")
    assert values(folder) == [*expected, 45]
    assert names == ["0045.png"]
    paint(folder / "003.png", "L", (4, 4), 3)
    (folder / "004.png").unlink()
    assert values(folder) == [*expected[:3], 3, *expected[5:], 45]
    assert names == ["0045.png", "003.png"]
    assert everything(running)[0][:, 0, 0, 0].tolist() == expected, "a training that runs keeps what it has"


@pytest.mark.usefixtures("_cache")
def test_rows_that_are_not_used_are_dropped_in_the_end(folder):
    expected = colours(folder, 150).tolist()
    for number in range(1000):
        paint(folder / f"old{number}.png", "L", (4, 4), number % 256)
    running = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
    for number in range(1000):
        (folder / f"old{number}.png").unlink()
    paint(folder / "new.png", "RGB", (4, 4), (1, 1, 1))
    for _ in range(2):
        assert values(folder) == [*expected, 1]
    (images,) = caches()[0].glob("images-*.bin")
    assert images.stat().st_size == 1151 * 16
    paint(folder / "old.png", "RGB", (4, 4), (2, 2, 2))
    (folder / "new.png").unlink()
    for number in range(149):
        (folder / f"{number:03d}.png").unlink()
    for _ in range(2):
        assert values(folder) == [expected[-1], 2]
    (images,) = caches()[0].glob("images-*.bin")
    assert images.stat().st_size == 2 * 16
    assert everything(running)[0][:150, 0, 0, 0].tolist() == expected


@pytest.mark.usefixtures("_cache")
def test_an_interrupted_decoding_goes_on_where_it_was(folder, monkeypatch):
    expected = colours(folder, 60).tolist()
    names = decoded(monkeypatch)
    append = PictureCache._append

    def stop(self: PictureCache, name: str, image: np.ndarray) -> int:
        if name == "030.png":
            raise KeyboardInterrupt
        return append(self, name, image)

    with monkeypatch.context() as patch:
        patch.setattr(PictureCache, "_append", stop)
        with pytest.raises(KeyboardInterrupt):
            values(folder)
    names.clear()
    assert values(folder) == expected
    assert sorted(names) == [f"{number:03d}.png" for number in range(30, 60)]


@pytest.mark.usefixtures("_cache")
def test_processes_that_start_at_once_share_a_cache(folder):
    expected = colours(folder, 40).tolist()
    program = (
        "import sys, torch; from ganzoo_plugins.datasets.image_folder import ImageFolder\n"
        "data = ImageFolder(path=sys.argv[1], size=0, channels=1, test_share=0.0)\n"
        "print(data.read(torch.arange(len(data)))[0][:, 0, 0, 0].tolist())"
    )
    command = [sys.executable, "-c", program, str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [json.loads(process.communicate()[0]) for process in running] == [expected] * 3


@pytest.mark.usefixtures("_cache")
def test_a_long_decoding_says_how_far_it_is(folder, monkeypatch, capsys):
    monkeypatch.setattr(Progress, "PATIENCE", 0.0)
    colours(folder, 30)
    values(folder)
    assert re.search(r"^Decoded \d+ of 30 pictures, about \d+ s left\.$", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.usefixtures("_cache")
def test_a_picture_that_could_not_be_read_is_tried_again(folder, capsys):
    colours(folder, 3)
    (folder / "001.png").unlink()
    (folder / "001.png").symlink_to("nowhere.png")
    assert values(folder, skip_broken=True) == [100, 102]
    assert "1 of 3 pictures" in capsys.readouterr().err
    paint(folder / "nowhere.gif", "L", (4, 4), 101).rename(folder / "nowhere.png")
    assert values(folder) == [100, 101, 102, 101]


def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    paint(folder / "a.png")
    with pytest.raises(ganzoo.GanzooError, match=r"cannot be written to .* set GANZOO_CACHE"):
        only(folder)


def test_a_failed_decoding_leaves_no_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(ganzoo.GanzooError):
        only(folder)
    assert not caches()


@pytest.mark.usefixtures("_cache")
def test_the_cache_is_mapped_and_not_read(folder):
    for number in range(300):  # more than one part of the decoder's work
        paint(folder / f"{number:03d}.png", "L", (4, 4), number % 256)
    dataset = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
    images, _ = dataset.read(torch.tensor([299, 0, 256]))
    assert images[:, 0, 0, 0].tolist() == [299 % 256, 0, 0]
    images += 1  # a copy: what is on disk stays as it is
    assert dataset.read(torch.tensor([0]))[0].eq(0).all()
    (cache,) = caches()
    (kept,) = cache.glob("images-*.bin")
    assert kept.stat().st_size == 300 * 16


# --- classes and splits ---


def test_classes_with_numbers_are_in_natural_order(folder):
    for name in ("10", "2", "1", "class 12", "class 3", "٣", "a"):
        paint(folder / name / "x.png")
    dataset = ImageFolder(path=str(folder), test_share=0.0, size=4)
    assert dataset.class_names == ("1", "2", "10", "a", "class 3", "class 12", "٣")
    labels = dict(zip(dataset._names, everything(dataset)[1].tolist(), strict=True))
    assert labels["2/x.png"] == 1
    assert labels["10/x.png"] == 2


def test_classes_are_those_that_have_training_pictures(folder, capsys):
    for name in ("cats", "dogs", "newts", "owls"):
        for number in range(2 if name == "newts" else 30):
            paint(folder / name / f"{number}.png", size=(4, 4), color=(number, 0, 0))
    tests = {
        name: [p for p in (folder / name).iterdir() if is_test_picture(f"{name}/{p.name}", 0.3)]
        for name in os.listdir(folder)
    }
    for path in {*(folder / "newts").iterdir()} - {*tests["newts"]}:
        path.unlink()
    for number in range(50):
        if is_test_picture(f"newts/test{number}.png", 0.3):
            paint(folder / f"newts/test{number}.png", size=(4, 4))
    train, test = (ImageFolder(path=str(folder), split=split, size=0, test_share=0.3) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("cats", "dogs", "owls")
    assert train.spec == test.spec
    assert train.spec.classes == 3
    assert sorted(set(everything(train)[1].tolist())) == [0, 1, 2]
    assert test.class_names[int(everything(test)[1].max())] == "owls"
    assert len(test) == sum(len(tests[name]) for name in ("cats", "dogs", "owls"))
    assert f"test pictures of {folder} are left out, because no training picture has their class: newts." in (
        capsys.readouterr().err
    )


def test_a_class_of_broken_pictures_is_none(folder):
    for name in ("cats", "dogs", "owls"):
        paint(folder / name / "a.png")
    (folder / "dogs/a.png").write_bytes(b"broken")
    dataset = ImageFolder(path=str(folder), size=4, test_share=0.0, skip_broken=True)
    assert dataset.class_names == ("cats", "owls")
    assert everything(dataset)[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("train", "val"), ("Training", "Testing"), ("train", "validation")]
)
def test_folders_of_splits_are_the_splits(train, test, folder, capsys):
    for number, name in enumerate((f"{train}/cats", f"{train}/dogs", f"{test}/cats", f"{test}/dogs", f"{test}/emus")):
        paint(folder / name / "a.png", color=(number, 0, 0))
    first, second = (ImageFolder(path=str(folder), split=split, size=4) for split in ("train", "test"))
    assert first.class_names == second.class_names == ("cats", "dogs")
    assert [(image[0, 0, 0].item(), label.item()) for image, label in zip(*everything(first), strict=True)] == [
        (0, 0),
        (1, 1),
    ]
    assert [(image[0, 0, 0].item(), label.item()) for image, label in zip(*everything(second), strict=True)] == [
        (2, 0),
        (3, 1),
    ]
    said = capsys.readouterr().err
    assert f"{train} is trained on, the test pictures are those of {test}." in said
    assert "1 test pictures of" in said
    assert "no training picture has their class: emus." in said


def test_folders_of_splits_without_classes(folder):
    paint(folder / "train/a.png", color=(1, 0, 0))
    paint(folder / "test/b/c.png", color=(2, 0, 0))
    train, test = (ImageFolder(path=str(folder), split=split, size=4) for split in ("train", "test"))
    for dataset, colour in ((train, 1), (test, 2)):
        assert dataset.class_names == ()
        assert (len(dataset), dataset.spec.classes) == (1, 1)
        assert everything(dataset)[0][0, 0, 0, 0] == colour


def test_of_several_test_folders_one_is_used_and_the_others_are_named(folder, capsys):
    for name in ("train/a", "valid/a", "test/a", "extra"):
        paint(folder / name / "a.png")
    assert [len(ImageFolder(path=str(folder), split=split, size=4)) for split in ("train", "test")] == [1, 1]
    assert "the test pictures are those of test; not used: extra, valid." in capsys.readouterr().err


def test_test_pictures_without_classes_are_left_out(folder, capsys):
    for number in range(40):
        paint(folder / f"train/{'ab'[number % 2]}/{number}.png", size=(4, 4), color=(number, 0, 0))
        paint(folder / f"test/{number}.png", size=(4, 4), color=(number + 100, 0, 0))
    train, test = (ImageFolder(path=str(folder), split=split, size=0, test_share=0.2) for split in ("train", "test"))
    found = {part: set(everything(part)[0][:, 0, 0, 0].tolist()) for part in (train, test)}
    assert found[train] | found[test] == set(range(40))
    assert found[test]
    assert train.class_names == test.class_names == ("a", "b")
    assert "test has no folders of classes, as train has, so it is left out" in capsys.readouterr().err


def test_a_folder_train_alone_is_the_root(folder):
    for name in ("train/a/1.png", "train/b/2.png"):
        paint(folder / name)
    dataset = ImageFolder(path=str(folder), size=4, test_share=0.0)
    assert dataset.class_names == ("a", "b")
    assert everything(dataset)[1].tolist() == [0, 1]


def test_a_folder_train_beside_classes_is_one_of_them(folder, capsys):
    for name in ("bus", "car", "train"):
        paint(folder / name / "a.png")
    assert ImageFolder(path=str(folder), size=4, test_share=0.0).class_names == ("bus", "car", "train")
    assert f"so train is a class like bus, car: if it holds the training pictures, give path={folder}/train." in (
        capsys.readouterr().err
    )


def test_splits_one_folder_further_down_are_named(folder, capsys):
    for name in ("set/train/a", "set/test/a"):
        paint(folder / name / "a.png")
    assert ImageFolder(path=str(folder), size=4, test_share=0.0).class_names == ("set",)
    assert f"if these are the splits, give path={folder}/set." in capsys.readouterr().err


@pytest.mark.parametrize(("subset", "classes"), [("first 20", 1), ("first 40", 2), ("all", 2)])
def test_a_subset_that_leaves_classes_out_is_named(subset, classes, folder, tmp_path):
    for number in range(60):
        paint(folder / "ab"[number // 30] / f"{number}.png", size=(8, 8), color=(number, 0, 0))
    options = [
        "--steps",
        "1",
        "--batch-size",
        "4",
        "--subset",
        subset,
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    result = ganzoo_cli("train", "mlp-vanilla", f"image-folder:path={folder},size=8", *options)
    assert result.exit_code == 0, result.output
    words = "--subset 'first 20' holds images of 1 of 2 classes only"
    assert (words in " ".join(result.stderr.split())) == (classes == 1)


# --- formats and metadata ---


@pytest.mark.parametrize("suffix", [AVIF, "j2k", "jp2", "jpe", "tga", "apng", "jfif"])
def test_other_formats_are_read(suffix, folder):
    paint(folder / f"a.{suffix}", format={"jfif": "JPEG", "apng": "PNG"}.get(suffix))
    assert only(folder)[:, 0, 0].float().sub(torch.tensor([200.0, 100.0, 50.0])).abs().max() <= 3


def test_files_that_are_not_read_are_counted(folder, capsys, monkeypatch):
    monkeypatch.setattr(_pictures, "_available", lambda: {"PNG"})
    paint(folder / "a/1.png")
    for name in ("a/1.heic", "a/2.HEIC", "a/b/3.psd", "notes.txt", "README", "a/.hidden", "a/Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"?")
    assert len(ImageFolder(path=str(folder), size=4, test_share=0.0)) == 1
    assert (
        f"5 of 6 files in {folder} are not read: 2 .heic (pip install 'torch-ganzoo[heic]' reads them), "
        "1 without a suffix, 1 .psd, 1 .txt.\n"
    ) in capsys.readouterr().err
    (folder / "a/1.png").unlink()
    with pytest.raises(
        ganzoo.GanzooError, match=r"has no pictures: .*; it holds 2 .heic \(pip install .*\), 1 without"
    ):
        ImageFolder(path=str(folder))


def test_heic_is_read_where_its_extra_is_installed(folder):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    _pictures._available.cache_clear()
    paint(folder / "a.heic", quality=100)
    assert only(folder)[:, 0, 0].float().sub(torch.tensor([200.0, 100.0, 50.0])).abs().max() <= 3


def places_of_metadata(good: bytes, exif: bytes) -> Iterator[int]:
    """Where the EXIF data lies in a picture file; in a TIFF file, which is made of such data, all that is no pixel."""
    if not good.startswith(b"II*"):
        start = good.index(exif)
        yield from range(start, start + len(exif))
        return
    (start,) = struct.unpack_from("<I", good, 4)
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", good, start)[0], 12):
        tag, _, count, value = struct.unpack_from("<HHII", good, entry)
        if tag in (271, 306, 0x8769, 0x8825):
            yield from range(entry + 2, entry + 12)
            yield from range(value, value + max(20, count))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", AVIF])
def test_damaged_metadata_costs_no_picture(suffix, folder):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x010F], exif[0x0132] = "a maker", "2024:01:01 00:00:00"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    data = exif.tobytes()
    stream = io.BytesIO()
    noise.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix), exif=exif)
    good = stream.getvalue()
    (folder / f"a.{suffix}").write_bytes(good)
    expected = only(folder, size=0)
    count = 0
    for place in places_of_metadata(good, data[6:]):
        count += 1
        content = bytearray(good)
        content[place] ^= 0xFF
        (folder / f"a.{suffix}").write_bytes(content)
        with careful():
            found = decode(folder / f"a.{suffix}", channels=3, size=0, crop=True)
        assert not isinstance(found, str), f"byte {place}: {found}"
        assert found.equal(expected)
    assert count > 50


def chunk(name: bytes, content: bytes, damage: int = 0) -> bytes:
    checksum = zlib.crc32(name + content) ^ damage
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"tEXt", b"a\0b", damage=1),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000))),
        chunk(b"pHYs", b""),
    ],
    ids=["checksum", "bomb", "short"],
)
def test_damaged_chunks_of_a_png_that_are_not_its_pixels_cost_nothing(metadata, folder):
    good = paint(folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(good[:33] + metadata + good[33:])
    assert only(folder)[:, 0, 0].tolist() == [200, 100, 50]


def test_a_damaged_pixel_of_a_png_is_found(folder):
    Image.new("RGB", (40, 40), (10, 20, 30)).save(folder / "a.png", compress_level=0)
    whole = bytearray((folder / "a.png").read_bytes())
    whole[3000] ^= 64  # not compressed: one bit of one pixel
    (folder / "a.png").write_bytes(whole)
    with pytest.raises(ganzoo.GanzooError, match="cannot be read"):
        only(folder)


def test_a_turn_is_made_whatever_else_the_metadata_says(folder):
    """The orientation can be read; what follows it cannot."""
    picture = Image.new("RGB", (8, 4))
    picture.paste((255, 255, 255), (0, 0, 4, 4))
    entries = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x8825, 4, 1, 0xFFFFFF)
    picture.save(folder / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4))
    image = only(folder, size=0, channels=1)
    assert image.shape == (1, 8, 4)
    assert image[0, :4].eq(255).all()


# --- numbers of other ranges ---


def tiff(path: Path, array: np.ndarray, *, white_is_zero: bool = False, bits: int = 0, order: str = "<") -> Path:
    """A plain TIFF file of grey numbers, as Pillow itself does not write them."""
    content = array.astype(array.dtype.newbyteorder(order)).tobytes()
    if bits == 12:  # two numbers in three bytes
        pairs = array.reshape(-1, 2).astype(int)
        content = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    height, width = array.shape
    tags = [(256, width), (257, height), (258, bits or array.itemsize * 8), (259, 1), (262, 0 if white_is_zero else 1)]
    tags += [(273, 8), (277, 1), (278, height), (279, len(content)), (339, kind)]
    directory = struct.pack(f"{order}H", len(tags))
    directory += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    content += bytes(len(content) % 2)
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(content))
    path.write_bytes(header + content + directory)
    return path


RAMP = np.array([[0, 1], [2, 4]])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "highest", "options"),
    [
        (np.uint16, 65535, {}),
        (np.uint16, 65535, {"white_is_zero": True}),
        (np.uint16, 4095, {"bits": 12}),
        (np.int16, 32767, {}),
        (np.int8, 127, {}),
        (np.uint8, 255, {}),
        (np.uint8, 255, {"white_is_zero": True}),
    ],
    ids=["16", "16 white is zero", "12", "signed 16", "signed 8", "8", "8 white is zero"],
)
def test_grey_of_any_bits_spans_black_to_white(kind, highest, options, order, folder):
    tiff(folder / "a.tif", (RAMP * highest // 4).astype(kind), order=order, **options)
    try:
        found = only(folder, size=0, channels=1)[0].float()
    except ganzoo.GanzooError as error:  # refused is right as well: this Pillow does not read such a file
        assert "cannot identify" in str(error), error  # noqa: PT017
        assert order == ">" or highest == 127
        return
    expected = torch.tensor(RAMP * 255 / 4)
    if options.get("white_is_zero"):
        expected = 255 - expected
    assert found.sub(expected).abs().max() <= max(1.1, 255 / highest)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0, 255]], np.uint32), "integers of 32 bits, whose range is not known"),
        (np.array([[0, 65535]], np.int32), "integers of 32 bits, whose range is not known"),
        (np.array([[-1, 255]], np.int16), "its values -1..255 are outside 0..32767"),
        (np.array([[-1, 3]], np.int8), r"its values -1..3 are outside 0..127|cannot identify"),
        (np.array([[0, 1]], np.float32), "floats, whose range is not known"),
    ],
)
def test_numbers_whose_range_is_not_known_are_refused(array, words, folder):
    tiff(folder / "a.tif", array)
    with pytest.raises(ganzoo.GanzooError, match=words):
        ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)


def test_a_set_that_uses_little_of_its_range_is_named(folder, capsys):
    """12 bits in 16, as microscopes and X-ray machines write them."""
    for number in range(5):
        Image.fromarray((RAMP * 1023 + number).astype(np.uint16)).save(folder / f"{number}.png")
    assert max(values(folder)) <= 16
    assert f"The pictures of {folder} use only the values 0..16 of 0..255" in capsys.readouterr().err
    values(folder)
    assert not capsys.readouterr().err, "once is enough"
    Image.fromarray((RAMP * 10000).astype(np.uint16)).save(folder / "5.png")
    values(folder)
    assert "use only" not in capsys.readouterr().err
