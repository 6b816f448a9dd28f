"""Tar files in the WebDataset layout: every picture is found by its number, and nothing else is believed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import large_sets
import numpy as np
import pytest
import torch
from helpers import ganzoo as ganzoo_cli
from large_sets import Sample, picture, pixels, samples, write_tar
from PIL import Image

import ganzoo
from ganzoo_plugins.datasets import _samples, _shard_index
from ganzoo_plugins.datasets._pictures import decode, size_and_channels
from ganzoo_plugins.datasets._plain_png import plain_png
from ganzoo_plugins.datasets.shards import Shards


def everything(dataset: ganzoo.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.read(torch.arange(len(dataset)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my shards é"


def opened(folder: Path, **options: object) -> Shards:
    return Shards(path=str(folder), **{"test_share": 0.0, **options})


def refusal(folder: Path, **options: object) -> str:
    return large_sets.refusal(lambda: opened(folder, **options))


# --- what is read ---


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pictures_are_found_by_their_number(folder, form):
    given = [samples(7), samples(5, 7)]
    long = [(f"{'deep/' * 30}{'n' * 90}{n}", {"png": picture(n), "cls": b"2\n"}) for n in range(12, 14)]
    given.append(samples(2, 12) if form == tarfile.USTAR_FORMAT else long)
    for number, part in enumerate(given):
        write_tar(folder / f"{number}.tar", part, form)
    dataset = opened(folder)
    images, labels = everything(dataset)
    flat = [contents for part in given for _, contents in part]
    assert (len(dataset), dataset.spec) == (14, ganzoo.ImageSpec(3, 8, 8, 3))
    assert labels.tolist() == [int(contents["cls"]) for contents in flat]
    assert all(np.array_equal(image, pixels(contents["png"])) for image, contents in zip(images, flat, strict=True))
    shuffled = torch.randperm(14, generator=torch.Generator().manual_seed(0))
    assert dataset.read(shuffled)[0].equal(images[shuffled])
    assert dataset.class_names == ()


def test_what_tar_itself_writes_is_read(folder, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    for key, contents in samples(5):
        for extension, content in contents.items():
            (loose / f"{key}.{extension}").write_bytes(content)
    folder.mkdir()
    subprocess.run(["tar", "cf", folder / "a.tar", "--sort=name", "."], cwd=loose, check=True)
    assert everything(opened(folder))[1].tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("contents", "options", "label"),
    [
        ({"cls": b" 4\n", "txt": b"a cat"}, {}, 4),
        ({"cls": b"cat"}, {}, "cat"),
        ({"json": b'{"label": 4, "caption": "x"}'}, {}, 4),
        ({"json": b'{"class": "cat"}'}, {}, "cat"),
        ({"json": b"4"}, {}, 4),
        ({"json": b'{"caption": "x"}'}, {}, None),
        ({"json": b'{"breed": "tabby", "label": 1}'}, {"label": "breed"}, "tabby"),
        ({"breed": b"tabby", "cls": b"1"}, {"label": "breed"}, "tabby"),
        ({}, {}, None),
    ],
)
def test_labels_are_numbers_or_names(folder, contents, options, label):
    write_tar(folder / "a.tar", [(f"{n}", {"JPG": picture(n, form="jpeg"), **contents}) for n in range(3)])
    dataset = opened(folder, **options)
    assert everything(dataset)[1].tolist() == [0, 0, 0]
    assert dataset.class_names == (() if label is None else (str(label),))


def test_names_of_classes_are_sorted_by_their_numbers_and_shared_by_all_shards(folder):
    for shard, names in (("a", ["class 10", "class 2"]), ("b", ["class 2", "class 1"])):
        given = [(name, {"png": picture(0), "cls": name.encode()}) for name in names]
        write_tar(folder / f"{shard}.tar", given)
    dataset = opened(folder)
    assert dataset.class_names == ("class 1", "class 2", "class 10")
    assert everything(dataset)[1].tolist() == [2, 1, 1, 0]


def test_classnames_txt_names_the_numbers(folder):
    write_tar(folder / "a.tar", samples(4, classes=2))
    (folder / "classnames.txt").write_text("cat\ndog\nowl\n")
    dataset = opened(folder)
    assert dataset.class_names == ("cat", "dog", "owl")
    assert dataset.spec.classes == 3
    (folder / "classnames.txt").write_text("cat\n")
    assert "has the label 1, and names for the classes 0..0" in refusal(folder)
    (folder / "classnames.txt").write_text("cat\n\ndog\n")
    assert "has an empty line or a name twice" in refusal(folder)


def test_the_classes_are_those_of_training_pictures(folder, capsys):
    given = [(f"{n}", {"png": picture(n), "cls": str(7 + n).encode()}) for n in range(3)]
    write_tar(folder / "train-0.tar", given[:2])
    write_tar(folder / "val-0.tar", given)
    train, test = (opened(folder, split=split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("7", "8")
    assert everything(test)[1].tolist() == [0, 1]
    assert "1 test images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "test", "other"),
    [
        ("train/0.tar", "test/0.tar", ""),
        ("training/a/0.tar", "val/0.tar", ""),
        ("imagenet-train-00000-of-00001.tar", "imagenet-validation-00000-of-00001.tar", ""),
        ("train0.tar", "test0.tar", "val0.tar"),
    ],
)
def test_splits_are_folders_or_parts_of_names(folder, train, test, other, capsys):
    for name, part in ((train, samples(3)), (test, samples(2, 3)), (other, samples(4, 5))):
        if name:
            write_tar(folder / name, part)
    assert (len(opened(folder)), len(opened(folder, split="test"))) == (3, 2)
    assert opened(folder).test_images == 2
    assert bool(other) == ("val0.tar" in capsys.readouterr().err)


def test_without_splits_names_decide_which_are_test_pictures(folder):
    write_tar(folder / "a.tar", samples(100))
    sizes = [len(opened(folder, split=split, test_share=0.2)) for split in ("train", "test")]
    assert sum(sizes) == 100
    assert 8 < sizes[1] < 35
    before = everything(opened(folder, split="test", test_share=0.2))[0]
    write_tar(folder / "0.tar", samples(50, 100))
    after = everything(opened(folder, split="test", test_share=0.2))[0]
    kept = {image.numpy().tobytes() for image in after}
    assert {image.numpy().tobytes() for image in before} < kept


def test_pictures_are_resized_cropped_and_converted_as_those_of_a_folder(folder, tmp_path):
    from ganzoo_plugins.datasets.image_folder import ImageFolder

    (tmp_path / "loose").mkdir()
    given: list[Sample] = []
    for number, (mode, size) in enumerate([("RGB", (12, 8)), ("L", (8, 20)), ("RGBA", (9, 9)), ("P", (30, 4))]):
        given.append((f"{number}", {"png": picture(number, size, mode)}))
        (tmp_path / "loose" / f"{number}.png").write_bytes(given[-1][1]["png"])
    write_tar(folder / "a.tar", given)
    for options in ({"size": 6, "channels": 3}, {"size": 5, "channels": 1, "crop": False}):
        loose = ImageFolder(path=str(tmp_path / "loose"), test_share=0.0, **options)
        assert everything(opened(folder, **options))[0].equal(everything(loose)[0])


def test_one_of_several_pictures_is_chosen(folder):
    given = [(f"{n}", {"input.png": picture(n), "png": picture(n + 10), "seg.png": picture(n + 20)}) for n in range(2)]
    write_tar(folder / "a.tar", given)
    assert np.array_equal(everything(opened(folder))[0][1], pixels(picture(11)))
    assert np.array_equal(everything(opened(folder, image="input.png"))[0][1], pixels(picture(1)))
    assert "has another schema: sample '0' has no .jpg, only .input.png, .png, .seg.png" in refusal(folder, image="jpg")
    write_tar(folder / "a.tar", [("0", {"png": picture(0), "jpg": picture(0, form="jpeg")})])
    assert "has several pictures in sample '0' (.png, .jpg): name one with image=, such as png" in refusal(folder)


def test_files_that_belong_to_no_sample_are_passed_over(folder):
    more: list[Sample] = [("__meta__", {"json": b"{}"}), ("a/.hidden", {"png": b"x"}), ("a/._0", {"png": b"x"})]
    path = write_tar(folder / "a.tar", [*more, *samples(3)])
    with tarfile.open(path, "a") as archive:
        for name, kind in (("README", tarfile.REGTYPE), ("sub", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
    assert len(opened(folder)) == 3


def test_one_tar_file_may_be_the_path(folder):
    write_tar(folder / "a.tar", samples(3))
    write_tar(folder / "b.tar", samples(2, 3))
    assert len(opened(folder / "b.tar")) == 2
    assert len(opened(folder)) == 5


@pytest.mark.parametrize("options", [{}, {"interlace": True}, {"dpi": (72, 72)}])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "I;16"])
def test_a_plain_png_is_decoded_as_pillow_does(mode, channels, options, tmp_path):
    if mode == "I;16":
        buffer = io.BytesIO()
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(buffer, "png")
        content = buffer.getvalue()
    else:
        content = picture(3, (11, 7), mode, **options)
    (tmp_path / "a.png").write_bytes(content)
    whole = decode(tmp_path / "a.png", channels, 0, True)
    assert torch.equal(decode(Path("a.png"), channels, 0, True, content), whole)
    assert (plain_png(content, channels) is not None) == (mode in ("L", "RGB"))
    assert size_and_channels(Path("a.png"), content)[:2] == tuple(whole.shape[1:])
    for place in range(33, len(content) - 12, 7):  # a changed byte is never passed over
        damaged = bytearray(content)
        damaged[place] ^= 64
        assert plain_png(bytes(damaged), channels) is None


# --- the index ---


def test_the_index_is_made_once_and_only_for_what_is_new(folder, monkeypatch):
    read: list[str] = []
    original = _shard_index.read_shard
    monkeypatch.setattr(_shard_index, "read_shard", lambda path, *a: read.append(path.name) or original(path, *a))
    for name in ("a", "b"):
        write_tar(folder / f"{name}.tar", samples(3))
    opened(folder)
    opened(folder, size=4)
    assert sorted(read) == ["a.tar", "b.tar"]
    write_tar(folder / "b.tar", samples(4, 50))
    write_tar(folder / "c.tar", samples(2, 70))
    assert len(opened(folder)) == 9
    assert sorted(read) == ["a.tar", "b.tar", "b.tar", "c.tar"]
    (folder / "a.tar").unlink()
    assert len(opened(folder)) == 6
    assert len(read) == 4


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_index_is_made_anew(folder, damage):
    write_tar(folder / "a.tar", samples(3))
    path = opened(folder)._index.path
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[-5] ^= 1
    path.write_bytes({"cut": data[:-8], "bit": data, "empty": b"", "text": b"hello\n"}[damage])
    assert everything(opened(folder))[1].tolist() == [0, 1, 2]
    assert _shard_index.load_rows(path) is not None


def test_the_index_is_mapped_and_not_read(folder):
    write_tar(folder / "a.tar", samples(3))
    assert isinstance(opened(folder)._index.rows, np.memmap)


def test_a_cache_that_cannot_be_written_is_named(folder, monkeypatch, tmp_path):
    write_tar(folder / "a.tar", samples(3))
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    assert "set GANZOO_CACHE to a folder with space" in refusal(folder)


# --- what is refused ---


def test_an_empty_or_missing_folder_is_refused(folder):
    with pytest.raises(ganzoo.UsageError, match="write shards:path=DIR"):
        Shards()
    with pytest.raises(ganzoo.UsageError, match="There is no folder"):
        opened(folder)
    folder.mkdir()
    assert "has no tar files" in refusal(folder)
    (folder / "a.tar.gz").write_bytes(b"x")
    assert "only a.tar.gz: unpack compressed ones" in refusal(folder)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.77])
def test_a_shard_that_is_cut_off_is_refused_anywhere(folder, share):
    path = write_tar(folder / "a.tar", samples(6))
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    for length in (int(end * share), int(end * share) // 512 * 512, int(end * share) // 1024 * 1024):
        path.write_bytes(data[:length])
        assert "a.tar is cut off" in refusal(folder)


def test_any_changed_byte_of_a_header_is_found(folder):
    path = write_tar(folder / "a.tar", samples(3))
    data = path.read_bytes()
    for place in range(0, 512, 9):
        damaged = bytearray(data)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        if 148 <= place < 156:  # the checksum itself may be written in several ways
            continue
        assert re.search("is no tar file", refusal(folder)), place


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("a", {"png": b"no picture"})], "holds 'a.png', which cannot be read as a picture"),
        ([("a", {"txt": b"x", "cls": b"1"})], "has another schema: sample 'a' has no picture, only .txt, .cls"),
        ([*samples(1), ("b", {"png": picture(0)})], "has samples of two schemas: the label of 'b' is missing"),
        (
            [*samples(1), ("b", {"png": picture(0), "cls": b"cat"})],
            "the label of 'b' is a name, that of '000000' a num",
        ),
        ([*samples(1), ("b", {"png": picture(0), "cls": b"-1"})], "has the label -1 in sample 'b'"),
        ([*samples(1), ("b", {"png": picture(0), "cls": b""})], "neither a number nor a name"),
        ([*samples(1), ("b", {"png": picture(0), "cls": b"a\0b"})], "that is no name of a class"),
        ([("a", {"png": picture(0), "json": b"{"})], "holds 'a.json', which is no JSON"),
        ([("a", {"png": picture(0), "json": b"[" * 100_000})], "holds 'a.json', which is no JSON"),
        ([("a", {"png": picture(0), "json": b'{"label": [1]}'})], "neither a number nor a name"),
        ([*samples(2), *samples(1)], "has two samples '000000', or their members do not stand together"),
        ([("../a", {"png": picture(0)})], "a path that leads out of the archive"),
        ([("a/../../b", {"png": picture(0)})], "a path that leads out of the archive"),
        ([("/etc/a", {"png": picture(0)})], "a path that leads out of the archive"),
        ([], "holds no pictures"),
    ],
)
def test_a_strange_sample_is_refused_with_its_name(folder, given, words):
    write_tar(folder / "a.tar", given)
    assert words in refusal(folder)
    assert "a.tar" in refusal(folder)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "holds a link, 'a.png'"),
        (tarfile.LNKTYPE, "holds a link"),
        (tarfile.CHRTYPE, "holds a device"),
        (tarfile.FIFOTYPE, "holds a pipe"),
        (tarfile.GNUTYPE_SPARSE, "holds a sparse file"),
        (b"Z", "of an unknown kind"),
    ],
)
def test_links_and_devices_are_refused(folder, kind, words):
    path = write_tar(folder / "a.tar", samples(1))
    with tarfile.open(path, "a", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "record", [b"9999 path=a\n", b"x path=a\n", b"10 path\n", b"17 GNU.sparse.a=1\n", b"12 size=-5\n", b"-4 a=b\n"]
)
def test_a_damaged_pax_header_is_refused(folder, record):
    folder.mkdir()
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, len(record)
    header = member.tobuf(tarfile.USTAR_FORMAT)
    (folder / "a.tar").write_bytes(header + record.ljust(512, b"\0") + bytes(1024))
    assert re.search("extended header|sparse", refusal(folder))


def test_a_size_that_is_no_number_or_too_large_is_refused(folder):
    folder.mkdir()
    for field in (b"-0000000001\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0", b"hello world\0"):
        header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT))
        header[124:136] = field
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (folder / "a.tar").write_bytes(bytes(header) + bytes(2048))
        assert re.search("is damaged: a size|is cut off", refusal(folder)), field


@pytest.mark.parametrize(("mark", "name"), [(b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"(\xb5/\xfd", "zstd")])
def test_a_compressed_shard_is_named(folder, mark, name):
    folder.mkdir()
    (folder / "a.tar").write_bytes(mark + bytes(2000) + b"x")
    assert f"is compressed with {name}" in refusal(folder)


def test_random_bytes_never_do_more_than_a_sentence(folder):
    generator = np.random.default_rng(0)
    path = write_tar(folder / "a.tar", samples(3), tarfile.PAX_FORMAT)
    data = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(data)
        for place in generator.integers(0, len(data.rstrip(b"\0")), 3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ganzoo.GanzooError):
            everything(opened(folder))


def test_pictures_of_unlike_size_or_mode_are_refused_with_their_names(folder):
    write_tar(folder / "a.tar", samples(3))
    write_tar(folder / "b.tar", samples(2, 3, size=(9, 8)))
    assert re.search(r"a.tar/000000.png is 8x8 but .*b.tar/000003.png is 8x9: give size=", refusal(folder))
    assert opened(folder, size=4).spec.height == 4
    write_tar(folder / "b.tar", samples(2, 3, mode="L"))
    assert re.search(r"000000.png is in colour but .*000003.png is grey: give channels=1", refusal(folder))
    assert opened(folder, channels=1).spec.channels == 1


def test_shards_of_unlike_schema_are_refused(folder):
    write_tar(folder / "a.tar", samples(3))
    write_tar(folder / "b.tar", [("9", {"png": picture(9)})])
    assert "a.tar has numbers, b.tar has no labels; give the shards of one dataset" in refusal(folder)


def test_a_missing_shard_is_named(folder, capsys):
    for number in (0, 2):
        write_tar(folder / f"x-{number:05}-of-00003.tar", samples(2, number))
    assert "lacks 1 of the 3 files x-...-of-00003, first number 1" in refusal(folder)
    for number in (0, 2):
        (folder / f"x-{number:05}-of-00003.tar").rename(folder / f"y-{number:05}.tar")
    assert len(opened(folder)) == 4
    assert "has no file y-1 between those that it has: is one missing?" in capsys.readouterr().err


def test_a_shard_that_changes_or_vanishes_during_a_training_is_named(folder):
    path = write_tar(folder / "a.tar", samples(3))
    dataset = opened(folder)
    data = path.read_bytes()
    path.write_bytes(data[:1000])
    with pytest.raises(ganzoo.GanzooError, match=r"a\.tar has changed while it was used"):
        everything(dataset)
    path.unlink()
    with pytest.raises(ganzoo.GanzooError, match=r"a\.tar cannot be read any more \(No such file or directory\)"):
        everything(dataset)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read every file")
def test_a_shard_without_permission_is_named(folder):
    write_tar(folder / "a.tar", samples(3)).chmod(0)
    assert "a.tar cannot be read (Permission denied)" in refusal(folder)


def test_a_damaged_picture_is_named_when_it_is_read(folder):
    path = write_tar(folder / "a.tar", samples(3))
    data = bytearray(path.read_bytes())
    data[512 + 60] ^= 255
    path.write_bytes(data)
    with pytest.raises(ganzoo.GanzooError, match=r"a\.tar/000000\.png cannot be read as a picture"):
        everything(opened(folder))


# --- data verify ---


def test_verify_reads_every_member_and_the_sums(folder):
    path = write_tar(folder / "a.tar", samples(30))
    done = ganzoo_cli("data", "verify", f"shards:path={folder},test_share=0.2", "--json")
    assert done.exit_code == 0, done.output
    assert "every member of 1 tar files" in json.loads(done.stdout)["splits"][0]["checked"]
    sums = folder / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  a.tar\n")
    done = ganzoo_cli("data", "verify", f"shards:path={folder},test_share=0.2")
    assert (done.exit_code, "a.tar is not what SHA256SUMS says" in done.output) == (1, True)
    sums.write_text(f"{'0' * 64}  b.tar\n")
    assert "lacks b.tar, which SHA256SUMS names" in ganzoo_cli("data", "verify", f"shards:path={folder}").output
    sums.unlink()
    # new labels under the old dates
    status, data = path.stat(), path.read_bytes().replace(b"2", b"0")
    dataset = opened(folder)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ganzoo.GanzooError, match=r"is not what .*\.index says|cut off|damaged|no tar|cannot be read"):
        dataset.verify()


def test_the_longest_label_is_limited(folder):
    write_tar(folder / "a.tar", [("a", {"png": picture(0), "cls": b"x" * (_samples._LONGEST_FILE + 1)})])
    assert "is too large for a label" in refusal(folder)
