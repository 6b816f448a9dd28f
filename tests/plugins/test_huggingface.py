"""Parquet files of pictures: every row is found by its number, columns are found or named, and no code is run."""

from __future__ import annotations

import builtins
import json
import socket
from pathlib import Path

import large_sets
import numpy as np
import pytest
import torch
from helpers import ganzoo as ganzoo_cli
from large_sets import picture, pixels, write_parquet

import ganzoo
from ganzoo_plugins.datasets import huggingface as module
from ganzoo_plugins.datasets.huggingface import HuggingFace

datasets = pytest.importorskip("datasets", reason="needs the extra huggingface")

PICTURES = [picture(number) for number in range(12)]
NAMED = {"label": {"_type": "ClassLabel", "names": ["cat", "dog", "owl"]}}


def everything(dataset: ganzoo.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.read(torch.arange(len(dataset)))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError("a test must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my files é"


def opened(folder: Path, **options: object) -> HuggingFace:
    return HuggingFace(path=str(folder), **{"test_share": 0.0, **options})


def refusal(folder: Path, **options: object) -> str:
    return large_sets.refusal(lambda: opened(folder, **options))


# --- what is read ---


def test_pictures_are_found_by_their_number(folder):
    numbers = [number % 3 for number in range(12)]
    write_parquet(folder / "a.parquet", PICTURES[:5], {"label": numbers[:5]}, NAMED)
    write_parquet(folder / "b" / "c.parquet", PICTURES[5:], {"label": numbers[5:]}, NAMED)
    dataset = opened(folder)
    images, labels = everything(dataset)
    assert (len(dataset), dataset.spec) == (12, ganzoo.ImageSpec(3, 8, 8, 3))
    assert dataset.class_names == ("cat", "dog", "owl")
    assert labels.tolist() == numbers
    assert all(np.array_equal(image, pixels(content)) for image, content in zip(images, PICTURES, strict=True))
    shuffled = torch.tensor([7, 3, 7, 0, 11])
    assert dataset.read(shuffled)[0].equal(images[shuffled])


@pytest.mark.parametrize(
    ("values", "features", "names", "labels"),
    [
        ([0, 2, 0], {"label": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}, ("a", "b", "c"), [0, 2, 0]),
        ([0, 1, 0], None, (), [0, 1, 0]),
        ([5, 9, 5], None, ("5", "9"), [0, 1, 0]),
        ([True, False, True], None, (), [1, 0, 1]),
        (["b10", "b2", "b10"], None, ("b2", "b10"), [1, 0, 1]),
    ],
)
def test_labels_are_numbers_or_names(folder, values, features, names, labels):
    write_parquet(folder / "a.parquet", PICTURES[:3], {"label": values}, features)
    dataset = opened(folder)
    assert dataset.class_names == names
    assert everything(dataset)[1].tolist() == labels
    assert opened(folder, label="none").spec.classes == 1


def test_columns_are_found_or_named(folder):
    columns = {"fine": [0, 1, 1], "coarse": [0, 0, 1], "caption": ["a", "b", "c"]}
    kinds = {name: {"_type": "ClassLabel", "names": ["x", "y"]} for name in ("fine", "coarse")}
    kinds["caption"] = {"_type": "Value", "dtype": "string"}
    write_parquet(folder / "a.parquet", PICTURES[:3], columns, kinds, image="photo")
    assert "Several columns hold labels (fine, coarse): name one with label=" in refusal(folder)
    assert everything(opened(folder, label="coarse"))[1].tolist() == [0, 0, 1]
    assert "There is no column 'medium' for label=, only photo, fine, coarse, caption" in refusal(
        folder, label="medium"
    )
    assert "There is no column 'x' for image=" in refusal(folder, image="x")
    assert everything(opened(folder, image="photo", label="none"))[1].tolist() == [0, 0, 0]


def test_pictures_may_be_plain_bytes(folder):
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"img": PICTURES, "cls": [0] * 12}), folder / "a.parquet")
    assert np.array_equal(everything(opened(folder))[0][7], pixels(PICTURES[7]))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "cls": [0]}), folder / "a.parquet")
    assert "no column holds pictures: name one with image=" in refusal(folder)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("train/0.parquet", "test/0.parquet"),
    ],
)
def test_splits_are_parts_of_names(folder, train, test):
    write_parquet(folder / train, PICTURES[:7], {"label": [0, 1] * 3 + [0]})
    write_parquet(folder / test, PICTURES[7:], {"label": [0, 1, 2, 0, 1]})
    assert len(opened(folder)) == 7
    tests = opened(folder, split="test")  # an image of class 2 is left out
    assert everything(tests)[1].tolist() == [0, 1, 0, 1]
    assert np.array_equal(everything(tests)[0][2], pixels(PICTURES[10]))


