"""Names are only names: nothing is written outside the folder that was meant, whatever anything is called."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import ganzoo
from ganzoo import Choice, GanzooError, Recipe, TrainingProgress
from ganzoo.cli import cli
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints, foreign, pictures
from ganzoo.storage.cache import Cache
from ganzoo.storage.run import Run
from ganzoo.storage.run_directory import free_directory
from ganzoo.storage.tensors import tensors_from_bytes
from ganzoo_plugins.datasets import _listing
from ganzoo_plugins.datasets.image_folder import ImageFolder
from ganzoo_plugins.datasets.torchvision_sets import read_batches

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
#: with what has led programs astray before
CORPUS = (
    *(
        "..",
        ".",
        "../x",
        "../../x",
        "a/../../x",
        "/tmp/x",
        "//x",
        "~",
        "~/x",
        "~root/x",
        "~nobody-of-that-name/x",
        "..\\x",
        "C:\\x",
        "CON",
    ),
    *("-x", "--out", "-", " ", "x ", " x", "x\ny", "x\ty", "x\x7f", "'", '"', "$(touch x)", "`touch x`", "x;y", "x|y"),
    *("é", "e\u0301", "\u202egnp.x", "🎲", "日本", "\ufeff", "a" * 255, "a" * 256, "é" * 127, "é" * 128, "🎲" * 64),
    *(
        "*",
        "?",
        "[a]",
        "%s",
        "{0}",
        "{x.__class__}",
        "\\",
        "x/y",
        "x/",
        "__metadata__",
        "__proto__",
        "x:y=z",
        "x,y",
        "=x",
    ),
)
NAMES = st.one_of(st.sampled_from(CORPUS), TEXTS)
FILE_NAMES = NAMES.filter(lambda name: name not in ("", ".", "..") and "/" not in name and len(name.encode()) < 240)
ZOO = Zoo()
RECIPE = Recipe(architecture="a", dataset="b")
STATISTICS = Cache("statistics")

_written: list[str] | None = None
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _written is None:
        return
    if event == "open":
        path, _, flags = arguments
        if not isinstance(path, int) and flags & _WRITES:
            _written.append(os.fsdecode(path))
    elif event in ("os.truncate", "os.chmod") and isinstance(arguments[0], int):
        pass  # a file that is open: its opening was heard
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
        _written.append(_whole(arguments[0], arguments[-1] if event in ("os.mkdir", "os.remove", "os.rmdir") else -1))
    elif event in ("os.rename", "os.link", "os.symlink"):
        _written.extend(map(_whole, arguments[:2]))


def _whole(path: Any, folder: int = -1) -> str:
    """A path that may be relative to an open folder."""
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else "", os.fsdecode(path))


sys.addaudithook(_hear)  # the interpreter tells of every file it opens; deaf outside of `writes_within`


@contextlib.contextmanager
def writes_within(root: Path) -> Iterator[None]:
    """A while in which nothing is written, made, moved or removed that does not lie below `root`."""
    global _written
    _written = []
    try:
        yield
        outside = [path for path in _written if not Path(os.path.abspath(path)).is_relative_to(root)]
        assert not outside, outside
    finally:
        _written = None


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """One folder for all examples of a test, in memory where that can be had."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
    with folder as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", f"{name}/cache")
        yield Path(name).resolve()


def fresh(root: Path) -> Path:
    """A folder of its own; that of the example before goes, or ten thousand would fill the memory they lie in."""
    for before in root.glob("fresh-*"):
        shutil.rmtree(before)
    return Path(tempfile.mkdtemp(prefix="fresh-", dir=root))


def test_the_listener_hears(root: Path, tmp_path: Path) -> None:
    for write in (
        lambda: (tmp_path / "a").write_text("x"),
        lambda: (tmp_path / "b").mkdir(),
        lambda: os.close(os.open(tmp_path / "c", os.O_CREAT | os.O_WRONLY)),
        lambda: os.rename(tmp_path / "a", tmp_path / "d"),
        lambda: (tmp_path / "d").unlink(),
        lambda: (tmp_path / "e").symlink_to("x"),
    ):
        with pytest.raises(AssertionError), writes_within(root):
            write()
    with writes_within(root):
        (root / "x").write_text("x")
        (root / "x").read_text()


