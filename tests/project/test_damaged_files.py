"""Thousands of damaged files: none is taken for a good one, and every refusal is one that a person can read.

Single faults of a checkpoint, each with its words, are in test_checkpoints.py; here it is numbers that count.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from ganzoo import Choice, GanzooError
from ganzoo.contract.recipe import Recipe
from ganzoo.engine.step import train_step
from ganzoo.experiments.verify import read_table
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.cache import Cache
from ganzoo.storage.checkpoints import BadCheckpoint
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_from_bytes, tensors_to_bytes
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo_plugins.datasets._idx import read_idx
from ganzoo_plugins.datasets._pictures import careful, decode
from ganzoo_plugins.datasets.torchvision_sets import read_batches
from ganzoo_plugins.extractors._classifier import load_weights, save_weights

CPU = torch.device("cpu")
STATISTICS = Cache("statistics")
PAGE = 4096
#: how many files the mutator spoils in an ordinary run; the slow test takes 10,000
MUTANTS = int(os.environ.get("GANZOO_MUTANTS", "2000"))


@pytest.fixture(scope="module")
def table() -> TrainingSetup:
    """A game of which a step has been played."""
    zoo = Zoo()
    recipe = plan(zoo, Choice(f"{tiny.__file__}:Tiny", {"width": 24}), Choice("digits", {"size": 8}))
    made = build_setup(recipe, zoo, CPU)
    train_step(made.game, made.feed.fill(0))
    return made


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of files are written here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


@pytest.fixture
def folder(table: TrainingSetup, quick: Path) -> Path:
    """Two good checkpoints, small as they can be and yet of several pages."""
    for images in (16, 32):
        checkpoints.save(quick / "checkpoints", f"{images:09d}", table.game.state(), {"step": images // 16})
    return quick / "checkpoints"


# --- a damaged checkpoint ---


def flips(data: bytes, bits: Iterator[int]) -> Iterator[bytes]:
    for bit in bits:
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        yield bytes(spoilt)


def damages(name: str, data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Every bit of the manifest, 2,000 of any other file; ends cut off and added, pages lost, moved, repeated."""
    bits = range(8 * len(data))
    yield from flips(data, iter(bits if name == "MANIFEST.json" else chance.sample(bits, min(2000, len(bits)))))
    for _ in range(60):
        yield data[: chance.randrange(len(data))]
        yield data + chance.randbytes(chance.randrange(1, 100))
        at, size = chance.randrange(len(data)), chance.randrange(1, 64)
        yield data[:at] + data[at + size :]
        yield data[:at] + chance.randbytes(size) + data[at:]
    for start in range(0, len(data), PAGE):
        page = data[start : start + PAGE]
        yield data[:start] + bytes(len(page)) + data[start + PAGE :]
        yield data[:start] + b"\xff" * len(page) + data[start + PAGE :]
        yield data[:start] + page + page + data[start + PAGE :]
        yield data[start + PAGE :] + page
    yield b""
    yield bytes(len(data))


