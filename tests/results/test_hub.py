"""ganzoo push and ganzoo pull, with the hub's own library against a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_hub import COMMIT, ModelHub

import ganzoo as gz

pytest.importorskip("huggingface_hub", reason="the hub needs its library")


@pytest.fixture(scope="module")
def hub() -> Iterator[ModelHub]:
    with ModelHub() as server:
        yield server


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gz.export("pretrained:dcgan-atienza-book/digits", tmp_path_factory.mktemp("exports") / "a", license="mit")


def command(hub: ModelHub, folder: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the library reads its environment when it is imported."""
    home = str(folder / "hub-home")
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": home, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "ganzoo", *map(str, words)],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=200,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_export_comes_back_as_it_was(hub: ModelHub, exported: Path, tmp_path: Path) -> None:
    (exported / "notes.txt").write_text("mine")
    done = command(hub, tmp_path, "push", exported, "me/digits", "--private", "--json")
    (exported / "notes.txt").unlink()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"].endswith(f"/me/digits/commit/{COMMIT}")
    assert hub.private["me/digits"]
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert hub.repositories["me/digits"] == files  # and not notes.txt

    done = command(hub, tmp_path, "pull", "me/digits")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "digits"
    assert {path.name: path.read_bytes() for path in (tmp_path / "digits").iterdir()} == files
    sampled = command(hub, tmp_path, "sample", "digits", "-o", "picture.png")
    assert sampled.returncode == 0, sampled.stderr
    assert (tmp_path / "picture.png").stat().st_size > 1000

    assert "holds an export already" in refusal(command(hub, tmp_path, "pull", "me/digits"))


def test_a_file_that_differs_from_the_card_is_refused(hub: ModelHub, exported: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    weights = bytearray(files["generator.safetensors"])
    weights[-1] ^= 1
    hub.repositories["me/changed"] = files | {"generator.safetensors": bytes(weights)}
    assert "is not the file that its card names" in refusal(command(hub, tmp_path, "pull", "me/changed"))
    hub.repositories["me/part"] = {"card.json": files["card.json"]}
    assert "not a complete one" in refusal(command(hub, tmp_path, "pull", "me/part"))
    hub.repositories["me/other"] = {"config.json": b"{}"}
    assert "me/other is no export of ganzoo" in refusal(command(hub, tmp_path, "pull", "me/other"))
    hub.repositories["me/edited"] = files | {"card.json": files["card.json"].replace(b'"mit"', b'"x11"')}
    assert "does not match its own sha256" in refusal(command(hub, tmp_path, "pull", "me/edited"))
    assert [path.name for path in tmp_path.iterdir() if path.name != "hub-home"] == []


def test_a_card_cannot_name_a_file_elsewhere(hub: ModelHub, exported: Path, tmp_path: Path) -> None:
    from ganzoo.storage.run_checks import sealed

    card = json.loads((exported / "card.json").read_text())
    card["files"]["../outside"] = card["files"]["samples.png"]
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    hub.repositories["me/outside"] = files | {"card.json": json.dumps(sealed(card)).encode()}
    assert "not a plain name" in refusal(command(hub, tmp_path, "pull", "me/outside"))
    assert not (tmp_path / "outside").exists()


def test_what_is_refused(hub: ModelHub, exported: Path, tmp_path: Path) -> None:
    assert "write it OWNER/NAME" in refusal(command(hub, tmp_path, "pull", "a/b/c"))
    assert "has no repository me/absent" in refusal(command(hub, tmp_path, "pull", "me/absent"))
    assert "write one with `ganzoo export" in refusal(command(hub, tmp_path, "push", tmp_path, "me/a"))
    hub.repositories["me/some"] = {}
    assert "no such revision" in refusal(command(hub, tmp_path, "pull", "me/some", "--revision", "v9"))
    offline = command(hub, tmp_path, "pull", "me/some", HF_HUB_OFFLINE="1")
    assert "was not reached" in refusal(offline)
    closed = command(hub, tmp_path, "push", exported, "me/a", HF_ENDPOINT="http://127.0.0.1:9")
    assert "The hub failed for me/a" in refusal(closed)
    absent = command(hub, tmp_path, "pull", "me/a", HF_ENDPOINT="http://127.0.0.1:9")
    assert "me/a" in refusal(absent)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: gz.push(exported, "me/a"), lambda: gz.pull("me/a")):
        with pytest.raises(gz.UsageError, match=r"torch-ganzoo\[hub\]"):
            call()