# --- properties: each holds for any text ---


@contextlib.contextmanager
def as_the_command_line() -> Iterator[None]:
    """A GanzooError is a refusal, and so is what the file system says of a long name: it is printed as a sentence."""
    try:
        yield
    except GanzooError:
        pass
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise


def choices(root: Path, name: str) -> None:
    """The folder that a run is given when nobody names one is a direct child of the folder of all runs."""
    with writes_within(root / "nothing"), as_the_command_line():
        chosen = Choice.parse(name)
        for architecture, dataset in ((chosen, Choice("digits")), (Choice("gan"), chosen)):
            path = free_directory(Recipe(architecture=architecture, dataset=dataset), root)
            assert Path(os.path.abspath(path)).parent == root


def locations(root: Path, name: str) -> None:
    """A file that is not there is a sentence."""
    with as_the_command_line():
        Zoo([]).load("architectures", Choice.parse(f"{name}.py:A"))


def unknown_parts(root: Path, name: str) -> None:
    """A name that no part has is a sentence."""
    with contextlib.suppress(GanzooError):
        component = ZOO.find("losses", name)
        assert name in (component.name, component.id)


def offered_parts(root: Path, name: str) -> None:
    """A distribution may call its parts what it likes: they are known by plain names, or not at all."""
    points = [EntryPoint(name, "os:system", "ganzoo.losses"), EntryPoint("loss", "os:system", f"ganzoo.{name}")]
    notes: list[str] = []
    zoo = Zoo([SimpleNamespace(name="somebody", version="1", entry_points=points, requires=[])], notes.append)  # type: ignore[list-item]
    for component in zoo.components("losses"):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", component.name)
    plugin = zoo.plugins["somebody"]
    assert len(plugin.components) + len(plugin.errors) == 2


def plugins_new(root: Path, name: str) -> None:
    """A plugin of a name that could be a path is not begun."""
    place = fresh(root)
    before = os.getcwd()
    os.chdir(place)
    try:
        with writes_within(place):
            result = CliRunner().invoke(cli, ["plugins", "new", "--kind", "loss", "--", name])
    finally:
        os.chdir(before)
    assert result.exit_code in (0, 2) or "File name too long" in result.stderr, (name, result.output)
    assert [path.name for path in place.iterdir()] == ([f"ganzoo-{name}"] if result.exit_code == 0 else [])


def runs(root: Path, name: str) -> None:
    """A run in a folder of that name writes there, or says why it cannot."""
    place = fresh(root)
    out = place / name
    if not Path(os.path.abspath(out)).is_relative_to(place) or out == place:
        return  # who types another place means it
    with writes_within(place), as_the_command_line():
        run = Run.create(out, RECIPE, {"note": name})
        line = {name: 0.5, "step": 1, "images": 2, "epoch": 3.0}
        run.append("stats.jsonl", line)
        run.file("samples", TrainingProgress(1, 2, 3.0), ".png").write_bytes(b"")
        assert run.lines("stats.jsonl") == [line]
        run.close()
        assert Run.open(out).recipe == RECIPE
        run.discard()


def keys_of_tensors(root: Path, name: str) -> None:
    """A tensor may have any name but the one that safetensors keeps for itself: it is a key, never a file."""
    if name == "__metadata__":
        return
    place = fresh(root)
    with writes_within(place):
        try:
            checkpoints.save(place, "1", {name: torch.ones(2)}, {"step": 1, "name": name})
        except GanzooError:
            return
        tensors, meta = checkpoints.load(place / "1")
    assert list(tensors) == [name]
    assert meta["name"] == name
    assert sorted(path.name for path in place.rglob("*")) == ["1", "MANIFEST.json", "meta.json", "state.safetensors"]


def foreign_keys(root: Path, name: str) -> None:
    place = fresh(root)
    torch.save({name: torch.ones(2), "more": {name: torch.zeros(1)}}, place / "a.pt")
    with writes_within(place), contextlib.suppress(foreign._Refused):
        foreign._convert(place / "a.pt", place / "b.safetensors", (place / "a.pt").stat().st_size)
        tensors, _ = tensors_from_bytes((place / "b.safetensors").read_bytes())
        assert {name or "tensor", f"more/{name}"} == set(tensors)