def test_without_splits_the_row_decides_which_are_test_pictures(folder):
    write_parquet(folder / "a.parquet", [picture(number, (4, 4)) for number in range(60)])
    sizes = [len(opened(folder, split=split, test_share=0.3)) for split in ("train", "test")]
    assert sum(sizes) == 60
    assert 8 < sizes[1] < 30


def test_a_file_that_has_changed_is_copied_again(folder):
    write_parquet(folder / "a.parquet", PICTURES[:3])
    before = everything(opened(folder))[0]
    write_parquet(folder / "a.parquet", PICTURES[3:8])
    after = everything(opened(folder))[0]
    assert (len(before), len(after)) == (3, 5)
    assert np.array_equal(after[0], pixels(PICTURES[3]))


# --- what is refused ---


def test_a_path_or_a_name_is_needed(folder):
    for options in ({}, {"path": "a", "name": "b"}):
        with pytest.raises(ganzoo.UsageError, match=r"huggingface:path=DIR, or a name, huggingface:name=NAME"):
            HuggingFace(**options)
    assert "There is no folder" in refusal(folder)
    folder.mkdir()
    assert "has no parquet files" in refusal(folder)
    with pytest.raises(ganzoo.UsageError, match="is a path: give it as path="):
        HuggingFace(name=str(folder))


def test_without_the_library_its_extra_is_named(monkeypatch):
    original = builtins.__import__

    def without(name: str, *more: object) -> object:
        if name == "datasets":
            raise ImportError(name)
        return original(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ganzoo.GanzooError, match=r"pip install 'torch-ganzoo\[huggingface\]'"):
        HuggingFace(path="x")


def test_an_old_library_that_would_run_code_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(ganzoo.GanzooError, match=r"datasets 3.6.0 may run code"):
        HuggingFace(path="x")