def test_thousands_of_damaged_checkpoints_and_not_one_is_taken(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, chance, tried, silent = folder / "000000032", random.Random(0), 0, []
    for name in ("MANIFEST.json", "meta.json", "state.safetensors"):
        good = (newest / name).read_bytes()
        for spoilt in damages(name, good, chance):
            if spoilt == good:
                continue
            (newest / name).write_bytes(spoilt)
            tried += 1
            with contextlib.suppress(BadCheckpoint):  # and any other error fails the test
                checkpoints.load(newest)
                silent.append((name, tried))
        found = checkpoints.load_latest(folder)
        assert found is not None
        assert found.meta["step"] == 1, "the one before it is loaded"
        assert len(found.notes) == 1
        (newest / name).write_bytes(good)
    checkpoints.load(newest)
    assert not silent
    assert tried >= 4500


def test_what_is_no_file_is_no_checkpoint(folder: Path) -> None:
    newest = folder / "000000032"
    for name in ("MANIFEST.json", "meta.json", "state.safetensors"):
        good = (newest / name).read_bytes()
        for spoil in (
            lambda path: path.mkdir(),
            lambda path: path.symlink_to("nowhere"),
            lambda path: path.symlink_to(path.name),
            lambda path: path.symlink_to(path.parent),
        ):
            (newest / name).unlink()
            spoil(newest / name)
            with pytest.raises(BadCheckpoint):
                checkpoints.load(newest)
            shutil.rmtree(newest / name) if (newest / name).is_dir() and not (newest / name).is_symlink() else (
                newest / name
            ).unlink()
            (newest / name).write_bytes(good)
    checkpoints.load(newest)


# --- a whole checkpoint of something else ---


def misfits(state: dict[str, torch.Tensor], chance: random.Random) -> Iterator[dict[str, torch.Tensor]]:
    """States of other architectures: a key too few or too many, another shape, another dtype."""
    for name, value in state.items():
        yield {key: item for key, item in state.items() if key != name}
        yield {**state, f"{name}_": value}
        yield {**state, name: torch.stack([value, value])}
        yield {**state, name: value.to(torch.float64 if value.dtype != torch.float64 else torch.float32)}
        if value.numel() > 1:
            yield {**state, name: value.flatten()[1:]}
        other = chance.choice([key for key in state if key != name])
        yield {(other if key == name else key): item for key, item in state.items() if key != other}
    yield {}


def test_a_state_that_does_not_fit_moves_nothing(table: TrainingSetup) -> None:
    before = {name: value.clone() for name, value in table.game.state().items()}
    count = 0
    for state in misfits({name: value + 1 for name, value in before.items()}, random.Random(0)):
        with pytest.raises(GanzooError, match=r"does not fit this recipe in \d+ places: ") as caught:
            table.game.restore(state)
        assert "\n" not in str(caught.value)
        count += 1
    assert count > 100
    assert all(torch.equal(value, before[name]) for name, value in table.game.state().items())


# --- headers that promise too much ---

_MEASURE = """
import resource, sys, time, tracemalloc
from pathlib import Path
import torch
from ganzoo.storage import tensors
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
tensors.tensors_from_bytes(tensors.tensors_to_bytes({"a": torch.ones(1)}))
for name in sys.argv[1:]:
    data, before, start = Path(name).read_bytes(), peak(), time.process_time()
    try:
        tensors.tensors_from_bytes(data)
        how = "taken"
    except ValueError as error:
        how = "refused"
    print(how, time.process_time() - start, peak() - before)
"""


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def bombs() -> dict[str, bytes]:
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    huge = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    return {
        "a header of 100 MB and a byte": header(b"{" * 1000, 100_000_001),
        "a header of 2^62 bytes": header(b"{" * 1000, 2**62),
        "a header of 2^64 - 1 bytes": header(b"{" * 1000, 2**64 - 1),
        "lists a hundred thousand deep": header(b"[" * 100_000 + b"]" * 100_000),
        "dicts a hundred thousand deep": header(b'{"a":' * 100_000 + b"0" + b"}" * 100_000),
        "metadata as deep": header(b'{"__metadata__":' * 100_000 + b"0" + b"}" * 100_000),
        "four terabytes of one tensor": header(json.dumps({"w": huge}).encode()) + bytes(4),
        "a shape that overflows": header(json.dumps({"w": {**one, "shape": [2**62, 2**62]}}).encode()) + bytes(4),
        "a hole": header(json.dumps({"w": {**one, "data_offsets": [4, 8]}}).encode()) + bytes(8),
        "two in one place": header(json.dumps({"v": one, "w": one}).encode()) + bytes(4),
        "one name twice": header(b'{"w":%s,"w":%s}' % ((json.dumps(one).encode(),) * 2)) + bytes(4),
    }


def test_headers_that_promise_too_much_cost_next_to_nothing(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(len(bombs()))]
    for file, data in zip(files, bombs().values(), strict=True):
        file.write_bytes(data)
    command = [sys.executable, "-c", _MEASURE, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for (name, data), line in zip(bombs().items(), done.stdout.splitlines(), strict=True):
        how, seconds, peak = line.split()
        assert how == "refused", name
        assert float(seconds) < 1, (name, seconds)
        assert int(peak) < 2 * len(data) + (8 << 20), (name, peak)


# --- a mutator over all that is read ---


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four small changes, as bytes."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(spoilt) + 1), chance.choice((1, 2, 4, 8, 64))
        piece = bytes(spoilt[at : at + size])
        spoilt[at : at + size] = chance.choice(
            (
                bytes(byte ^ 1 << chance.randrange(8) for byte in piece),
                chance.randbytes(len(piece)),
                b"",
                piece * 3,
                piece + chance.randbytes(size),
                b"\0" * size,
                b"\xff" * size,
                b"9" * size,
                chance.choice((b"null", b"-1", b"1e999", b"NaN", b'""', b"{}", b"[", b"\\ud800", b'"', b"../")),
            )
        )
    return bytes(spoilt)


ODD = (None, True, -1, 0, 2**70, 1.5, "", "x", "../x", "\0", "\ud800", [], {}, [[]], {"a": 1}, float("nan"))


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """One value of a JSON text replaced, removed or added, and the rest as it was."""
    value = json.loads(data)
    node, path = value, 0
    while isinstance(node, dict | list) and node and path < 8:
        path += 1
        key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        if not isinstance(node[key], dict | list) or not node[key] or chance.random() < 0.3:
            if chance.random() < 0.2:
                del node[key]
            else:
                node[key] = chance.choice(ODD)
            break
        node = node[key]
    return json.dumps(value).encode()


def _cifar(path: Path) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.size = 2 * 3073
        archive.addfile(member, io.BytesIO(bytes([1]) * member.size))


def _picture(path: Path) -> None:
    with careful():
        image = decode(path, 3, 8, True)
    assert isinstance(image, str) or image.shape == (3, 8, 8)


def _statistics(path: Path) -> None:
    shutil.copy(path, STATISTICS.path_of({"a": 1}))
    found = STATISTICS.load_tensors({"a": 1}, CPU)
    assert found is None or torch.equal(found["mean"], torch.arange(5.0))


@contextlib.contextmanager
def as_ganzoo() -> Iterator[None]:
    """`tensors_from_bytes` has no file to name: its callers turn its ValueError into a sentence."""
    try:
        yield
    except ValueError as error:
        raise GanzooError(str(error)) from None


def _tensors(path: Path) -> None:
    with as_ganzoo():
        found, _ = tensors_from_bytes(path.read_bytes())
    assert torch.equal(found["w"], torch.arange(9.0)), "taken, and not as it was"


def _weights(path: Path) -> None:
    weights, _ = load_weights(path)
    assert torch.equal(weights["w"], torch.arange(9.0))


def _checkpoint(path: Path) -> None:
    """A manifest that is true to itself, whatever it says."""
    body = json.loads(path.read_bytes())
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        body.pop("self", None)
        path.write_bytes(checkpoints._sealed(body))
    checkpoints.load(path.parent)


def targets(tmp_path: Path, folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any], list[Callable[..., bytes]]]]:
    """What is read, from which file, and how it is spoilt."""
    made: dict[str, Path] = {name: tmp_path / name for name in ("a.gz", "c.tar.gz", "p.png", "p.jpg", "t.st", "w.st")}
    made["a.gz"].write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 5, 4, 3) + bytes(range(60)), 1, mtime=0))
    _cifar(made["c.tar.gz"])
    for name in ("p.png", "p.jpg"):
        Image.effect_noise((12, 9), 50).save(made[name])
    made["t.st"].write_bytes(tensors_to_bytes({"w": torch.arange(9.0)}, {"a": "b"}))
    save_weights(made["w.st"], {"w": torch.arange(9.0)}, {"height": "8", "width": "8"})
    STATISTICS.save_tensors({"a": 1}, {"mean": torch.arange(5.0)})
    made["s.st"] = tmp_path / "s.st"
    shutil.copy(STATISTICS.path_of({"a": 1}), made["s.st"])
    run = Run.create(tmp_path / "run", Recipe(architecture="dcgan-tutorial", dataset="digits"), {})
    run.close()
    row = {
        "architecture": "a",
        "dataset": "b",
        "evaluator": "c",
        "score": "d",
        "mean": 1.0,
        "std": 0,
        "interval": [0, 1],
    }
    made["table.json"] = tmp_path / "table.json"
    made["table.json"].write_text(json.dumps([{**row, "finished": [0], "card": {"digest": "0"}, "recipe": {}}]))
    made["r.toml"] = tmp_path / "r.toml"
    made["r.toml"].write_text(run.recipe.to_toml())
    manifest = folder / "000000032" / "MANIFEST.json"
    return {
        "idx": (made["a.gz"], lambda path: read_idx(path, (5, 4, 3)), [mutate]),
        "idx inside": (made["a.gz"], lambda path: read_idx(path, (5, 4, 3)), [mutate_gzip]),
        "cifar": (made["c.tar.gz"], lambda path: read_batches(path, ["test_batch.bin"], 2), [mutate, mutate_gzip]),
        "png": (made["p.png"], _picture, [mutate]),
        "jpeg": (made["p.jpg"], _picture, [mutate]),
        "tensors": (made["t.st"], _tensors, [mutate, mutate_header]),
        "domain weights": (made["w.st"], _weights, [mutate, mutate_header]),
        "statistics": (made["s.st"], _statistics, [mutate, mutate_header]),
        "recipe.json": (tmp_path / "run" / "recipe.json", lambda path: Run.open(path.parent), [mutate, mutate_json]),
        "recipe.toml": (made["r.toml"], lambda path: Recipe().merged(Recipe.read_toml(path)), [mutate]),
        "table.json": (made["table.json"], read_table, [mutate, mutate_json]),
        "manifest": (manifest, lambda path: checkpoints.load(path.parent), [mutate]),
        "sealed manifest": (manifest, _checkpoint, [mutate_json]),
    }


