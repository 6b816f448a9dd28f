"""Measures how fast images reach a training from each form on disk, and the memory of an epoch larger than a limit.

    python benchmarks/large_datasets.py [--quick] [--count 100000] [--size 64]       make bench-datasets

The same images are in memory, in a NumPy file (npy), tar files (shards), parquet files (huggingface) and a folder of
PNGs (image-folder). Each is read by the feed of a training, in its shuffled order, without a training: so many images a
second are there at most. The rows are interleaved: each round reads some batches of every form.

Then an epoch is read in a process with a limit on its memory (RLIMIT_DATA), of a set whose images take four times that
limit. The limit is what the process has after its imports, plus 192 MiB. Its own memory (RssAnon) is noted over the
epoch. Prints tables and writes benchmarks/results/large-datasets.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import RESULTS, interleaved, machine, show, spread, write
from PIL import Image

import ganzoo
from ganzoo.engine import memory
from ganzoo.engine.feed import Feed

CPU = torch.device("cpu")
BATCH = 64
#: bytes that a process with a limit may use beside what it has after its imports
ROOM = 192 << 20
#: the set is so many times larger than the limit
TIMES = 4
#: sides of the pictures of that set: grey, a byte a pixel when decoded, a bit a pixel in the file, so it is quick
SIDE = 1024
FORMS = ("npy", "shards", "huggingface", "image-folder")


# --- the images, in every form ---


def photographs(count: int, size: int, start: int = 0) -> np.ndarray:
    """Images (count, size, size, 3) uint8 that a PNG makes as small as it does photographs: smooth, with some noise."""
    random = np.random.default_rng(start)
    place = np.linspace(0, 2 * np.pi, size, dtype=np.float32)
    waves = random.uniform(0.5, 3, (4, count, 1, 1, 3)).astype(np.float32)
    rows = np.sin(place[None, :, None, None] * waves[0] + waves[1] * 6)
    columns = np.cos(place[None, None, :, None] * waves[2] + waves[3] * 6)
    noise = random.integers(-6, 7, (count, size, size, 3), dtype=np.int8)
    return (128 + 100 * rows * columns + noise).clip(0, 255).astype(np.uint8)


def make_npy(folder: Path, count: int, size: int) -> None:
    """A NumPy file of photographs, written a part at a time."""
    (folder / "npy").mkdir()
    with (folder / "npy" / "train.npy").open("wb") as file:
        shape = (count, size, size, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, count, 500):
            file.write(photographs(min(500, count - start), size, start).tobytes())


def members(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the pictures in the shards of a folder."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()
                archive.members = []  # type: ignore[attr-defined]


def make_folder(folder: Path) -> None:
    """The pictures of the shards as files of one folder."""
    target = folder / "image-folder"
    target.mkdir()
    for name, content in members(folder / "shards"):
        (target / name).write_bytes(content)


def make_parquet(folder: Path, pictures: Iterator[tuple[str, bytes]], rows: int = 10_000) -> None:
    """Pictures as parquet files in the form of the Hugging Face Hub."""
    import pyarrow as arrow
    import pyarrow.parquet

    target = folder / "huggingface"
    target.mkdir()
    schema = arrow.schema([("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})})
    batch: list[dict[str, Any]] = []
    number = 0
    for name, content in pictures:
        batch.append({"bytes": content, "path": name})
        if len(batch) == rows:
            _parquet(target / f"part-{number:05}.parquet", batch, schema, arrow)
            batch, number = [], number + 1
    if batch:
        _parquet(target / f"part-{number:05}.parquet", batch, schema, arrow)


def _parquet(path: Path, batch: list[dict[str, Any]], schema: Any, arrow: Any) -> None:
    arrow.parquet.write_table(arrow.table({"image": batch}, schema=schema), path, row_group_size=1000)


def dataset_of(form: str, folder: Path) -> ganzoo.Choice:
    """The dataset that reads a form, all of it as training images."""
    more: dict[str, Any] = {"test_every": 0} if form == "npy" else {"test_share": 0}
    more |= {"size": 0} if form == "image-folder" else {}
    return ganzoo.Choice(form, {"path": str(folder / form), **more})


def size_of(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- images a second ---


def feed_of(dataset: ganzoo.Dataset, batch_size: int, streamed: bool) -> Feed:
    """The feed of a training on a dataset, with its images in memory or read when they are needed."""
    before, memory.MEMORY_SHARE = memory.MEMORY_SHARE, 0.0 if streamed else 1.0
    try:
        return Feed(dataset, ganzoo.Recipe(batch_size=batch_size), 1, (-1.0, 1.0), CPU)
    finally:
        memory.MEMORY_SHARE = before


def reader(feed: Feed, steps: int) -> Callable[[], None]:
    """A function that reads the next `steps` batches, and waits for those that are read ahead."""
    position = 0

    def read() -> None:
        nonlocal position
        for step in range(position, position + steps):
            feed.fill(step)
        position += steps
        for ahead in getattr(feed._source, "_ahead", {}).values():
            ahead.result()

    return read


def measure_speed(folder: Path, count: int, size: int, rounds: int, steps: int) -> dict[str, Any]:
    """Images a second of every form, the bytes on disk, and the seconds of the first use."""
    from ganzoo.registry.zoo import zoo

    make_npy(folder, count, size)
    ganzoo.convert(dataset_of("npy", folder), "shards", folder / "shards")
    make_folder(folder)
    make_parquet(folder, members(folder / "shards"))
    rows: dict[str, Any] = {}
    feeds = {}
    for form in FORMS:
        since = time.perf_counter()
        dataset = zoo().build("datasets", dataset_of(form, folder), split="train")
        rows[form] = {"first_use_seconds": time.perf_counter() - since, "bytes": size_of(folder / form)}
        since = time.perf_counter()
        dataset = zoo().build("datasets", dataset_of(form, folder), split="train")
        rows[form]["later_use_seconds"] = time.perf_counter() - since
        assert len(dataset) == count
        feeds[form] = feed_of(dataset, BATCH, streamed=True)
    feeds["memory"] = feed_of(zoo().build("datasets", dataset_of("npy", folder), split="train"), BATCH, streamed=False)
    rows["memory"] = {"bytes": count * size * size * 3}
    # all forms feed the same images
    first = {form: feed.read(torch.arange(0, count, max(1, count // 50))) for form, feed in feeds.items()}
    assert first["shards"][0].equal(first["npy"][0])
    assert first["shards"][0].equal(first["memory"][0])
    seconds = interleaved({form: reader(feed, steps) for form, feed in feeds.items()}, rounds, CPU)
    for form, feed in feeds.items():
        feed.close()
        rows[form]["images_per_second"] = spread([steps * BATCH / each for each in seconds[form]])
    memory_speed = rows["memory"]["images_per_second"]["median"]
    for row in rows.values():
        row["share_of_memory"] = row["images_per_second"]["median"] / memory_speed
    return {form: rows[form] for form in ("memory", *FORMS)}


# --- memory of an epoch ---


def status(key: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def bits(count: int, side: int) -> Iterator[tuple[str, bytes]]:
    """Grey pictures that are quick to decode, of sixteen kinds."""
    kinds = []
    for number in range(16):
        buffer = io.BytesIO()
        pixels = np.zeros((side, side), bool)
        pixels[number] = True
        Image.fromarray(pixels).save(buffer, "png")
        kinds.append(buffer.getvalue())
    for number in range(count):
        yield f"{number:06}.png", kinds[number % len(kinds)]


def serve_epoch(form: str, folder: str, room: int) -> None:
    """Be the process with a limit: read an epoch, and print what it took. Without a folder, print the limit alone."""
    from ganzoo.registry.zoo import zoo

    torch.set_num_threads(1)
    zoo().load("datasets", ganzoo.Choice(form))
    if form == "huggingface":
        import datasets  # noqa: F401
        import pyarrow.parquet  # noqa: F401
    limit = status("VmData") + room
    if not folder:
        return print(json.dumps({"limit": limit}))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    dataset = zoo().build("datasets", dataset_of(form, Path(folder)), split="train")
    size = len(dataset) * dataset.spec.pixels
    if memory.fits_in_memory(dataset, range(len(dataset)), CPU):
        raise SystemExit("The images are taken to fit into memory.")
    # as floats, a batch takes a twelfth of the room
    batch_size = max(1, room // 12 // (4 * dataset.spec.pixels))
    recipe = ganzoo.Recipe(batch_size=batch_size, batch_order="epochs-drop-last")
    feed = Feed(dataset, recipe, 1, (-1.0, 1.0), CPU)
    own, steps = [], feed.epoch_images // batch_size
    for step in range(steps):
        feed.fill(step)
        if (step + 1) % max(1, steps // 8) == 0:
            own.append(status("RssAnon"))
    feed.close()
    print(json.dumps({"limit": limit, "set": size, "images": len(dataset), "own_over_epoch": own}))


def _child(form: str, folder: str, room: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--epoch", form, "--folder", folder, "--room", str(room)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def measure_memory(folder: Path, form: str, room: int = ROOM, quick: bool = False) -> dict[str, Any]:
    """Limit, bytes of the set, and the process's own memory at eighths of an epoch.

    quick: a set four times larger than the room in place of the limit.
    """
    limit = room if quick else _child(form, "", room)["limit"]
    side, count = SIDE, TIMES * limit // SIDE**2 + 4
    if form == "huggingface":
        make_parquet(folder, bits(count, side), 100)
    else:
        (folder / form).mkdir()
        with tarfile.open(folder / form / "0.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in bits(count, side):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return _child(form, str(folder), room)


def main(arguments: Sequence[str] | None = None) -> Path | None:
    """Measure, print the tables and write the results; with --epoch, be the process with a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tiny version, for tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--only", choices=("speed", "memory"), help="measure this part, and keep the other's results")
    parser.add_argument("--scratch", type=Path, help="folder for about 7 GB of files, removed afterwards")
    parser.add_argument("--epoch", choices=FORMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--room", type=int, default=ROOM, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.epoch:
        serve_epoch(given.epoch, given.folder, given.room)
        return None
    count, size, rounds, steps = (200, 16, 2, 2) if given.quick else (given.count, given.size, given.rounds, 100)
    known = given.results / "large-datasets.json"
    facts: dict[str, Any] = json.loads(known.read_text()) if given.only and known.exists() else {}
    path = None
    with tempfile.TemporaryDirectory(dir=given.scratch) as name:
        os.environ["GANZOO_CACHE"] = f"{name}/cache"
        if given.only in ("speed", None):
            (Path(name) / "speed").mkdir()
            facts |= {"machine": machine(CPU), "count": count, "size": size, "batch_size": BATCH}
            facts["speed"] = measure_speed(Path(name) / "speed", count, size, rounds, steps)
            path = write("large-datasets", facts, given.results)
        if given.only in ("memory", None) and not given.quick:
            facts["memory"] = {}
            for form in ("shards", "huggingface"):
                (Path(name) / form).mkdir()
                facts["memory"][form] = measure_memory(Path(name) / form, form)
            path = write("large-datasets", facts, given.results)
    _show(facts)
    return path


def _show(facts: dict[str, Any]) -> None:
    rows = []
    for form, row in facts.get("speed", {}).items():
        speed = row["images_per_second"]
        uses = [f"{row[key]:.1f}" if key in row else "" for key in ("first_use_seconds", "later_use_seconds")]
        numbers = [f"{speed[key]:,.0f}" for key in ("median", "low", "high")]
        rows.append([form, *numbers, f"{row['share_of_memory']:.1%}", f"{row['bytes'] / 2**20:,.0f}", *uses])
    columns = ["form", "images/s", "min", "max", "of memory", "MiB", "first use, s", "later, s"]
    if rows:
        show(f"{facts['count']:,} images of {facts['size']}x{facts['size']}", columns, rows)
    for form, row in facts.get("memory", {}).items():
        own = ", ".join(f"{each / 2**20:,.0f}" for each in row["own_over_epoch"])
        sizes = f"{row['set'] / 2**20:,.0f} MiB of images, limit {row['limit'] / 2**20:,.0f} MiB"
        print(f"{form}: {sizes}, own memory over the epoch {own} MiB")


if __name__ == "__main__":
    main()