def test_a_damaged_or_missing_file_or_one_of_another_schema_is_named(folder):
    good = write_parquet(folder / "a.parquet", PICTURES[:3], {"label": [0, 1, 0]})
    data = good.read_bytes()
    for damaged in (data[:-20], data[: len(data) // 2], b"", b"PAR1", b"hello" * 100):
        (folder / "b.parquet").write_bytes(damaged)
        assert "b.parquet cannot be read as a parquet file" in refusal(folder)
    write_parquet(folder / "b.parquet", PICTURES[:3], {"label": ["x", "y", "x"]})
    assert "b.parquet has another schema than a.parquet (columns label)" in refusal(folder)
    (folder / "b.parquet").unlink()
    good.rename(folder / "a-00001-of-00002.parquet")
    assert "lacks 1 of the 2 files a-...-of-00002, first number 0" in refusal(folder)


@pytest.mark.parametrize(
    ("pictures", "labels", "words"),
    [
        ([*PICTURES[:2], picture(1, (9, 8))], [0, 0, 0], "row 0 of .* is 8x8 but row 2 of .* is 8x9: give size="),
        ([*PICTURES[:2], picture(1, mode="L")], [0, 0, 0], "in colour but row 2 of .* is grey: give channels=1"),
        ([*PICTURES[:2], None], [0, 0, 0], "row 2 of .* has no picture in it"),
        ([*PICTURES[:2], b"hello"], [0, 0, 0], "row 2 of .* cannot be read as a picture"),
        (PICTURES[:3], [0, None, 1], "label of row 1 of .* is 'None'"),
        (PICTURES[:3], [0, -1, 1], "label of row 1 of .* is '-1'"),
        (PICTURES[:3], [0.5, 0.5, 0.5], "is '0.5', neither a number from 0 nor a name"),
        (PICTURES[:3], ["a", "", "b"], "neither a number from 0 nor a name"),
    ],
)
def test_a_strange_row_is_named(folder, pictures, labels, words):
    write_parquet(folder / "a.parquet", pictures, {"label": labels})
    with pytest.raises(ganzoo.GanzooError, match=words):
        opened(folder)


def test_a_damaged_picture_is_named_when_it_is_read(folder):
    broken = bytearray(PICTURES[1])
    broken[70] ^= 255
    write_parquet(folder / "a.parquet", [PICTURES[0], bytes(broken)])
    with pytest.raises(ganzoo.GanzooError, match=r"row 1 of .* cannot be read as a picture"):
        everything(opened(folder))


def test_a_full_cache_is_named(folder, tmp_path, monkeypatch):
    write_parquet(folder / "a.parquet", PICTURES[:3])
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    assert "set GANZOO_CACHE" in refusal(folder)


@pytest.mark.parametrize("variable", ["GANZOO_OFFLINE", "HF_HUB_OFFLINE", ""])  # "": the network fails
def test_a_name_without_a_network_is_one_sentence(variable, monkeypatch, tmp_path):
    import huggingface_hub

    for known in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(known, "HF_HUB_OFFLINE", variable == "HF_HUB_OFFLINE")
    if variable == "GANZOO_OFFLINE":
        monkeypatch.setenv("GANZOO_OFFLINE", "1")
    if not variable:  # the library itself tries for half a minute

        def fail(*arguments: object, **keywords: object) -> None:
            raise ConnectionError("Couldn't reach the Hub")

        monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ganzoo.GanzooError, match=r"The dataset nobody/nothing cannot be loaded \(.*as path= a folder"):
        HuggingFace(name="nobody/nothing")


def test_a_published_dataset_is_read_with_its_splits(folder, monkeypatch):
    write_parquet(folder / "a.parquet", PICTURES[:7], {"label": [0, 1, 2] * 2 + [0]}, NAMED)
    write_parquet(folder / "b.parquet", PICTURES[7:], {"label": [-1, 1, 2, 0, 1]}, NAMED)
    asked: list[object] = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> object:
        asked.append((name, config, revision))
        files = {"train": str(folder / "a.parquet"), "validation": str(folder / "b.parquet")}
        return original("parquet", data_files=files, cache_dir=str(folder / "cache"))

    original = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = HuggingFace(name="somebody/birds", config="small", revision="v1", split="test")
    assert asked == [("somebody/birds", "small", "v1")]
    assert everything(dataset)[1].tolist() == [1, 2, 0, 1]  # a label of -1 is one that is not known
    assert dataset.test_images == 5
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: {"left": 1, "right": 2})
    with pytest.raises(ganzoo.GanzooError, match=r"has the splits left, right, and none of them is called train"):
        HuggingFace(name="somebody/birds")


def test_code_beside_the_files_is_not_run(folder):
    write_parquet(folder / "a.parquet", PICTURES[:3])
    for name in (f"{folder.name}.py", "dataset.py", "__init__.py"):
        (folder / name).write_text(f"open({str(folder / 'ran')!r}, 'w')")
    assert len(opened(folder)) == 3
    assert not (folder / "ran").exists()


# --- data verify ---


def test_verify_compares_the_copy_with_the_files(folder, monkeypatch):
    write_parquet(folder / "train.parquet", PICTURES[:7])
    write_parquet(folder / "test.parquet", PICTURES[7:])
    done = ganzoo_cli("data", "verify", f"huggingface:path={folder}", "--json")
    assert done.exit_code == 0, done.output
    assert "every row of 2 parquet files" in json.loads(done.stdout)["splits"][0]["checked"]
    dataset = opened(folder)
    monkeypatch.setattr(module, "_contents", lambda column, real=module._contents: [*real(column)[:-1], b"other"])
    monkeypatch.setattr(
        dataset,
        "read",
        lambda indices: (torch.zeros(len(indices), 3, 8, 8, dtype=torch.uint8), torch.zeros(len(indices))),
    )
    assert dataset.verify()  # both sides are read in the same way
    calls = iter(range(100))
    monkeypatch.setattr(module, "_contents", lambda column: [next(calls)])
    with pytest.raises(ganzoo.GanzooError, match=r"\.parquet is not what .* holds of it: delete that folder"):
        dataset.verify()