def mutate_gzip(data: bytes, chance: random.Random) -> bytes:
    """What is packed is spoilt, and packed again."""
    return gzip.compress(mutate(gzip.decompress(data), chance), 1)


def mutate_header(data: bytes, chance: random.Random) -> bytes:
    """The header of safetensors is spoilt as JSON, and its length is true."""
    length = int.from_bytes(data[:8], "little")
    return header(mutate_json(data[8 : 8 + length], chance)) + data[8 + length :]


def spoil_everything(count: int, tmp_path: Path, folder: Path, seed: int) -> dict[str, int]:
    """How many mutants of each file were refused. Any error but a GanzooError is a failure."""
    refused = {}
    chance = random.Random(seed)
    for name, (path, read, ways) in targets(tmp_path, folder).items():
        good = path.read_bytes()
        refused[name] = 0
        for number in range(-(-count // 13)):
            spoilt = ways[number % len(ways)](good, chance)
            path.write_bytes(spoilt)
            try:
                read(path)
                refusal = ""
            except GanzooError as error:
                refusal = str(error)
            except BaseException as error:
                words = f"{name}, mutant {number} of seed {seed}: {error!r} of {spoilt[:300]!r}"
                raise AssertionError(words) from error
            assert "\n" not in refusal, (name, number, refusal)
            refused[name] += bool(refusal)
        path.write_bytes(good)
        read(path)
    return refused


def test_mutants_of_every_file_are_refused_or_harmless(
    quick: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(quick / "cache"))
    refused = spoil_everything(MUTANTS, quick, folder, seed=0)
    assert all(refused[name] for name in refused.keys() - {"png", "jpeg", "statistics"}), refused


@pytest.mark.slow
def test_ten_thousand_mutants(quick: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(quick / "cache"))
    spoil_everything(10_000, quick, folder, seed=1)
