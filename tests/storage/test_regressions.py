"""What the suite of safe files found in the core; each was red before the change that comes with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import sample
from malicious_files import disguises
from test_safe_files import CPU, ZOO, every, forge, trained  # noqa: F401  (a fixture)

from ganzoo import Amount, Choice, GanzooError, Recipe
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_from_bytes
from ganzoo.training.train import resume

DEEP = b"[" * 100_000 + b"]" * 100_000


def play_on(run: Path) -> None:
    resume(run, ZOO, length=Amount(12, "steps"), note=lambda text: None)


def draw(run: Path) -> None:
    sample(run, ZOO, CPU)


def metas(data: bytes) -> Callable[[Path], None]:
    return lambda run: [forge(folder, meta_json=data) for folder in every(run)]  # type: ignore[return-value]


def environment(**facts: Any) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        file = run / "environment.json"
        before = json.loads(file.read_text())
        before.pop("sha256", None)
        file.write_text(json.dumps({**before, **facts}))

    return spoil


def replaced(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda run: [file.write_bytes(data) for file in run.glob(name)]


def evil_code(run: Path) -> None:
    (run / "evil.py").write_text(f"open({str(run / 'canary')!r}, 'w')\n" + Path(tiny.__file__).read_text())
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**recipe, "architecture": f"{run / 'evil.py'}:Tiny"}))
    environment(parts={})(run)


SHAPE = {"channels": 1, "height": 8, "width": 8, "classes": 10}
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
CASES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "deep manifest": (replaced("checkpoints/*/MANIFEST.json", DEEP), play_on),
    "deep meta": (metas(DEEP), play_on),
    "deep recipe": (replaced("recipe.json", b'{"a":' + DEEP + b"}"), draw),
    "deep environment": (replaced("environment.json", b'{"a":' + DEEP + b"}"), draw),
    "meta is a list": (metas(b"[]"), play_on),
    "meta says nothing": (metas(b"{}"), play_on),
    "meta of no step": (metas(b'{"step":"x"}'), play_on),
    "meta of a step before the first": (
        metas(b'{"step":-5,"seconds":1,"ticked_images":0,"ticked_seconds":0}'),
        play_on,
    ),
    "images: null": (environment(images=None), draw),
    "images: nothing": (environment(images={}), draw),
    "images: a word": (environment(images={**SHAPE, "channels": "a"}), draw),
    "images: less than none": (environment(images={**SHAPE, "channels": -1}), draw),
    "images: too large": (environment(images={**SHAPE, "height": 10**6}), draw),
    "images: more": (environment(images={**SHAPE, "x": 1}), draw),
    "device: a number": (environment(device=3), play_on),
    "parts: a number": (environment(parts=3), draw),
    "parts: of numbers": (environment(parts={"architecture": [3]}), play_on),
    "parts: importing a number": (environment(parts={"architecture": [{"imports": 3}]}), play_on),
    "grids that are none": (replaced("samples/*.png", b"x"), lambda run: sample(run, ZOO, CPU, animate=True)),
    "grids in PostScript": (replaced("samples/*.png", EPS), lambda run: sample(run, ZOO, CPU, animate=True)),
    "code in the run": (evil_code, draw),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_a_sentence(case: str, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    spoil, act = CASES[case]
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    spoil(run)
    with pytest.raises(GanzooError) as caught:
        act(run)
    assert "\n" not in str(caught.value)
    assert "Ghostscript" not in str(caught.value)
    assert not (run / "canary").exists()


@pytest.mark.parametrize("name", ["stats.jsonl", "scores.jsonl"])
@pytest.mark.parametrize("line", [b"3", b"null", b"[]", b'{"a":1}', b"\xff", b'{"step":"x"}', DEEP], ids=range(7))
def test_a_line_that_is_none_is_refused(name: str, line: bytes, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    before = (run / name).read_bytes() if (run / name).exists() else b""
    (run / name).write_bytes(before + line + b"\n")
    number = before.count(b"\n") + 1
    with pytest.raises(GanzooError, match=rf"{name}, line {number} is damaged \(.*delete this line to go on without"):
        play_on(run)
    assert (run / name).read_bytes() == before + line + b"\n"
    (run / name).write_bytes(before)  # deleted, as the message says
    play_on(run)
    assert [line["step"] for line in Run.open(run).lines("stats.jsonl")] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    "line",
    [
        {"training": True, "step": 1},
        {
            "training": True,
            "step": 1,
            "score": "a",
            "card": {"digest": 1},
            "better": "lower",
            "value": 1,
            "images": "../x",
        },
        {"training": True, "step": 1, "score": ["a"], "card": 3, "better": 1, "value": "x", "images": 1},
    ],
)
def test_a_score_that_is_none_is_not_the_best(line: dict[str, Any], trained: Path, tmp_path: Path) -> None:  # noqa: F811
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "scores.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(GanzooError, match="line 1 is damaged"):
        sample(run, ZOO, CPU, at="best")


def test_a_header_of_a_million_names_costs_nothing(tmp_path: Path) -> None:
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"k{number}": one for number in range(100_000)}).encode()
    start = time.process_time()
    with pytest.raises(ValueError, match="it has a header of"):
        tensors_from_bytes(struct.pack("<Q", len(text)) + text)
    assert time.process_time() - start < 1


def test_a_folder_with_a_number_that_is_none_is_no_checkpoint(trained: Path, tmp_path: Path) -> None:  # noqa: F811
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "checkpoints" / "²").mkdir()
    (run / "generators" / "³.safetensors").touch()
    play_on(run)
    draw(run)


def test_a_manifest_without_an_end_is_not_read(trained: Path, tmp_path: Path) -> None:  # noqa: F811
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    for number, folder in enumerate(every(run)):
        (folder / "MANIFEST.json").unlink()
        (folder / "MANIFEST.json").symlink_to("/dev/zero") if number else os.mkfifo(folder / "MANIFEST.json")
    with pytest.raises(GanzooError):
        checkpoints.load_latest(run / "checkpoints")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_path_that_cannot_be_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(GanzooError, match="Cannot write a run"):
        Run.create(tmp_path / name, Recipe(architecture="a", dataset="b"), {})


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nobody_is_told_to_switch_the_safety_off(tmp_path: Path) -> None:
    for kind in ("torch.save", "pickle, protocol 2"):
        (tmp_path / "a.pth").write_bytes(disguises(tmp_path / "canary")[kind])
        extractor = ZOO.build("extractors", Choice("inception", {"weights": str(tmp_path / "a.pth")}))
        with pytest.raises(GanzooError) as caught:
            extractor.bind("", None)
        assert not re.search("weights_only|trusted", str(caught.value))


def test_two_writers_without_a_lock_leave_whole_checkpoints(tmp_path: Path) -> None:
    """As on a file system whose locks do nothing: one of the two may fail, none of them spoils what the other wrote."""
    failures: list[OSError | GanzooError] = []

    def write(owner: int) -> None:
        for step in range(1, 40):
            tensors = {"weight": torch.full((1000,), float(step)), "owner": torch.tensor(owner)}
            try:
                checkpoints.save(tmp_path, str(step), tensors, {"step": step, "owner": owner})
            except (OSError, GanzooError) as error:
                failures.append(error)

    writers = [threading.Thread(target=write, args=(owner,)) for owner in (1, 2)]
    for writer in writers:
        writer.start()

    def check(path: Path) -> int:
        tensors, meta = checkpoints.load(path)
        assert tensors["owner"] == meta["owner"]
        assert torch.equal(tensors["weight"], torch.full((1000,), float(meta["step"])))
        return int(meta["step"])

    while any(writer.is_alive() for writer in writers):
        for path in list(tmp_path.glob("[0-9]*")):
            with contextlib.suppress(GanzooError):  # pruned meanwhile
                check(path)
    kept = [path for path in tmp_path.iterdir() if path.name.isdigit()]
    assert max(check(path) for path in kept) == 39
