"""A dataset from parquet files, or from a name on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import click
import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._classes import Classes
from ganzoo_plugins.datasets._decoder import Decoder
from ganzoo_plugins.datasets._listing import TEST_NAMES, TRAIN_NAMES, natural
from ganzoo_plugins.datasets._memory import Channels, Split
from ganzoo_plugins.datasets._notes import Progress, note_once
from ganzoo_plugins.datasets._parquet import (
    check_files,
    class_names_of,
    label_column,
    library,
    list_parquet,
    load_files,
    load_name,
    picture_column,
)
from ganzoo_plugins.datasets._picture_rows import ROW, draw_of, is_test, load_rows, save_rows
from ganzoo_plugins.datasets._pictures import careful, size_and_channels
from ganzoo_plugins.datasets._shape import common_shape
from ganzoo_plugins.datasets._split_files import check_complete, split_files

#: part of the cache key: increase it when what is kept changes
_VERSION = 1
#: rows that are looked at at once
_CHUNK = 512
_LONGEST_NAME = 200


class HuggingFace(ganzoo.Dataset):
    """A folder of parquet files with pictures, or a dataset by its name on the Hugging Face Hub; larger than memory.

    Needs the extra `huggingface` (the library datasets). The column of the pictures and that of the classes are found
    by their types and names; `label=none` leaves the classes out. Names of classes are those of the column, or the
    words in it.

    Where some files have `train` in their path, and others `test` (or `val`, `validation`), these are the splits, as
    are the splits of a name. Otherwise the number of a row decides whether it is a test picture.

    The first use copies the files below `ganzoo.cache_dir()`, as an Arrow file that is mapped into memory. Pictures are
    then read by their number and decoded when they are needed, on all cores. No code of a dataset is ever run.
    HF_HUB_OFFLINE=1 keeps a name from the network.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        path: Annotated[str, click.Path(), "the folder of the parquet files"] = "",
        name: Annotated[str, "the name of a dataset, such as ylecun/mnist, in place of a path"] = "",
        config: Annotated[str, "which configuration of the named dataset"] = "",
        revision: Annotated[str, "which commit or tag of the named dataset"] = "",
        size: Annotated[int, click.IntRange(min=0), "height and width; 0 if all have one size, to keep it"] = 0,
        channels: Channels = 0,
        crop: Annotated[bool, "cut out the central square before resizing, rather than distort"] = True,
        image: Annotated[str, "the column of the pictures"] = "",
        label: Annotated[str, "the column of the classes, or none"] = "",
        test_share: Annotated[float, click.FloatRange(0, 0.5), "share of the pictures kept for the test split"] = 0.1,
    ) -> None:
        if bool(path) == bool(name):
            raise ganzoo.UsageError(
                "huggingface needs a folder of parquet files, huggingface:path=DIR, or a name, huggingface:name=NAME."
            )
        self._what: Any = name or Path(os.path.expanduser(path)).absolute()
        #: the parquet files of each split; none of a name
        self._files: dict[str, list[Path]] = {}
        tables = _by_split(name, load_name(name, config, revision)) if name else self._load_files()
        features = tables["train"].features
        self._image = picture_column(features, image)
        self._label = label_column(features, label, self._image)
        facts, rows = self._rows(tables)
        tests = rows["file"] == 1 if "test" in tables else is_test(rows["draw"], test_share)
        chosen = np.flatnonzero(tests == (split == "test"))
        labels, classes = np.zeros(len(chosen), np.int64), 1
        if self._label:
            names = class_names_of(features[self._label]) or tuple(facts["words"])
            found = Classes(self._what, rows["label"][~tests], names, only_trained=bool(facts["words"]))
            labels, known = found.number(rows["label"][chosen])
            chosen, labels, classes = chosen[known], labels[known], max(1, len(found))
            self.class_names = found.names
        if not len(chosen):
            raise ganzoo.GanzooError(
                f"The {split} split of {self._what} is empty, of {len(rows)} pictures: add some, or change test_share."
            )
        shape = common_shape(rows, channels, size, lambda at: f"row {rows['offset'][at]} of {self._what}")
        self.spec = ganzoo.ImageSpec(*shape, classes=classes)
        self.test_images = int(np.count_nonzero(tests))
        self._table = tables["test" if split == "test" and "test" in tables else "train"]
        self._table = self._table.select_columns([self._image]).with_format("arrow")
        self._chosen = rows["offset"][chosen].astype(np.int64)
        self._labels = torch.from_numpy(labels.astype(np.int64))
        self._decode = Decoder(shape, shape[0], size, crop)

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read from the Arrow file and decoded."""
        places = self._chosen[indices.numpy()].tolist()
        found = _contents(self._table[places].column(0)) if places else []
        names = [f"row {place} of {self._what}" for place in places]
        return self._decode([(name, self._complete(name, one)) for name, one in zip(names, found, strict=True)]), (
            self._labels[indices]
        )

    def verify(self) -> str:
        """Also that the copy holds the pictures of the parquet files."""
        read = super().verify()
        if not self._files:
            return read
        import pyarrow.parquet

        tables = load_files(self._files)
        for split, paths in self._files.items():
            table, place = tables[split].select_columns([self._image]).with_format("arrow"), 0
            for path in paths:
                for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_CHUNK, columns=[self._image]):
                    copied = _contents(table[place : place + len(batch)].column(0)) if place < len(table) else []
                    if _contents(batch.column(0)) != copied:
                        raise ganzoo.GanzooError(
                            f"{path} is not what {ganzoo.cache_dir() / 'huggingface'} holds of it: delete that folder, "
                            "and it is made anew."
                        )
                    place += len(batch)
        return f"{read}, and every row of {sum(map(len, self._files.values()))} parquet files"

    def _load_files(self) -> dict[str, Any]:
        library()
        root, names = list_parquet(self._what)
        notes = check_complete(root, names)
        train, test, more = split_files(root, names)
        for note in (*notes, *more):
            note_once(note)
        splits = {"train": train, **({"test": test} if test else {})}
        self._files = {split: [root / name for name in files] for split, files in splits.items()}
        check_files([path for paths in self._files.values() for path in paths])
        return load_files(self._files)

    def _rows(self, tables: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """What is known of each picture, from the cache or looked up; `offset` is its row, `file` 1 of a test table."""
        prints = {split: [table._fingerprint, len(table)] for split, table in tables.items()}
        key = json.dumps([_VERSION, prints, self._image, self._label])
        path = ganzoo.cache_dir() / "huggingface" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.index"
        found = load_rows(path)
        if found:
            return found
        words: dict[str, int] = {}
        rows = np.concatenate([self._look_at(table, split, words) for split, table in tables.items()])
        names = sorted(words, key=natural)
        if words:
            places = np.empty(len(words), np.int64)
            places[[words[name] for name in names]] = np.arange(len(names))
            rows["label"] = places[rows["label"]]
        with suppress(OSError):  # a cache that cannot be written costs time, not the training
            save_rows(path, {"words": names}, [rows])
        return {"words": names}, rows

    def _look_at(self, table: Any, split: str, words: dict[str, int]) -> np.ndarray:
        columns = [self._image, *([self._label] if self._label else [])]
        rows = np.zeros(len(table), ROW)
        progress = Progress("Indexed", len(table))
        named = bool(self._label and class_names_of(table.features[self._label]))
        view = table.select_columns(columns).with_format("arrow")
        with careful():
            for start in range(0, len(table), _CHUNK):
                batch = view[start : start + _CHUNK]
                labels = batch.column(1).to_pylist() if self._label else [-1] * len(batch)
                for row, content, label in zip(
                    range(start, len(table)), _contents(batch.column(0)), labels, strict=False
                ):
                    name = f"row {row} of {self._what}"
                    sides = size_and_channels(Path(name), self._complete(name, content))
                    if isinstance(sides, str):
                        raise ganzoo.GanzooError(f"{name} cannot be read as a picture ({sides}): take it out.")
                    code = -1 if not self._label else _label(label, name, words, named)
                    rows[row] = (split == "test", len(content or b""), row, *sides, code, draw_of(str(row)))
                progress.show(start)
        progress.end()
        if words and (rows["label"] < 0).any():
            raise ganzoo.GanzooError(f"The column {self._label} of {self._what} holds both names and numbers.")
        return rows

    def _complete(self, name: str, content: bytes | None) -> bytes:
        if content is None:
            raise ganzoo.GanzooError(f"{name} has no picture in it, at most the path of one: give files with pictures.")
        return content


def _contents(column: Any) -> list[bytes | None]:
    """The pictures of a column as they were saved: of structs, their field `bytes`."""
    return [value.get("bytes") if isinstance(value, dict) else value for value in column.to_pylist()]


def _label(value: Any, name: str, words: dict[str, int], named: bool) -> int:
    """A label as a number. Of a name, its place in `words`."""
    if named and (value is None or value == -1):
        return -1  # what publishers write for "not known"
    if isinstance(value, str) and value and len(value) <= _LONGEST_NAME and value.isprintable():
        return words.setdefault(value, len(words))
    if isinstance(value, bool | int) and not words and 0 <= int(value) < 1 << 31:
        return int(value)
    raise ganzoo.GanzooError(f"The label of {name} is {str(value)[:40]!r}, neither a number from 0 nor a name.")


def _by_split(name: str, tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of the two splits of a published dataset."""
    trained = next(_present(tables, TRAIN_NAMES), "")
    tested = next(_present(tables, TEST_NAMES), "")
    if trained and tested:
        return {"train": tables[trained], "test": tables[tested]}
    if not trained and len(tables) > 1:
        raise ganzoo.GanzooError(f"{name} has the splits {', '.join(tables)}, and none of them is called train.")
    return {"train": tables[trained or next(iter(tables))]}


def _present(tables: dict[str, Any], words: Sequence[str]) -> Iterator[str]:
    return (word for word in words if word in tables)
