"""Images in a NumPy file: what is stored is what is read, whichever way it lies there, and nothing else is believed."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import ZOO

import ganzoo
from ganzoo.cli import cli
from ganzoo.engine import memory
from ganzoo.storage.run import Run
from ganzoo.testing.datasets import _some as spread
from ganzoo_plugins.datasets.npy import Npy

GENERATOR = np.random.default_rng(0)
COLOURS = GENERATOR.integers(0, 256, (50, 9, 8, 3), dtype=np.uint8)
CLASSES = GENERATOR.integers(0, 7, 50)
CLASSES[0] = 6


def saved(path: Path, array: Any, **more: Any) -> str:
    np.save(path, array, **more)
    return str(path)


@pytest.fixture
def colours(tmp_path: Path) -> str:
    return saved(tmp_path / "colours.npy", COLOURS)


def everything(dataset: ganzoo.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.read(torch.arange(len(dataset)))


@pytest.mark.parametrize(
    ("array", "layout", "spec"),
    [
        (COLOURS, "NHWC", (3, 9, 8)),
        (COLOURS.transpose(0, 3, 1, 2).copy(), "NCHW", (3, 9, 8)),
        (COLOURS[..., :1].copy(), "NHWC", (1, 9, 8)),
        (COLOURS[..., 0].copy(), "NHWC", (1, 9, 8)),
        (COLOURS[..., 0].copy(), "NCHW", (1, 9, 8)),
    ],
)
def test_what_is_stored_is_what_is_read(array, layout, spec, tmp_path):
    dataset = Npy(path=saved(tmp_path / "a.npy", array), layout=layout, test_every=0)
    assert dataset.spec == ganzoo.ImageSpec(*spec)
    images, labels = everything(dataset)
    assert np.array_equal(images.numpy(), COLOURS.transpose(0, 3, 1, 2)[:, : spec[0]])
    assert labels.tolist() == [0] * 50
    assert dataset.read(torch.tensor([7, 3, 7]))[0].equal(images[[7, 3, 7]])
    assert images.is_contiguous()


@pytest.mark.parametrize("every", [2, 3, 10, 50])
def test_every_so_manieth_image_is_a_test_image(every, colours, tmp_path):
    labels = saved(tmp_path / "labels.npy", CLASSES)
    train, test = (Npy(path=colours, labels=labels, split=split, test_every=every) for split in ("train", "test"))
    assert len(train) + len(test) == 50
    for dataset, chosen in ((train, np.arange(1, 51) % every != 0), (test, np.arange(1, 51) % every == 0)):
        images, found = everything(dataset)
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), COLOURS[chosen])
        assert np.array_equal(found.numpy(), CLASSES[chosen])
        assert found.dtype == torch.int64
        assert dataset.spec.classes == 7


def test_where_test_images_have_a_file_of_their_own_test_every_does_not_matter(colours, tmp_path):
    other = saved(tmp_path / "other.npy", COLOURS[:5])
    assert len(Npy(path=colours, test=other, test_every=1)) == 50
    with pytest.raises(ganzoo.UsageError, match="test_every=1 every image is a test image"):
        Npy(path=colours, test_every=1)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint64", ">i4"])
def test_test_images_may_have_a_file_of_their_own(kind, colours, tmp_path, capsys):
    files = {
        "test": saved(tmp_path / "test.npy", COLOURS[:5]),
        "labels": saved(tmp_path / "l.npy", CLASSES.astype(kind)),
    }
    files["test_labels"] = saved(tmp_path / "t.npy", np.array([9, 0, 1, 2, 3], kind))
    train, test = (Npy(path=colours, split=split, **files) for split in ("train", "test"))
    assert (len(train), len(test)) == (50, 4)
    assert np.array_equal(everything(train)[1].numpy(), CLASSES)
    assert everything(test)[1].tolist() == [0, 1, 2, 3]
    assert np.array_equal(everything(test)[0].permute(0, 2, 3, 1).numpy(), COLOURS[1:5])
    assert test.read(torch.tensor([2]))[0].equal(torch.from_numpy(COLOURS[3:4]).permute(0, 3, 1, 2))
    assert train.spec == test.spec == ganzoo.ImageSpec(3, 9, 8, classes=7)
    assert f"1 test images of {colours} are left out, because no training image has their label: 9." in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "values", [(1, 2, 3, 4), (0, 5, 900), (70_000, 1 << 40), (0, 1, 2), (7,)], ids=lambda values: str(values[0])
)
@pytest.mark.parametrize("shape", [(40,), (40, 1)], ids=["flat", "column"])
def test_classes_are_the_labels_that_there_are(values, shape, tmp_path):
    """EMNIST letters count from 1; MedMNIST keeps its labels as a column."""
    labels = np.array([values[index % len(values)] for index in range(40)])
    images = saved(tmp_path / "images.npy", np.repeat(np.arange(40, dtype=np.uint8), 64).reshape(40, 8, 8))
    path = saved(tmp_path / "labels.npy", labels.reshape(shape))
    train, test = (Npy(path=images, labels=path, split=split, test_every=7) for split in ("train", "test"))
    assert train.spec == test.spec
    assert train.spec.classes == len(values)
    plain = values == tuple(range(len(values)))
    assert train.class_names == test.class_names == (() if plain else tuple(map(str, values)))
    for dataset in (train, test):
        pictures, found = everything(dataset)
        for picture, label in zip(pictures, found.tolist(), strict=True):
            assert values[label] == labels[picture[0, 0, 0]]
    assert sorted(set(everything(train)[1].tolist())) == list(range(len(values)))


def test_a_label_that_only_test_images_have_is_no_class(colours, tmp_path, capsys):
    labels = np.zeros(50, np.int64)
    labels[[9, 19]] = 3, 4
    labels[20:29] = 2
    path = saved(tmp_path / "labels.npy", labels)
    train, test = (Npy(path=colours, labels=path, split=split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("0", "2")
    assert everything(test)[1].tolist() == [0, 0, 0]
    assert np.array_equal(everything(test)[0].permute(0, 2, 3, 1).numpy(), COLOURS[[29, 39, 49]])
    assert "2 test images of" in capsys.readouterr().err
    labels[9::10] = 5
    with pytest.raises(ganzoo.GanzooError, match=r"The test split of .* is empty: no training image has a label"):
        Npy(path=colours, labels=saved(tmp_path / "labels.npy", labels), split="test")


@pytest.mark.parametrize("highest", [1, 15, 16, 17])
def test_images_that_use_little_of_their_range_are_named(highest, tmp_path, capsys):
    array = np.linspace(0, highest, 50 * 64).round().astype(np.uint8).reshape(50, 8, 8)
    path = saved(tmp_path / "a.npy", array)
    Npy(path=path, test_every=0)
    said = f"images of {path} use only the values 0..{highest} of 0..255" in capsys.readouterr().err
    assert said == (highest <= 16)


def test_more_images_than_a_float32_can_count(tmp_path):
    # float32 rounds the index of the last image, 16,777,219, to 16,777,220
    path = tmp_path / "many.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (16_777_220, 1, 1)).flush()
    dataset = ZOO.build("datasets", ganzoo.Choice("npy", {"path": str(path), "test_every": 0}), split="train")
    assert len(dataset) == 16_777_220
    assert int(spread(dataset)[-1]) == 16_777_219


def test_images_come_at_another_size(colours):
    dataset = Npy(path=colours, size=16)
    images, _ = dataset.read(torch.tensor([4]))
    whole = Npy(path=colours).read(torch.tensor([4]))[0]
    assert dataset.spec == ganzoo.ImageSpec(3, 16, 16)
    assert images.equal(ganzoo.resize(whole, 16))


def _broken(kind: str, path: Path) -> str:
    """A file that is no array of images."""
    stream = io.BytesIO()
    np.save(stream, COLOURS)
    good = stream.getvalue()
    if kind == "bomb":  # a header of a petabyte
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 32, 32)}
        )
        good = header.getvalue() + b"a few bytes"
    content = {
        "bomb": good,
        "short": good[:-1],
        "long": good + b"!",
        "header alone": good[:128],
        "empty": b"",
        "text": b"images, all of them",
        "pickle": pickle.dumps(COLOURS),
        "nested": good[:10] + b"(" * 100 + good[110:],
    }
    path.write_bytes(content[kind])
    return str(path)


@pytest.mark.parametrize("kind", ["bomb", "short", "long", "header alone", "empty", "text", "pickle", "nested"])
def test_a_file_that_is_not_what_it_says_is_refused(kind, tmp_path):
    with pytest.raises(ganzoo.GanzooError, match=r"a\.npy (is damaged|cannot be read as a NumPy file)") as refused:
        Npy(path=_broken(kind, tmp_path / "a.npy"))
    assert "\n" not in str(refused.value)


class Trap:
    """Something that acts when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('loaded')",)


