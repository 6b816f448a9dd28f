"""Drawings of a report: made from real generators, within a time, and never at the cost of the report."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from helpers import ZOO
from making import make_run
from PIL import Image

import ganzoo
from ganzoo.reports import drawing
from ganzoo.reports.drawing import MOST_DRAWN, draw_all_runs, should_draw
from ganzoo.reports.page import data_of, gather, render
from ganzoo.reports.sprites import data_uri, film, sprite
from ganzoo.storage import pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    ganzoo.train("cgan", "digits:size=8", steps=2, batch_size=16, out=out, device="cpu", quiet=True)
    return out


def _drawn(path: Path, seconds: float = 60.0) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    report = gather([path])
    draw_all_runs(report, ZOO, seconds, notes.append)
    return data_of(report), notes


def test_a_conditional_run_has_all_drawings(run: Path) -> None:
    data, notes = _drawn(run)
    [record] = data["runs"]
    assert record["notes"] == notes == []
    assert record["drawings"].keys() == {"fresh", "interpolation", "classes", "class_names", "neighbours"}
    assert record["drawings"]["class_names"] == [str(number) for number in range(10)]
    assert record["drawings"]["classes"]["rows"] == 10
    assert re.fullmatch("[0-9a-f]{16}", record["latents"])
    assert record["drawings"]["fresh"]["image"] in render(data)


def test_no_time_draws_nothing_and_says_so(run: Path) -> None:
    data, notes = _drawn(run, seconds=-1)
    assert data["runs"][0]["drawings"] == {}
    assert "--draw-seconds" in notes[0]


def test_a_run_without_a_generator_has_a_note(tmp_path: Path) -> None:
    data, _ = _drawn(make_run(tmp_path / "a"))
    assert any("could be drawn" in note for note in data["runs"][0]["notes"])


def test_a_dataset_that_is_not_here_costs_only_the_neighbours(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: Any, **more: Any) -> Any:
        assert os.environ["GANZOO_OFFLINE"] == "1"
        raise ganzoo.GanzooError("It is not on this machine")

    monkeypatch.setattr(drawing, "_training_images", absent)
    data, _ = _drawn(run)
    assert "neighbours" not in data["runs"][0]["drawings"]
    assert "fresh" in data["runs"][0]["drawings"]
    assert any("not on this machine" in note for note in data["runs"][0]["notes"])
    assert "GANZOO_OFFLINE" not in os.environ


def test_many_runs_are_drawn_only_where_it_is_asked_for() -> None:
    few, many = [None] * MOST_DRAWN, [None] * (MOST_DRAWN + 1)
    assert should_draw(None, few)  # type: ignore[arg-type]
    assert not should_draw(None, many)  # type: ignore[arg-type]
    assert should_draw(True, many)  # type: ignore[arg-type]


def _decoded(uri: str) -> numpy.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return numpy.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(("channels", "size", "labels"), [(1, 8, ()), (3, 28, ("a", "bcd")), (1, 100, ())])
def test_a_film_has_the_pixels_of_the_images(tmp_path: Path, channels: int, size: int, labels: tuple[str, ...]) -> None:
    images = torch.randint(0, 256, (6, channels, size, size), dtype=torch.uint8)
    pictures.save_png(pictures.grid(images, 3, "a title", labels), tmp_path / "000000064.png")
    found = film(tmp_path, (channels, size, size), (2, 3), 10, 1 << 24)
    assert (found["width"], found["height"], found["images"]) == (3 * size, 2 * size, [64])
    grid = images.expand(-1, 3, -1, -1).reshape(2, 3, 3, size, size).permute(0, 3, 1, 4, 2)
    assert (_decoded(found["image"]) == grid.reshape(2 * size, 3 * size, 3).numpy()).all()


def test_a_sprite_keeps_to_its_bytes_and_to_what_browsers_decode() -> None:
    noise = numpy.random.default_rng(0).integers(0, 256, (60, 64, 16, 16, 3), dtype=numpy.uint8)
    facts = sprite(list(noise), 8, 200_000)
    pixels = _decoded(facts["image"])
    assert len(facts["image"]) < 1_200_000  # noise does not compress; without loss it would be 3.9 MB
    assert max(pixels.shape) <= 8192
    assert data_uri(numpy.zeros((2, 20_000, 3), numpy.uint8)).startswith("data:image/png")
