"""Animations in every format: size, number of frames, times, and the same bytes for the same frames."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image, features

from ganzoo import UsageError
from ganzoo.storage import animations

FRAMES = [Image.new("RGB", (33, 27), (60 * n, 60 * n, 60 * n)) for n in range(4)]
VIDEO = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs the extra `video`")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".avif"])
def test_pillow_writes_every_frame(suffix: str, tmp_path: Path) -> None:
    if suffix != ".gif" and not features.check(suffix[1:]):
        pytest.skip(f"this Pillow has no {suffix}")
    files = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for file in files:
        animations.save(FRAMES, file, seconds=0.1, hold=0.5)
    assert files[0].read_bytes() == files[1].read_bytes()
    with Image.open(files[0]) as picture:
        assert (picture.n_frames, picture.size) == (4, (33, 27))
        picture.seek(3)
        assert abs(picture.convert("RGB").getpixel((3, 3))[0] - 180) < 8


@VIDEO
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_a_film_has_even_sides_and_holds_its_last_frame(suffix: str, codec: str, tmp_path: Path) -> None:
    import av

    files = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for file in files:
        animations.save(FRAMES, file, seconds=0.1, hold=0.5, theme="light")
    if suffix == ".mp4":  # the Matroska writer of .webm draws a random identifier
        assert files[0].read_bytes() == files[1].read_bytes()
    with av.open(str(files[0])) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (codec, 34, 28)
        assert stream.average_rate == 10
        pictures = [frame.to_image() for frame in film.decode(stream)]
    assert len(pictures) == 3 + 5
    assert abs(pictures[-1].getpixel((3, 3))[0] - 180) < 12
    assert min(pictures[-1].getpixel((20, 27))) > 200  # the row that was added has the colour of the theme


def test_frames_of_two_sizes_are_filled_up(tmp_path: Path) -> None:
    animations.save([FRAMES[0], Image.new("RGB", (40, 20))], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.size == (40, 27)


def test_a_film_without_the_extra_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'torch-ganzoo\[video\]', or name a .gif or .webp file"):
        animations.save(FRAMES, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


@VIDEO
def test_frames_that_are_too_large_for_a_film_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="5000x3000 pixels are too large for a film"):
        animations.save([Image.new("RGB", (5000, 3000))], tmp_path / "a.mp4")
