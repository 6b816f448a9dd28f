"""Sample grids in terminals: when they are written, the bytes of each protocol, and that a log has none."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganzoo.api import displays
from ganzoo.api.displays import ConsoleProgress
from ganzoo.api.terminal_pictures import TerminalSize, picture_protocol, picture_text, terminal_size
from ganzoo.contract.choice import Amount
from ganzoo.contract.errors import UsageError
from ganzoo.contract.hooks import TrainingProgress


class Screen(io.StringIO):
    def __init__(self, terminal: bool = True) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),  # over ssh
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb"}, None),
        ({}, None),
        # a shell in another terminal that was started from kitty inherits its variables
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, None),
        # multiplexers: off unless asked
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "screen.xterm-256color", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "foot", "ZELLIJ": "0"}, None),
        ({"TERM": "tmux-256color", "TMUX": "x", "GANZOO_PICTURES": "kitty"}, "kitty"),
        ({"TERM": "xterm", "GANZOO_PICTURES": "Sixel"}, "sixel"),
        ({"TERM": "xterm-kitty", "GANZOO_PICTURES": "off"}, None),
        ({"TERM": "xterm-kitty", "GANZOO_PICTURES": "auto"}, "kitty"),
    ],
)
def test_what_a_terminal_can_show(environment: dict[str, str], protocol: str | None) -> None:
    assert picture_protocol(Screen(), environment) == protocol
    assert picture_protocol(Screen(terminal=False), environment) is None  # a log


def test_a_misspelt_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="GANZOO_PICTURES='kity' is not one of: auto, kitty, iterm2, sixel, off"):
        picture_protocol(Screen(), {"GANZOO_PICTURES": "kity"})


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A picture of 90 x 60 pixels in few colours."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:30, :45], pixels[30:, 45:], pixels[10:13, 80] = (255, 0, 0), (0, 255, 0), (51, 102, 204)
    Image.fromarray(pixels).save(tmp_path / "grid.png")
    return tmp_path / "grid.png"


SIZE = TerminalSize(80, 40, (10, 20))


def parts(text: str) -> tuple[int, str]:
    """The rows that a picture takes, and what is drawn: around it, rows are made and the cursor is put back."""
    rows, drawn, back = re.fullmatch(r"(\n+)\x1b\[\d+A\x1b7(.*)\x1b8\x1b\[(\d+)B\r", text, re.DOTALL).groups()  # type: ignore[union-attr]
    assert len(rows) == int(back)
    return len(rows), drawn


def test_kitty(grid: Path, tmp_path: Path) -> None:
    rows, drawn = parts(picture_text(grid, "kitty", SIZE, {}))
    assert rows == 3
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn)
    assert sequences[0][0] == "a=T,f=100,q=2,C=1,r=3,m=0"  # q=2: the terminal must not answer into the shell
    shown = Image.open(io.BytesIO(base64.b64decode(sequences[0][1])))
    assert np.array_equal(np.array(shown), np.array(Image.open(grid)))
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    _, drawn = parts(picture_text(tmp_path / "noise.png", "kitty", SIZE, {}))
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn)
    assert [keys[-3:] for keys, _ in sequences] == ["m=1"] * (len(sequences) - 1) + ["m=0"] or len(sequences) > 1
    assert all(len(data) <= 4096 and len(data) % 4 == 0 for _, data in sequences)
    whole = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in sequences))))
    assert np.array_equal(np.array(whole), noise)


def test_iterm2(grid: Path) -> None:
    rows, drawn = parts(picture_text(grid, "iterm2", SIZE, {}))
    keys, data = re.fullmatch(r"\x1b\]1337;File=([^:]*):(.*)\x07", drawn).groups()  # type: ignore[union-attr]
    assert (rows, keys) == (3, "inline=1;height=3;preserveAspectRatio=1")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (90, 60)


def decoded(sixel: str) -> np.ndarray[Any, Any]:
    """The pixels (H, W, 3) of a sixel picture, in 0..255; those that were not drawn are -1."""
    body = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', sixel, re.DOTALL)
    assert body is not None
    width, height = int(body[1]), int(body[2])
    pixels = np.full((height + 6, width, 3), -1)
    palette: dict[int, list[int]] = {}
    colour, x, y = 0, 0, 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|([?-~])|(\$)|(-)", body[3]):
        if token[1]:
            palette[int(token[1])] = [round(int(token[n]) * 255 / 100) for n in (2, 3, 4)]
        elif token[5]:
            colour = int(token[5])
        elif token[7] or token[8]:
            bits = ord(token[7] or token[8]) - 63
            for _ in range(int(token[6] or 1)):
                for row in range(6):
                    if bits >> row & 1:
                        pixels[y + row, x] = palette[colour]
                x += 1
        elif token[9]:
            x = 0
        else:
            x, y = 0, y + 6
    assert (pixels[height:] == -1).all()
    return pixels[:height]


def test_sixel(grid: Path, tmp_path: Path) -> None:
    rows, drawn = parts(picture_text(grid, "sixel", SIZE, {}))
    assert rows == 3
    assert drawn.isascii()
    assert np.abs(decoded(drawn) - np.array(Image.open(grid)).astype(int)).max() <= 2  # percent, not bytes
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (31, 64, 3))  # a height that 6 divides not
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.png")
    _, drawn = parts(picture_text(tmp_path / "ramp.png", "sixel", SIZE, {}))
    assert np.abs(decoded(drawn) - ramp.astype(int)).max() <= 8


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    Image.new("L", (3000, 1000)).save(tmp_path / "large.png")
    for size, most in ((SIZE, 16), (TerminalSize(60, 10, None), 5)):
        rows, drawn = parts(picture_text(tmp_path / "large.png", "iterm2", size, {}))
        shown = Image.open(io.BytesIO(base64.b64decode(drawn.partition(":")[2].rstrip("\x07"))))
        assert rows <= most
        assert shown.width <= 10 * size.columns


def test_tmux_passes_it_on(grid: Path) -> None:
    _, plain = parts(picture_text(grid, "kitty", SIZE, {}))
    _, wrapped = parts(picture_text(grid, "kitty", SIZE, {"TMUX": "x"}))
    assert wrapped == "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    assert terminal_size(Screen()) == (80, 24, None)


RUN: Any = SimpleNamespace(path=Path("runs/a"), recipe=SimpleNamespace(length=Amount(8, "steps"), best_by=None))
HALF = TrainingProgress(4, 64, 0.5)


def shown(screen: Screen, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> str:
    """What a training writes that saves these grids."""
    monkeypatch.setattr("sys.stderr", screen)
    display = ConsoleProgress()
    display.on_run_start(RUN)
    for path in paths:
        display.on_samples(RUN, HALF, path)
    display.on_score(RUN, HALF, [{"score": "fid", "value": 12.345}])
    display.on_run_end(RUN, None)
    return screen.getvalue()


def test_a_training_shows_its_first_and_its_last_grid(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_PICTURES", "iterm2")
    assert shown(Screen(), monkeypatch, grid, grid, grid).count("\x1b]1337") == 2  # not three within ten seconds
    monkeypatch.setattr(displays, "PICTURE_INTERVAL", 0.0)
    assert shown(Screen(), monkeypatch, grid, grid, grid).count("\x1b]1337") == 3
    monkeypatch.setenv("GANZOO_PICTURES", "off")
    assert "1337" not in shown(Screen(), monkeypatch, grid)


def test_a_log_has_no_picture_and_no_escape_sequence(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_PICTURES", "kitty")
    text = shown(Screen(terminal=False), monkeypatch, grid)
    assert "\x1b" not in text
    assert "fid 12.345" in text


def test_a_picture_that_cannot_be_read_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_text("no picture")
    monkeypatch.setenv("GANZOO_PICTURES", "sixel")
    text = shown(Screen(), monkeypatch, tmp_path / "x.png", tmp_path / "none.png")
    assert text.count("No more pictures: ") == 1
