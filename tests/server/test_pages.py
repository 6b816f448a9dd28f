"""`ganzoo.serve` and `ganzoo.explore` in Python: the pages of the commands, in a thread of this process."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest
from helpers import ganzoo as run_ganzoo

import ganzoo

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "run"
    result = run_ganzoo("train", "mlp-vanilla", "digits:size=8", "--steps", 2, "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    return out


def text_of(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return str(answer.read().decode())


def test_serve_answers_until_the_block_ends(run: Path) -> None:
    with ganzoo.serve(run.parent, port=0) as page:
        assert page.address.startswith("http://127.0.0.1:")
        assert "GAN report" in text_of(page.address)
        assert page.address in repr(page)
        assert f'href="{page.address}"' in page._repr_html_()
    with pytest.raises(OSError, match=r"[Rr]efused"):
        text_of(page.address)


def test_explore_takes_a_loaded_run_and_stops_when_asked(run: Path) -> None:
    page = ganzoo.explore(ganzoo.load(run), port=0, device="cpu")
    assert "<script>" in text_of(page.address)
    threading.Timer(0.3, page.stop).start()
    page.wait()
    page.stop()  # once more does no harm
    with pytest.raises(OSError, match=r"[Rr]efused"):
        text_of(page.address)


def test_two_pages_have_two_ports(run: Path) -> None:
    with ganzoo.serve(run) as one, ganzoo.serve(run) as other:
        assert one.address != other.address
        assert "GAN report" in text_of(other.address)


def test_what_is_not_there_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ganzoo.UsageError, match="There is no directory"):
        ganzoo.serve(tmp_path / "nothing")
    with pytest.raises(ganzoo.UsageError, match="holds no run"):
        ganzoo.explore(tmp_path)
    with ganzoo.serve(run, port=0) as page:
        port = int(page.address.rpartition(":")[2].strip("/"))
        with pytest.raises(ganzoo.UsageError, match=f"Port {port} of 127.0.0.1 is taken"):
            ganzoo.serve(run, port=port)
