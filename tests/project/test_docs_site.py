"""The site of `make docs`: it is built without warnings and without a network, and needs nothing outside its folder."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import ganzoo
from ganzoo.cli import BUILT_IN

for name in ("sphinx", "furo", "myst_parser", "sphinx_click"):
    pytest.importorskip(name, reason="the site needs more packages: pip install 'torch-ganzoo[docs]'")

ROOT = Path(__file__).parents[2]
#: of these elements, the attribute that makes a browser load something
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class _Page(HTMLParser):
    """What a page loads, what it links to, and the places that can be linked to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if (address := given.get(LOADS.get(tag, ""))) and given.get("rel") not in ("canonical",):
            self.loaded.append(address)
        if tag == "a" and (target := given.get("href")):
            self.links.append(target)
        self.anchors |= {given[key] or "" for key in ("id", "name") if key in given}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    makefile = (ROOT / "Makefile").read_text()
    (options,) = re.findall(r"^\t\$\(BIN\)/python -m sphinx (.*) -d \S+ docs build/docs$", makefile, re.MULTILINE)
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", *options.split(), "-d", str(out / "doctrees"), "docs", str(out / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "-W" in options.split()  # a warning would have been an error
    return out / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {file: _Page(file) for file in sorted(site.rglob("*.html"))}


def test_every_page_is_there_and_in_the_list_of_pages(site: Path, pages: dict[Path, _Page]) -> None:
    index = pages[site / "index.html"]
    for page in (ROOT / "docs").rglob("*.md"):
        address = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / address).exists(), address
        assert address == "index.html" or address in index.links, f"no toctree of index.md has {address}"


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, _Page]) -> None:
    for file, page in pages.items():
        for address in page.loaded:
            parts = urlsplit(address)
            assert not parts.scheme, f"{file.name} loads {address}"
            assert not parts.netloc, f"{file.name} loads {address}"
            assert not parts.path or (file.parent / unquote(parts.path)).exists(), f"{file.name} loads {address}"


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, _Page]) -> None:
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.exists(), f"{file.name} links to {link}"
            if parts.fragment and target in pages and target.name not in ("genindex.html", "search.html"):
                assert unquote(parts.fragment) in pages[target].anchors, f"{file.name} links to {link}"


def test_every_command_is_described(site: Path) -> None:
    text = (site / "cli.html").read_text(encoding="utf-8")
    for command in BUILT_IN:
        assert f'id="ganzoo-{command}"' in text, command
    assert 'id="ganzoo-plugins-check"' in text
    assert "--epochs" in text  # and no dash of typographers
    assert "Sentinel" not in text


def test_every_public_name_is_described(pages: dict[Path, _Page], site: Path) -> None:
    anchors = pages[site / "api.html"].anchors
    for name in [*ganzoo.__all__, "list"]:
        assert f"ganzoo.{name}" in anchors, name