def members_of_archives(root: Path, name: str) -> None:
    """Archives are read in memory: no member has a place on disk."""
    place = fresh(root)
    with tarfile.open(place / "a.tar.gz", "w:gz", compresslevel=1) as archive:
        for kind in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 3073 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    with writes_within(place / "nothing"), pytest.raises(GanzooError, match="lacks cifar-10-batches-bin/test_batch"):
        read_batches(place / "a.tar.gz", ["test_batch.bin"], 1)


def class_names(root: Path, name: str) -> None:
    """Names are drawn into pictures, whatever characters they have."""
    picture = pictures.grid(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), 1, name[:40], [name[:40], "b"])
    with writes_within(root):
        pictures.save_png(picture, root / "grid.png")


def facts(root: Path, name: str) -> None:
    with writes_within(ganzoo.cache_dir()):
        STATISTICS.save_tensors({"dataset": name}, {"mean": torch.ones(1)})
        assert STATISTICS.load_tensors({"dataset": name}, torch.device("cpu")) is not None


PROPERTIES = {
    test.__name__: test
    for test in (
        *(choices, locations, unknown_parts, offered_parts, plugins_new, runs, keys_of_tensors, foreign_keys),
        *(members_of_archives, class_names, facts),
    )
}
#: those that cost a millisecond, and those that write files
HOW_OFTEN = {"locations": 50, "plugins_new": 50, "class_names": 60, "foreign_keys": 60, "members_of_archives": 60}
QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)


def _examples(test: Any) -> Any:
    for name in CORPUS:
        test = example(name=name)(test)
    return test


@pytest.mark.parametrize("property", PROPERTIES)
def test_any_name_will_do_or_is_refused(property: str, root: Path) -> None:
    @_examples
    @settings(max_examples=HOW_OFTEN.get(property, 200), deadline=None, database=None, suppress_health_check=QUIET)
    @given(name=NAMES)
    def holds(name: str) -> None:
        PROPERTIES[property](root, name)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("property", PROPERTIES)
def test_ten_thousand_names(property: str, root: Path) -> None:
    @settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=QUIET)
    @given(name=NAMES)
    def holds(name: str) -> None:
        PROPERTIES[property](root, name)

    holds()


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=QUIET)
@given(names=st.lists(FILE_NAMES.filter(lambda name: not name.startswith(".")), min_size=2, max_size=3, unique=True))
def test_folders_of_pictures_may_be_called_anything(root: Path, names: list[str]) -> None:
    place = fresh(root)
    with contextlib.suppress(OSError):  # the file system has its own taste
        for name in names:
            (place / "pictures" / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (4, 4), (number, 0, 0)).save(place / "pictures" / name / f"{number}{name[:40]}.png")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GANZOO_CACHE", str(place / "cache"))
            with writes_within(place / "cache"):
                dataset = ImageFolder(path=str(place / "pictures"), size=4, test_share=0.0)
        assert dataset.class_names == tuple(sorted(names, key=_listing.natural))
        assert len(dataset) == 3 * len(names)


# --- paths ---


@pytest.mark.parametrize(
    "name",
    ["with space", "é", "e\u0301", "🎲", "it's", 'say "hi"', "two\nlines", "-x", "a" * 255, "é" * 127, "%s"],
)
def test_a_run_may_lie_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole and relative, and through a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for parent in (tmp_path, Path(), tmp_path / "link"):
        with writes_within(tmp_path):
            run = Run.create(parent / name / name, RECIPE, {})
            run.close()
        assert Run.open(parent / name / name).recipe == RECIPE
        if parent != tmp_path / "link":
            run.discard()
    assert (tmp_path / "real" / name / name / "recipe.json").is_file()


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "a/" * 2100])
def test_a_name_that_is_too_long_is_a_sentence(name: str, tmp_path: Path) -> None:
    for command in (["train", "mlp-vanilla", "digits", "--out"], ["resume"], ["sample"]):
        result = CliRunner().invoke(cli, [*command, str(tmp_path / name)])
        assert result.exit_code in (1, 2)
        assert "File name too long" in result.stderr
        assert not list(tmp_path.iterdir())
