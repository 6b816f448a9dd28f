"""A checkpoint is whole or absent: damage is refused and named, a crash at any moment leaves the previous one."""

from __future__ import annotations

import builtins
import contextlib
import errno
import json
import os
import random
import shutil
import stat
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganzoo import GanzooError
from ganzoo.storage import checkpoints, files
from ganzoo.storage.checkpoints import BadCheckpoint, load, load_latest, save
from ganzoo.storage.files import write_atomically
from ganzoo.storage.tensors import tensors_to_bytes


def state(step: int) -> dict[str, Tensor]:
    return {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(step), "empty": torch.zeros(0, 4)}


def save_step(folder: Path, step: int, **more: Any) -> Path:
    return save(folder, f"{step:09d}", state(step), {"step": step, "seconds": step / 3}, **more)


def is_step(found: tuple[dict[str, Tensor], dict[str, Any]], step: int) -> bool:
    tensors, meta = found
    expected = state(step)
    return (
        meta == {"format": 1, "step": step, "seconds": step / 3}
        and tensors.keys() == expected.keys()
        and all(torch.equal(tensors[name], expected[name]) for name in tensors)
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good checkpoints, of steps 1 and 2."""
    for step in (1, 2):
        save_step(tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


# --- what is saved is what is loaded ---


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_come_back_as_they_were(tmp_path, dtype):
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).remainder(2).to(dtype)
    tensors = {
        "plain": images,
        "scalar": images[0, 0, 0, 0],
        "empty": images[:0],
        "channels last": images.to(memory_format=torch.channels_last),
        "strided": images[:, ::2, :, 1::2],
        "parameter": nn.Parameter(images, requires_grad=dtype.is_floating_point),
        "nö näme/with.dots": images,
    }
    save(tmp_path, "1", tensors, {})
    found, _ = load(tmp_path / "1")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(found[name], value.detach()), name
        assert found[name].dtype == dtype


def test_names_for_one_memory_are_saved_each(tmp_path):
    """Tied layers, and views of one tensor."""
    base = torch.arange(6.0)
    save(tmp_path, "1", {"all": base, "again": base, "part": base[2:4]}, {})
    found, _ = load(tmp_path / "1")
    assert torch.equal(found["again"], base)
    assert torch.equal(found["part"], base[2:4])


def test_equal_states_give_equal_bytes():
    assert tensors_to_bytes(state(1)) == tensors_to_bytes(state(1))
    assert tensors_to_bytes(state(1), {"images": "5"}) != tensors_to_bytes(state(1))


def test_the_newest_good_one_is_found(folder):
    found = load_latest(folder)
    assert found is not None
    assert is_step(found[:2], 2)
    assert found[2] == []


def test_where_there_is_none_there_is_none(tmp_path):
    assert load_latest(tmp_path / "nowhere") is None
    (tmp_path / ".tmp-000000001-x").mkdir()
    (tmp_path / "notes.txt").touch()
    assert load_latest(tmp_path) is None


def test_only_the_last_ones_are_kept(tmp_path):
    for step in range(1, 6):
        save_step(tmp_path, step)
    assert names(tmp_path) == ["000000004", "000000005"]
    save_step(tmp_path, 6, keep=3)
    assert names(tmp_path) == ["000000004", "000000005", "000000006"]


def test_after_a_billion_images_the_newest_is_still_the_newest(tmp_path):
    for step in (999_999_998, 999_999_999, 1_000_000_000):
        save_step(tmp_path, step)
    assert names(tmp_path) == ["1000000000", "999999999"]
    found = load_latest(tmp_path)
    assert found is not None
    assert is_step(found[:2], 1_000_000_000)


def test_the_same_moment_may_be_saved_again(folder):
    before = (folder / "000000002" / "MANIFEST.json").read_bytes()
    save_step(folder, 2)
    assert (folder / "000000002" / "MANIFEST.json").read_bytes() == before
    assert names(folder) == ["000000001", "000000002"]


# --- what is refused at the door ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_not_finite_is_no_checkpoint(folder, value, dtype):
    bad = {"fine": torch.ones(2), "generator/last.bias": torch.tensor([0.0, value], dtype=dtype)}
    with pytest.raises(GanzooError, match=r"diverged: generator/last\.bias holds NaN or infinity"):
        save(folder, "000000003", bad, {})
    assert names(folder) == ["000000001", "000000002"]


def test_what_is_large_is_finite(folder):
    """The sum of it is not."""
    save(folder, "000000003", {"weight": torch.full((9,), 3e38)}, {})
    assert names(folder) == ["000000002", "000000003"]
    cancelling = {"weight": torch.tensor([float("inf"), 1.0, -float("inf")])}
    with pytest.raises(GanzooError, match="diverged: weight holds NaN or infinity"):
        save(folder, "000000004", cancelling, {})


def test_a_full_disk_is_noticed_before_anything_is_written(folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 900, 100))
    with pytest.raises(GanzooError, match="No room for a checkpoint"):
        save_step(folder, 3)
    assert names(folder) == ["000000001", "000000002"]


# --- damage ---


def flip(path: Path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.parametrize("file", ["MANIFEST.json", "meta.json", "state.safetensors"])
def test_every_flipped_bit_is_noticed(folder, file):
    path = folder / "000000002"
    bits = range(8 * (path / file).stat().st_size)
    if file != "MANIFEST.json":
        bits = random.Random(0).sample(bits, 400)
    missed = []
    for bit in bits:
        flip(path / file, bit)
        with contextlib.suppress(BadCheckpoint):
            load(path)
            missed.append(bit)
        flip(path / file, bit)
    assert missed == []
    assert is_step(load(path), 2)


@pytest.mark.parametrize("file", ["MANIFEST.json", "meta.json", "state.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_every_truncation_is_noticed(folder, file, keep):
    path = folder / "000000002" / file
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(BadCheckpoint):
        load(folder / "000000002")


def _forge(path: Path, **changes: Any) -> None:
    """A manifest that is true to itself and says something else."""
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest.pop("self")
    (path / "MANIFEST.json").write_bytes(checkpoints._sealed({**manifest, **changes}))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "manifest missing": (lambda path: (path / "MANIFEST.json").unlink(), "MANIFEST"),
    "state missing": (lambda path: (path / "state.safetensors").unlink(), "state"),
    "meta missing": (lambda path: (path / "meta.json").unlink(), "meta"),
    "extra file": (lambda path: (path / "optimizer.pkl").touch(), "optimizer.pkl"),
    "trailing bytes": (
        lambda path: (path / "meta.json").write_bytes((path / "meta.json").read_bytes() + b"\n"),
        "has .* bytes, expected",
    ),
    "zeroed": (
        lambda path: (path / "state.safetensors").write_bytes(bytes(os.path.getsize(path / "state.safetensors"))),
        "sha256",
    ),
    "renamed": (lambda path: path.rename(path.with_name("000000003")), "belongs to another"),
    "another format": (lambda path: _forge(path, format=2), "has format 2; this version of ganzoo reads 1"),
    "another name": (lambda path: _forge(path, name="000000001"), "belongs to another"),
    "another list of files": (lambda path: _forge(path, files={}), "belongs to another"),
    "no object": (lambda path: (path / "MANIFEST.json").write_text("[1]"), "not a whole checkpoint"),
    "no text": (lambda path: (path / "MANIFEST.json").write_bytes(b"\xff\xfe"), "not a whole checkpoint"),
    "no directory": (lambda path: (shutil.rmtree(path), path.touch()), "not a whole checkpoint"),
    "an empty directory": (lambda path: (shutil.rmtree(path), path.mkdir()), "not a whole checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_with_a_note(folder, damage):
    spoil, words = DAMAGES[damage]
    spoil(folder / "000000002")
    found = load_latest(folder)
    assert found is not None
    assert is_step(found[:2], 1)
    (note,) = found[2]
    assert note.startswith("passed over a damaged checkpoint: ")
    assert "00000000" in note
    with pytest.raises(BadCheckpoint, match=words):
        load(folder / names(folder)[-1])


def test_if_all_are_damaged_that_is_an_error_and_no_fresh_start(folder):
    for name in names(folder):
        flip(folder / name / "state.safetensors", 77)
    with pytest.raises(GanzooError, match=r"^No usable checkpoint in .*: damaged checkpoint: .*000000002"):
        load_latest(folder)


def test_a_damaged_one_is_replaced_when_its_moment_comes_again(folder):
    flip(folder / "000000002" / "state.safetensors", 77)
    save_step(folder, 2)
    found = load_latest(folder)
    assert found is not None
    assert is_step(found[:2], 2)
    assert found[2] == []
    assert is_step(load(folder / "000000001"), 1)


def test_a_damaged_newer_one_does_not_cost_a_good_one(tmp_path):
    """Resumed from step 2 because step 9 is damaged: step 3 must not be all that is left."""
    for step in (2, 9):
        save_step(tmp_path, step)
    flip(tmp_path / "000000009" / "state.safetensors", 77)
    save_step(tmp_path, 3)
    assert is_step(load(tmp_path / "000000002"), 2)
    assert is_step(load(tmp_path / "000000003"), 3)


# --- crashes ---


class Crash(BaseException):
    """The power went."""


class Disk:
    """Counts what is done to files. Operation `last` fails with `error`; after a Crash all the others do, too."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int, error: BaseException) -> None:
        self.left, self.error, self.dead = last, error, False
        for module, name in [*((os, n) for n in ("rename", "replace", "fsync", "mkdir", "rmdir", "unlink", "open"))]:
            patch.setattr(module, name, self._watched(getattr(module, name)))
        patch.setattr(files, "open", self._open, raising=False)

    def _spend(self) -> None:
        if self.dead:
            raise self.error
        self.left -= 1
        if self.left == 0:
            self.dead = isinstance(self.error, Crash)
            raise self.error

    def _watched(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._spend()
            return operation(*args, **kwargs)

        return watched

    def _open(self, *args: Any, **kwargs: Any) -> Any:
        self._spend()
        file = builtins.open(*args, **kwargs)  # noqa: SIM115  (closed by Torn)
        write = file.write

        class Torn:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def write(_, data: bytes) -> int:
                write(data[: len(data) // 2])
                self._spend()
                return len(data) // 2 + write(data[len(data) // 2 :])

        return Torn()


def crash_points(tmp_path: Path, error: Callable[[], BaseException], action: Callable[[Path], Any]) -> list[Path]:
    """Run `action` on a copy of the folder for each operation that can fail, until one run comes through."""
    ends = []
    for last in range(1, 200):
        copied = tmp_path / f"copy{last}" / "checkpoints"
        shutil.copytree(tmp_path / "checkpoints", copied)
        ends.append(copied)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, last, error())
            with contextlib.suppress(Crash, OSError):
                action(copied)
        if disk.left > 0:
            return ends
    raise AssertionError("it never came through")


@pytest.mark.parametrize("before", [(1,), (1, 2)])
def test_a_crash_at_any_operation_of_a_save_leaves_a_whole_state(tmp_path, before):
    for step in before:
        save_step(tmp_path / "checkpoints", step)
    ends = crash_points(tmp_path, Crash, lambda folder: save_step(folder, 3))
    assert len(ends) > 12
    reached = []
    for folder in ends:
        found = load_latest(folder)
        assert found is not None
        tensors, meta, notes = found
        assert notes == []
        assert is_step((tensors, meta), meta["step"])
        reached.append(meta["step"])
        good = [name for name in names(folder) if name.isdigit()]
        assert all(is_step(load(folder / name), int(name)) for name in good)
        assert len(good) >= min(2, len(before))
        assert not any(path.name.isdigit() for path in folder.rglob("*") if path.parent != folder)
        save_step(folder, 4)  # and the next one sweeps up
        assert all(name.isdigit() for name in names(folder))
    assert set(reached) == {before[-1], 3}
    assert reached == sorted(reached)


def test_a_crash_over_a_damaged_one_leaves_the_good_one(tmp_path):
    for step in (1, 2):
        save_step(tmp_path / "checkpoints", step)
    flip(tmp_path / "checkpoints" / "000000002" / "meta.json", 3)
    for folder in crash_points(tmp_path, Crash, lambda folder: save_step(folder, 2)):
        found = load_latest(folder)
        assert found is not None
        assert is_step(found[:2], found[1]["step"])


def test_an_error_that_can_be_reported_leaves_nothing_behind(tmp_path):
    for step in (1, 2):
        save_step(tmp_path / "checkpoints", step)
    full = lambda: OSError(errno.ENOSPC, "No space left on device")  # noqa: E731
    ends = crash_points(tmp_path, full, lambda folder: save_step(folder, 3))
    assert len(ends) > 12
    for folder in ends:
        found = load_latest(folder)
        assert found is not None
        assert found[2] == []
        assert all(is_step(load(folder / name), int(name)) for name in names(folder) if name.isdigit())
        assert not list(folder.glob(".tmp-*"))


def test_a_crash_at_any_operation_of_an_atomic_write_leaves_old_or_new(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "recipe.json").write_bytes(b"old old old")
    ends = crash_points(tmp_path, Crash, lambda folder: write_atomically(folder / "recipe.json", b"new new"))
    contents = [(folder / "recipe.json").read_bytes() for folder in ends]
    assert contents == sorted(contents, reverse=True)
    assert set(contents) == {b"old old old", b"new new"}
    assert all(
        path.name.startswith(".recipe.json.")
        for folder in ends
        for path in folder.iterdir()
        if path.name != "recipe.json"
    )


def test_an_atomic_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "a").write_bytes(b"old")
    for folder in crash_points(tmp_path, lambda: OSError(errno.EIO, "?"), lambda f: write_atomically(f / "a", b"new")):
        assert names(folder) == ["a"]
        assert (folder / "a").read_bytes() in (b"old", b"new")


def test_everything_reaches_the_disk_before_it_is_given_its_name(folder, monkeypatch):
    """What was not synced may be gone after a power cut, in any order."""
    log: list[tuple[str, str]] = []
    sync, rename, replace = os.fsync, os.rename, os.replace

    def place(path: Any) -> str:
        return Path(path).relative_to(folder.parent).as_posix().split("-")[0]

    def fsync(descriptor: int) -> None:
        log.append(("sync", place(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", lambda a, b: (log.append(("rename", place(b))), rename(a, b)))
    monkeypatch.setattr(os, "replace", lambda a, b: (log.append(("replace", place(b))), replace(a, b)))
    save_step(folder, 3)
    final = log.index(("rename", "checkpoints/000000003"))
    assert log[:final] == [("sync", "checkpoints/.tmp")] * 4  # three files and their directory
    assert log[final + 1] == ("sync", "checkpoints")
    assert log[final + 2] == ("rename", "checkpoints/.del")
    log.clear()
    write_atomically(folder / "recipe.json", b"{}")
    assert [operation for operation, _ in log] == ["sync", "replace", "sync"]
    assert log[2] == ("sync", "checkpoints")


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_modes_follow_the_umask(tmp_path, mask, file_mode, folder_mode):
    before = os.umask(mask)
    try:
        path = save_step(tmp_path / "checkpoints", 1)
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    modes = {file: stat.S_IMODE(file.stat().st_mode) for file in [*path.iterdir(), tmp_path / "file"]}
    assert set(modes.values()) == {file_mode}
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.parent.stat().st_mode) == folder_mode
