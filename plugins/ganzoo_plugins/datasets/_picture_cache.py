"""Decoded pictures kept on disk, so that each picture is decoded once.

    CACHE/image-folder/KEY/index          sha256 of the rest; then JSON: what is known of each picture, and its row
    CACHE/image-folder/KEY/images-ID.bin  the decoded pictures, one row after another
    CACHE/image-folder/.KEY.lock          held while pictures are decoded

The key is that of the folder and of how its pictures are decoded. A picture whose size and dates are those of the index
is not opened. Of another one the content is compared by sha256, and only what is new is decoded and appended. Rows are
never moved or replaced, so that other processes may go on reading; pictures that are gone leave rows that are not used,
until there are so many of them that all is written anew under another ID.

Every row is compared with its sha256 when a process first reads it. What is damaged is decoded anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import PIL
from filelock import FileLock, Timeout

import ganzoo
from ganzoo_plugins.datasets._notes import Progress, note_once
from ganzoo_plugins.datasets._picture_index import PictureIndex, digest_of, facts_of
from ganzoo_plugins.datasets._pictures import careful, decode

#: part of the cache key: increase it when `decode` or the format of the files changes
_VERSION = 2
#: while pictures are decoded, the index is written so often: what was decoded before a process is killed is kept
_SAVE_SECONDS = 60.0


class PictureCache:
    """The decoded pictures `names` below `root`; opening it decodes those that are new.

    retry: decode those again that could not be decoded before, as the cause may have passed.

    Raises GanzooError where pictures differ in size and no size is asked for, or the cache cannot be written.
    """

    def __init__(self, root: Path, names: Sequence[str], decoding: Mapping[str, Any], retry: bool) -> None:
        self._root, self._names, self._decoding, self._retry = root, names, dict(decoding), retry
        key = [_VERSION, PIL.__version__, os.path.realpath(root), self._decoding]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = ganzoo.cache_dir() / "image-folder" / digest
        #: reasons by name that must not be kept, as what caused them may pass: files that could not be opened
        self._unopened: dict[str, str] = {}
        self._healed = False
        try:
            self._index = self._load()
            if self._missing():
                self._update()
            self._images = self._mapped()
        except OSError as error:
            raise ganzoo.GanzooError(
                f"The pictures of {root} cannot be written to {self.folder.parent} ({error.strerror or error}): set "
                "GANZOO_CACHE to a folder with space that you may write to."
            ) from None
        self._checked = np.zeros(len(self._index.rows), bool)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every picture."""
        return self._index.shape

    @property
    def broken(self) -> dict[str, str]:
        """Why pictures cannot be read, by name."""
        found = {name: self._index.pictures[name][2] for name in self._names if name in self._index.pictures}
        reasons = {name: row for name, row in found.items() if isinstance(row, str)} | self._unopened
        return {name: reasons[name] for name in self._names if name in reasons}

    def row_of(self, name: str) -> int:
        """The row of a picture that is not broken."""
        row = self._index.pictures[name][2]
        assert isinstance(row, int)  # noqa: S101  (see above)
        return row

    def levels(self, rows: np.ndarray) -> tuple[int, int]:
        """The lowest and the highest value in these rows."""
        return min(self._index.rows[row][1] for row in rows), max(self._index.rows[row][2] for row in rows)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (n, C, H, W) uint8, a copy. A damaged row is decoded anew."""
        images = np.empty((len(rows), *self._index.shape), np.uint8)
        if not len(rows):
            return images
        try:
            with self._path.open("rb") as file:
                # a mapping would read ahead around every image: seventy times as slow in random order
                for row, image in zip(rows.tolist(), images, strict=True):
                    os.preadv(file.fileno(), [image], row * self._index.row_bytes)
        except OSError:  # another process has written all anew: the mapped file is still there
            images = np.array(self._images[rows])
        for position in np.flatnonzero(~self._checked[rows]):
            row = int(rows[position])
            if digest_of(images[position]) != self._index.rows[row][0]:
                images[position] = self._decode_again(row)
            self._checked[row] = True
        return images

    def _decode_again(self, row: int) -> np.ndarray:
        """Replace a damaged row from its picture. Raises GanzooError where the picture has changed since."""
        name = next(name for name in self._names if self._index.pictures.get(name, ("", "", ""))[2] == row)
        with careful():
            image = decode(self._root / name, **self._decoding)
        if isinstance(image, str) or digest_of(image.numpy()) != self._index.rows[row][0]:
            raise ganzoo.GanzooError(
                f"{self._root / name} has changed while it was used, and its copy in {self.folder} is damaged: start "
                "again with the pictures as they are now."
            )
        if not self._healed:
            self._healed = True
            first = click.format_filename(name)
            click.echo(f"{self.folder} is damaged: what is damaged is decoded anew, beginning with {first}.", err=True)
        with contextlib.suppress(OSError), self._path.open("r+b") as file:
            file.seek(row * self._index.row_bytes)
            file.write(image.numpy().tobytes())
        found: np.ndarray = image.numpy()
        return found

    @property
    def _path(self) -> Path:
        return self.folder / f"images-{self._index.id}.bin"

    def _load(self) -> PictureIndex:
        """The index on disk, or an empty one where there is none, or the files are damaged."""
        path = self.folder / "index"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return PictureIndex()
        try:
            index = PictureIndex.from_bytes(data)
            found = (self.folder / f"images-{index.id}.bin").stat().st_size
            if found < len(index.rows) * index.row_bytes:
                raise ValueError("the file of images is too short")
        # what a damaged file leads to may be any error
        except Exception:
            note_once(f"{self.folder} is damaged: the pictures are decoded anew.")
            return PictureIndex()
        return index

    def _mapped(self) -> np.ndarray:
        shape = (len(self._index.rows), *self._index.shape)
        if not len(self._index.rows):
            return np.zeros((0, *(self._index.shape or (1, 1, 1))), np.uint8)
        return np.memmap(self._path, np.uint8, "r", shape=shape)

    def _missing(self) -> list[str]:
        """The names whose picture is not in the index as it is now."""
        missing: list[str] = []
        self._unopened = {}
        for name in self._names:
            facts = facts_of(self._root / name)
            known, _, row = self._index.pictures.get(name, ([], "", ""))
            if not facts:
                self._unopened[name] = "No such file or directory"
            elif facts != known or (self._retry and isinstance(row, str)):
                missing.append(name)
        return missing

    def _update(self) -> None:
        """Decode what is missing. Of several processes one does it, and the others wait."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            click.echo(f"Waiting for another process that decodes the pictures of {self._root}.", err=True)
            lock.acquire()
        try:
            self._index = self._load()
            if missing := self._missing():
                self._decode(missing)
        finally:
            lock.release()

    def _decode(self, missing: list[str]) -> None:
        """Append the missing pictures, and write the index."""
        count, total = len(missing), len(self._names)
        how_many = f"{total} pictures" if count == total else f"{count} of {total} pictures"
        why = "once" if count == total else "those that are new or have changed"
        click.echo(f"Decoding {how_many} of {self._root}, {why}.", err=True)
        if count == total and not self._decoding["size"]:
            self._index = PictureIndex()  # none of the old ones says what size they have
        known = {sha: row for _, sha, row in self._index.pictures.values() if isinstance(row, int)}
        self._index.pictures = {n: self._index.pictures[n] for n in self._names if n in self._index.pictures}
        self._compact(known)
        progress, saved = Progress("Decoded", count), time.monotonic()
        try:
            for done, (name, facts, sha, result) in enumerate(self._results(missing, known)):
                progress.show(done)
                if not facts:
                    self._unopened[name] = str(result)
                    self._index.pictures.pop(name, None)
                    continue
                row = self._append(name, result) if isinstance(result, np.ndarray) else result
                self._index.pictures[name] = (facts, sha, row)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        finally:  # interrupted, or a picture was refused: the others are decoded all the same
            progress.end()
            self._save()

    def _append(self, name: str, image: np.ndarray) -> int:
        """Write one more row; its number."""
        index = self._index
        index.shape = index.shape or image.shape
        if image.shape != index.shape:
            first = next((n for n in self._names if isinstance(index.pictures.get(n, ("", "", ""))[2], int)), "")
            sizes = " but ".join(
                f"{at} is {high}x{wide}" for at, (_, high, wide) in ((first, index.shape), (name, image.shape))
            )
            raise ganzoo.GanzooError(
                f"size=0 wants pictures of one size, {sizes}: give size= the height and width to make."
            )
        self.folder.mkdir(exist_ok=True)
        with self._path.open("r+b" if index.rows else "wb") as file:
            file.seek(len(index.rows) * index.row_bytes)
            file.write(image.tobytes())
        index.rows.append((digest_of(image), int(image.min()), int(image.max())))
        return len(index.rows) - 1

    def _save(self) -> None:
        """Write the index, once the rows it names are on the disk."""
        if not self._index.rows:
            return
        with self._path.open("r+b") as file:
            os.fsync(file.fileno())
        partial = self.folder / f".index.{secrets.token_hex(4)}"
        try:
            with partial.open("xb") as file:
                file.write(self._index.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.folder / "index")
        finally:
            partial.unlink(missing_ok=True)
        for path in self.folder.glob("images-*.bin"):
            if path != self._path:
                with contextlib.suppress(OSError):  # a system that does not delete what another process reads
                    path.unlink()

    def _compact(self, known: dict[str, int]) -> None:
        """Copy the rows that are used into a new file, where more than half are not."""
        old, used = self._index, {row for _, _, row in self._index.pictures.values() if isinstance(row, int)}
        if len(old.rows) < 2 * len(used) + 1000:
            return
        places = {row: place for place, row in enumerate(sorted(used))}
        new = PictureIndex(shape=old.shape, rows=[old.rows[row] for row in sorted(used)])
        with self._path.open("rb") as source, (self.folder / f"images-{new.id}.bin").open("xb") as file:
            for row in sorted(used):
                source.seek(row * old.row_bytes)
                file.write(source.read(old.row_bytes))
        for name, (facts, sha, place) in old.pictures.items():
            new.pictures[name] = (facts, sha, places[place] if isinstance(place, int) else place)
        known.clear()
        known.update({sha: row for _, sha, row in new.pictures.values() if isinstance(row, int)})
        self._index = new

    def _results(
        self, names: Sequence[str], known: Mapping[str, int]
    ) -> Iterator[tuple[str, list[int], str, np.ndarray | int | str]]:
        """Of each name in order: facts of the file, its sha256, and the picture, the row it has, or what is wrong.

        Facts are empty where the file cannot be opened.
        """
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        waiting: deque[Future[tuple[str, list[int], str, np.ndarray | int | str]]] = deque()
        with careful(), ThreadPoolExecutor(workers) as pool:
            try:
                for name in names:
                    # a few ahead: the decoded pictures must not pile up
                    waiting.append(pool.submit(self._result, name, known))
                    if len(waiting) > 4 * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _result(self, name: str, known: Mapping[str, int]) -> tuple[str, list[int], str, np.ndarray | int | str]:
        path = self._root / name
        facts = facts_of(path)
        try:
            with path.open("rb") as file:
                sha = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return name, [], "", error.strerror or str(error)
        if sha in known:
            return name, facts, sha, known[sha]
        image = decode(path, **self._decoding)
        return name, facts, sha, image if isinstance(image, str) else np.ascontiguousarray(image.numpy())
