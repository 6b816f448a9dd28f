"""The index of a folder of shards: where each picture is, how large it is, and its label.

    CACHE/shards/KEY.index    see `_picture_rows`; the line of JSON names each shard with its size and dates
    CACHE/shards/.KEY.lock    held while shards are read

The key is that of the folder and of what is read of a sample. Only headers, labels and the beginnings of pictures are
read for it. A shard whose size and dates are those of the index is not opened; another one is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from filelock import FileLock, Timeout

import ganzoo
from ganzoo_plugins.datasets._decoder import cores
from ganzoo_plugins.datasets._listing import natural
from ganzoo_plugins.datasets._notes import Progress
from ganzoo_plugins.datasets._picture_index import facts_of
from ganzoo_plugins.datasets._picture_rows import load_rows, save_rows
from ganzoo_plugins.datasets._pictures import careful
from ganzoo_plugins.datasets._samples import Shard, read_shard
from ganzoo_plugins.datasets._tar import TarError

#: part of the cache key: increase it when what is kept changes
_VERSION = 1


class ShardIndex:
    """What is known of the shards `names` below `root`; making it reads those that are new.

    Raises GanzooError for a shard that is damaged or unlike the others, and where the cache cannot be written.
    """

    def __init__(self, root: Path, names: Sequence[str], image: str, label: str) -> None:
        self.root, self.names = root, list(names)
        self._image, self._label = image, label
        key = [_VERSION, os.path.realpath(root), self.names if root.is_file() else "", image, label]
        digest = hashlib.sha256(json.dumps(key).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.path = ganzoo.cache_dir() / "shards" / f"{digest}.index"
        self._facts = {name: facts_of(root / name) for name in self.names}
        try:
            found = self._load() or self._update()
        except OSError as error:
            raise ganzoo.GanzooError(
                f"The index of {root} cannot be written to {self.path.parent} ({error.strerror or error}): set "
                "GANZOO_CACHE to a folder with space that you may write to."
            ) from None
        facts, self.rows = found
        #: names of the classes in natural order, where labels are names; their places are the labels of the rows
        self.words: tuple[str, ...] = tuple(facts["words"])
        #: "none", "number" or "word"
        self.labels: str = facts["labels"]

    def facts(self, name: str) -> list[int]:
        """Size and dates that a shard had when the index was made."""
        return self._facts[name]

    def read_again(self) -> None:
        """Read all shards once more. Raises GanzooError where one is not what the index says."""
        first = 0
        for name in self.names:
            with careful():
                shard = self._read(name)
            known = self.rows[first : first + len(shard.rows)]
            first += len(shard.rows)
            if shard.words:
                shard.rows["label"] = np.array([self.words.index(word) for word in shard.words])[shard.rows["label"]]
            shard.rows["file"] = known["file"] if len(known) == len(shard.rows) else -1
            if not np.array_equal(shard.rows, known):
                raise ganzoo.GanzooError(
                    f"{self.root / name} is not what {self.path} says of it: delete that file, and it is made anew."
                )

    def _load(self) -> tuple[dict[str, Any], np.ndarray] | None:
        """The index on disk, if it is of the shards as they are now."""
        found = load_rows(self.path)
        shards = [[name, self._facts[name]] for name in self.names]
        return found if found and [one[:2] for one in found[0]["shards"]] == shards else None

    def _update(self) -> tuple[dict[str, Any], np.ndarray]:
        """Read what is new. Of several processes one does it, and the others wait."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.stem}.lock"))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            click.echo(f"Waiting for another process that reads the shards of {self.root}.", err=True)
            lock.acquire()
        try:
            found = self._load()
            if not found:
                self._save(list(self._shards()))
                found = self._load()
            if not found:
                raise ganzoo.GanzooError(f"The shards of {self.root} are changing: start again when they are complete.")
            return found
        finally:
            lock.release()

    def _save(self, shards: Sequence[Shard]) -> None:
        """Write the index; labels that are names become places in the list of all names."""
        kinds = {shard.labels: name for name, shard in zip(self.names, shards, strict=True)}
        if len(kinds) > 1:
            words = {"none": "has no labels", "number": "has numbers", "word": "has names"}
            unlike = ", ".join(f"{name} {words[kind]}" for kind, name in kinds.items())
            raise ganzoo.GanzooError(
                f"The shards of {self.root} have several schemas: of labels, {unlike}; give the shards of one dataset."
            )
        names = sorted({word for shard in shards for word in shard.words}, key=natural)
        places = {word: place for place, word in enumerate(names)}
        for number, shard in enumerate(shards):
            shard.rows["file"] = number
            if shard.words:
                shard.rows["label"] = np.array([places[word] for word in shard.words])[shard.rows["label"]]
        listed = [[name, self._facts[name], len(shard.rows)] for name, shard in zip(self.names, shards, strict=True)]
        facts = {"shards": listed, "labels": shards[0].labels, "words": names}
        save_rows(self.path, facts, [shard.rows for shard in shards])

    def _shards(self) -> Iterator[Shard]:
        """Each shard: as the old index has it, or read."""
        old = self._known()
        missing = [name for name in self.names if name not in old]
        megabytes = sum(self._facts[name][0] for name in missing if self._facts[name]) >> 20
        progress, done = Progress("Indexed", megabytes, "MB of shards"), 0
        waiting: deque[tuple[str, Future[Shard]]] = deque()
        with careful(), ThreadPoolExecutor(cores()) as pool:
            for name in missing:
                waiting.append((name, pool.submit(self._read, name)))
            try:
                for name in self.names:
                    if name in old:
                        yield old[name]
                        continue
                    yield waiting.popleft()[1].result()
                    done += self._facts[name][0]
                    progress.show(done >> 20)
            finally:
                progress.end()
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, name: str) -> Shard:
        path = self.root / name
        try:
            return read_shard(path, 0, self._image, self._label, Path(name).stem)
        except TarError as error:
            text = click.format_filename(str(path))
            raise ganzoo.GanzooError(f"{text} {error}. Mend it, or take it out of the folder.") from None
        except OSError as error:
            raise ganzoo.GanzooError(
                f"{path} cannot be read ({error.strerror or error}): put it back, or change its permissions."
            ) from None

    def _known(self) -> dict[str, Shard]:
        """The shards of the old index that have not changed."""
        found = load_rows(self.path)
        known: dict[str, Shard] = {}
        with suppress(KeyError, TypeError, ValueError):
            facts, rows = found or ({"shards": []}, np.empty(0))
            first = 0
            for name, dates, count in facts["shards"]:
                if self._facts.get(name) == dates:
                    words = tuple(facts["words"]) if facts["labels"] == "word" else ()
                    known[name] = Shard(np.array(rows[first : first + count]), facts["labels"], words)
                first += count
        return known
