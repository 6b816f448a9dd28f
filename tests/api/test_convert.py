"""ganzoo.convert and `ganzoo data convert`: images, labels, splits and names are kept; a folder is whole or absent."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
import torch
from helpers import ZOO
from helpers import ganzoo as ganzoo_cli

import ganzoo
from ganzoo.contract.components import class_names
from ganzoo_plugins.datasets import _shard_files
from ganzoo_plugins.datasets.npy import Npy
from ganzoo_plugins.datasets.shards import Shards

FORMS = ["npy", "shards"]


class Named(ganzoo.Dataset):
    """Colour images of four classes, of which the last has no training image."""

    def __init__(self, *, split: str = "train", size: int = 5, channels: int = 3) -> None:
        """Twenty images, or seven test images."""
        self.spec = ganzoo.ImageSpec(channels, size, size + 1, 4)
        self.class_names = ("a cat", "a dog", "éléphant", "owl")
        self.count = 20 if split == "train" else 7
        self.first = 0 if split == "train" else 100

    def __len__(self) -> int:
        """How many."""
        return self.count

    def read(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise by its number."""
        shape = (self.spec.channels, self.spec.height, self.spec.width)
        draw = [np.random.default_rng(self.first + n).integers(0, 256, shape, dtype=np.uint8) for n in indices.tolist()]
        return torch.from_numpy(np.stack(draw)), indices % 3


NAMED = f"{__file__}:Named"


def same(first: ganzoo.Dataset, second: ganzoo.Dataset) -> bool:
    every = torch.arange(len(first))
    pairs = zip(first.read(every), second.read(every), strict=True)
    return len(first) == len(second) and first.spec == second.spec and all(a.equal(b) for a, b in pairs)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("source", [NAMED, f"{NAMED}:channels=1"])
def test_everything_is_kept(source, to, tmp_path):
    out = tmp_path / "out é"
    written = ganzoo.convert(source, to, out)
    assert written == ganzoo.Choice(to, {"path": str(out)})
    for split in ("train", "test"):
        before, after = (ZOO.build("datasets", ganzoo.Choice.parse(one), split=split) for one in (source, written))
        assert same(before, after)
        assert tuple(class_names(before)) == tuple(class_names(after))
        after.verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out é"]


def test_from_one_form_to_the_other_and_back(tmp_path):
    first = ganzoo.convert(NAMED, "shards", tmp_path / "a")
    second = ganzoo.convert(first, "npy", tmp_path / "b")
    third = ganzoo.convert(second, "shards", tmp_path / "c")
    assert third.name == "shards"
    for name in ("train-00000-of-00001.tar", "classnames.txt", "SHA256SUMS"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


@pytest.mark.parametrize("to", FORMS)
def test_a_set_without_test_images_and_without_labels(to, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8))
    source = f"npy:path={tmp_path / 'a.npy'},test_every=0"
    written = ganzoo.convert(source, to, tmp_path / "out")
    assert "Only the training images are converted." in capsys.readouterr().err
    train = ZOO.build("datasets", written, split="train")
    assert same(ZOO.build("datasets", ganzoo.Choice.parse(source), split="train"), train)
    assert train.spec.classes == 1
    assert not (tmp_path / "out" / "classnames.txt").exists()


def test_shards_are_closed_when_they_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(_shard_files, "SHARD_BYTES", 200_000)
    ganzoo.convert("digits:size=8", "shards", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("train-*-of-00016.tar"))) == 16
    (tmp_path / "out" / "train-00003-of-00016.tar").unlink()
    with pytest.raises(ganzoo.GanzooError, match="lacks 1 of the 16 files"):
        Shards(path=str(tmp_path / "out"))


def test_the_command_says_how_to_train(tmp_path):
    done = ganzoo_cli("data", "convert", "digits:size=8", "--to", "npy", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"npy:path={tmp_path / 'out'}\n"
    assert "Wrote 1,498 train and 299 test images, 0.1 MB." in done.stderr
    done = ganzoo_cli("data", "convert", "digits:size=8", "--to", "shards", tmp_path / "more", "--json")
    facts = json.loads(done.stdout)
    assert facts.keys() == {"schema", "command", "path", "dataset", "images", "bytes"}
    assert facts["images"] == {"train": 1498, "test": 299}
    assert facts["bytes"] == sum(path.stat().st_size for path in (tmp_path / "more").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "--to", "npy", "{full}"), "full holds something already: name a folder that is empty or not there"),
        (("digits", "--to", "npy", "{full}/file"), "file holds something already"),
        (("digits", "--to", "digits", "{new}"), "digits cannot be written; --to can be npy or shards"),
        (("digits", "--to", "shards:size=3", "{new}"), "--to takes the name of a dataset alone, without options"),
        (("digits", "--to", "shard", "{new}"), "shards"),
        (("nothing", "--to", "shards", "{new}"), "nothing"),
        ((f"{NAMED}:channels=2", "--to", "shards", "{new}"), "Images of 2 channels cannot be written as PNG"),
        ((f"{NAMED}:channels=4", "--to", "npy", "{new}"), "Images of 4 channels cannot be written as npy"),
        (("digits", "{new}"), "Missing option '--to'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_written(arguments, words, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    names = {"full": tmp_path / "full", "new": tmp_path / "new"}
    done = ganzoo_cli("data", "convert", *(word.format(**names) for word in arguments))
    assert done.exit_code == 2
    assert words in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
    assert (tmp_path / "full" / "file").read_text() == "mine"


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_full_disk_or_a_stop_leaves_nothing(to, error, tmp_path, monkeypatch):
    from ganzoo_plugins.datasets.digits import Digits

    def read(self: Digits, indices: torch.Tensor, real=Digits.read) -> tuple[torch.Tensor, torch.Tensor]:
        if indices[0] > 1000:
            raise error
        return real(self, indices)

    monkeypatch.setattr(Digits, "read", read)
    done = ganzoo_cli("data", "convert", "digits", "--to", to, tmp_path / "out")
    assert done.exit_code == (1 if isinstance(error, OSError) else 130)
    words = "cannot be written (No space left on device): name a folder on a disk with space"
    assert (words if isinstance(error, OSError) else "Stopped by Ctrl-C") in done.output
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(_shard_files, "_png", lambda image, real=_shard_files._png: real(image // 2))
    with pytest.raises(ganzoo.GanzooError, match="are not those of the dataset they were made from"):
        ganzoo.convert("digits:size=8", "shards", tmp_path / "out")


def test_a_folder_of_npy_files_is_given_alone(tmp_path):
    ganzoo.convert(NAMED, "npy", tmp_path / "out")
    folder = str(tmp_path / "out")
    assert Npy(path=folder).class_names == ("a cat", "a dog", "éléphant", "owl")
    with pytest.raises(ganzoo.UsageError, match="is a folder, whose files have the usual names"):
        Npy(path=folder, labels=f"{folder}/train-labels.npy")
    with pytest.raises(ganzoo.UsageError, match="names are those of classes: give labels= too"):
        Npy(path=f"{folder}/train.npy", names=f"{folder}/classnames.txt")
    (tmp_path / "out" / "classnames.txt").write_text("a\nb\n")
    with pytest.raises(ganzoo.GanzooError, match=r"go up to 2, and .* has names for the classes 0\.\.1"):
        Npy(path=folder)
    (tmp_path / "out" / "train.npy").unlink()
    with pytest.raises(ganzoo.GanzooError, match=r"has no file train\.npy"):
        Npy(path=folder)