def test_no_pickled_object_is_ever_loaded(tmp_path):
    path = saved(tmp_path / "a.npy", np.array([Trap()] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(ganzoo.GanzooError, match="cannot be read as a NumPy file"):
        Npy(path=path)


@pytest.mark.filterwarnings("default")  # NumPy warns of headers as Python 2 wrote them
def test_any_bit_of_the_header_flipped_is_refused_or_means_the_same(tmp_path):
    good = Path(saved(tmp_path / "a.npy", COLOURS)).read_bytes()
    refused = 0
    for bit in range(128 * 8):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.npy").write_bytes(content)
        try:
            dataset = Npy(path=str(tmp_path / "a.npy"), test_every=0)
            assert len(dataset) * dataset.spec.pixels == COLOURS.size
        except ganzoo.GanzooError:
            refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (COLOURS.astype(np.float32), "holds float32, not uint8"),
        (COLOURS[0, 0], r"is an array of \(8, 3\), not of images"),
        (COLOURS[:0], r"holds no images: it is an array of \(0, 9, 8, 3\)"),
        (COLOURS[..., [0, 1]], "have 2 channels, not 1 or 3"),
        (COLOURS.transpose(0, 3, 1, 2).copy(), r"have 8 channels, not 1 or 3, as layout=NHWC.*write layout=NCHW"),
        (np.asfortranarray(COLOURS), "is in Fortran's order"),
    ],
)
def test_an_array_of_something_else_is_refused(array, words, tmp_path):
    with pytest.raises(ganzoo.GanzooError, match=words):
        Npy(path=saved(tmp_path / "a.npy", array))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (CLASSES[:49], r"holds int64 \(49,\), not a whole number for each of 50 images"),
        (CLASSES.astype(float), "holds float64"),
        (CLASSES - 1, "labels from -1 to 5"),
        (np.full(50, -(1 << 63)), "labels from -9223372036854775808 to"),
        (np.full(50, (1 << 64) - 1, np.uint64), "labels from 18446744073709551615 to"),
    ],
)
def test_labels_of_something_else_are_refused(labels, words, colours, tmp_path):
    with pytest.raises(ganzoo.GanzooError, match=words):
        Npy(path=colours, labels=saved(tmp_path / "labels.npy", labels))


