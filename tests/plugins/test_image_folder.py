"""Folders of pictures: what is read of them, how, and what is said of those that cannot be read."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo_plugins.datasets.image_folder import ImageFolder


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
        ("I", 65535, "a.tif", (255,)),
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
    assert "empty.png: cannot identify" in message
    assert "; and 2 more): mend or delete them, or leave them out with skip_broken=true." in message
    assert "\n" not in message


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
        assert f"6 of 7 pictures in {folder} cannot be read (cut.jpg: " in capsys.readouterr().err
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
    return sorted((ganzoo.cache_dir() / "image-folder").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_a_damaged_cache_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    paint(folder / "a.png")
    only(folder)
    (cache,) = caches()
    content = (cache / "images.npy").read_bytes()
    (cache / "images.npy").write_bytes(content[:-1])
    with pytest.raises(ganzoo.GanzooError, match=f"{cache} is damaged .*delete it"):
        only(folder)
    (cache / "images.npy").write_bytes(content[:-1] + b"\0")
    with pytest.raises(ganzoo.GanzooError, match=f"a.png is not what {cache} holds of it"):
        ImageFolder(path=str(folder), test_share=0.0, size=4).verify()
    (cache / "images.npy").write_bytes(content)
    verified = ImageFolder(path=str(folder), test_share=0.0, size=4).verify()
    assert verified == "read 1 images of 3x4x4, each decoded anew and compared"


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


def test_the_cache_is_mapped_and_not_read(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    for number in range(300):  # more than one part of the decoder's work
        paint(folder / f"{number:03d}.png", "L", (4, 4), number % 256)
    dataset = ImageFolder(path=str(folder), size=0, channels=1, test_share=0.0)
    images, _ = dataset.read(torch.tensor([299, 0, 256]))
    assert images[:, 0, 0, 0].tolist() == [299 % 256, 0, 0]
    images += 1  # a copy: what is on disk stays as it is
    assert dataset.read(torch.tensor([0]))[0].eq(0).all()
    (cache,) = caches()
    assert json.loads((cache / "broken.json").read_text()) == {}
    assert (cache / "images.npy").stat().st_size == 128 + 300 * 16
