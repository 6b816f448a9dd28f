"""What is published: one version everywhere, and a wheel and an sdist that work without the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_citation_names_the_version() -> None:
    (cited,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == VERSION


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, and the wheel that is built from that sdist."""
    pytest.importorskip("hatchling", reason="the build backend is not installed: pip install hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", folder]
    subprocess.run([*command, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    newer = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.2 has no filters
    shutil.unpack_archive(archive, folder, **newer)
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run([*command, "--target", "wheel"], cwd=unpacked, check=True, capture_output=True)
    return folder


def test_the_wheel_works_without_the_checkout(built: Path, tmp_path: Path) -> None:
    """Installed beside the dependencies that are here, in an environment that knows no checkout."""
    (wheel,) = built.glob("*.whl")
    assert f"-{VERSION}-" in wheel.name
    assert wheel.stat().st_size < 30e6
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*install, "--target", site, wheel], check=True, capture_output=True)
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from ganzoo.cli import main; main()"

    def ganzoo(*words: str) -> str:
        command = [sys.executable, "-P", "-c", code, *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300).stdout

    assert VERSION in ganzoo("--version")
    assert "dcgan-tutorial" in ganzoo("list", "architectures")
    for line in ganzoo("list", "pretrained").splitlines():  # every trained generator draws from the wheel alone
        if name := re.match(r"\|? *(pretrained:\S+)", line):
            assert (tmp_path / ganzoo("sample", name[1], "-n", "4").strip()).is_file()
    ganzoo("plugins", "new", "my-loss", "--kind", "loss")
    out = ganzoo("train", "mlp-vanilla", "digits:size=8", "--steps", "2", "-q", "--out", "run").strip()
    assert Path(ganzoo("sample", out).strip()).name.endswith(".png")


def test_the_sdist_has_all_that_the_tests_need(built: Path) -> None:
    unpacked = next(path for path in built.iterdir() if path.is_dir())
    for name in ("Makefile", "README.md", "tests/conftest.py", "docs", "benchmarks", "examples", "CONTRIBUTING.md"):
        assert (unpacked / name).exists(), name