def test_more_classes_than_a_network_may_have_are_refused(tmp_path):
    count = (1 << 16) + 1
    images = saved(tmp_path / "images.npy", np.zeros((count, 1, 1), np.uint8))
    with pytest.raises(ganzoo.GanzooError, match="are 65537 different numbers, more than 65536: give the number"):
        Npy(path=images, labels=saved(tmp_path / "labels.npy", np.arange(count)), test_every=0)


def test_options_that_do_not_go_together_are_refused(colours, tmp_path):
    other = saved(tmp_path / "other.npy", COLOURS[:, :8])
    labels = saved(tmp_path / "labels.npy", CLASSES)
    for options, words in (
        ({}, "write npy:path=FILE.npy"),
        ({"path": colours, "test_every": 1}, "every image is a test image"),
        ({"path": colours, "test_labels": labels}, "name both files or none"),
        ({"path": colours, "test": colours, "labels": labels}, "name both files or none"),
        ({"path": colours, "test": other}, r"has images of \(3, 8, 8\)"),
        ({"path": colours, "split": "test", "test_every": 51}, "The test split of .* is empty"),
        ({"path": colours, "split": "test", "test_every": 0}, "The test split of .* is empty"),
        ({"path": str(tmp_path / "nowhere.npy")}, "There is no file .*nowhere.npy"),
    ):
        with pytest.raises(ganzoo.GanzooError, match=words):
            Npy(**options)
    np.savez(tmp_path / "a.npz", images=COLOURS)
    with pytest.raises(ganzoo.GanzooError, match="is an archive of arrays"):
        Npy(path=str(tmp_path / "a.npz"))


def test_test_images_are_others(colours, tmp_path):
    (tmp_path / "again.npy").symlink_to(colours)
    with pytest.raises(ganzoo.UsageError, match="path and test are the same file"):
        Npy(path=colours, test=str(tmp_path / "again.npy"))


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_file_that_does_not_stay_is_noticed(what, colours):
    dataset = Npy(path=colours)
    dataset.read(torch.tensor([0]))
    Path(colours).unlink()
    if what == "changed":
        np.save(colours, COLOURS[:-1])
    with pytest.raises(ganzoo.GanzooError, match=r"has changed while it was read|cannot be read any more"):
        dataset.read(torch.tensor([0]))


def test_a_training_on_what_memory_does_not_hold_is_the_same(colours, tmp_path, monkeypatch):
    """Bit for bit, streamed or resident; and only what is asked for is read."""
    read = {}
    for kind, share in (("resident", 0.4), ("streamed", 0.0)):
        monkeypatch.setattr(memory, "MEMORY_SHARE", share)
        out = tmp_path / kind
        words = [
            "train",
            "mlp-vanilla",
            f"npy:path={colours}",
            "--steps",
            "12",
            "--batch-size",
            "8",
            "-q",
            "--tick-every",
        ]
        result = CliRunner().invoke(cli, [*words, "4 steps", "--device", "cpu", "--out", str(out)])
        assert result.exit_code == 0, result.output
        lines = Run.open(out).lines("stats.jsonl")
        read[kind] = [{name: value for name, value in line.items() if "second" not in name} for line in lines]
    assert read["resident"] == read["streamed"]


def resident_memory() -> int:
    """Bytes of this process that lie in memory, mapped files among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says how much memory a process takes")
def test_reading_leaves_nothing_in_memory(tmp_path):
    """A file of 4 GB that takes no room on disk: images of it are read, and memory does not grow."""
    path, count, side = tmp_path / "sparse.npy", 80_000, 128
    with open(path, "wb") as file:
        shape = (count, side, side, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + count * side * side * 3)
    dataset = Npy(path=str(path))
    reading = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:2560].split(64)
    dataset.read(reading[0])
    before = resident_memory()
    for indices in reading:  # 126 MB
        assert dataset.read(indices)[0].shape == (64, 3, side, side)
    assert resident_memory() - before < 16 << 20
