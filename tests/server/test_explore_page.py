"""The page of `ganzoo explore` in a real browser: sliders move the image, seeds repeat, walks, files, keyboard."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ZOO, ganzoo

from ganzoo.server.explorer import Explorer

pytest.importorskip("starlette", reason="needs the extra `serve`")
_CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Any], str]) -> dict[str, str]:
    """The pages of an unconditional run with Gaussian latents and of a conditional one with hostile class names."""
    from ganzoo.server.explore import ExploreApp
    from ganzoo.server.running import guarded

    found = {}
    for architecture in ("mlp-keras-gan", "cgan"):
        path = tmp_path_factory.mktemp("runs") / "<b>run & 'co'</b>"
        given = ("--steps", 4, "--checkpoint-every", "2 steps", "-q", "--out", path)
        done = ganzoo("train", architecture, "digits:size=8", *given)
        assert done.exit_code == 0, done.output
        app = ExploreApp(Explorer(path, ZOO, _CPU, False, print), None)
        found[architecture] = serve(guarded(app.starlette(), "127.0.0.1", ()))
    return found


@pytest.fixture
def page(browser: Any, addresses: dict[str, str]) -> Iterator[Any]:
    """The page of the unconditional run, loaded; it must make no error and no foreign request."""
    yield from _opened(browser, addresses["mlp-keras-gan"])


@pytest.fixture
def class_page(browser: Any, addresses: dict[str, str]) -> Iterator[Any]:
    yield from _opened(browser, addresses["cgan"])


def _opened(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: _note_foreign(request.url, address, errors))
    page.goto(address)
    _loaded(page)
    yield page
    assert errors == []
    context.close()


def _note_foreign(url: str, address: str, errors: list[str]) -> None:
    if not url.startswith((address, "data:")):
        errors.append(f"a request to {url}")


def _loaded(page: Any) -> None:
    page.wait_for_selector("#gallery button:nth-child(24)")
    page.wait_for_selector("#epochs button:nth-child(2)")


def _picture(page: Any) -> str:
    return str(page.get_attribute("#picture", "src"))


def _changed(page: Any, before: str) -> str:
    """The picture once it is another one than `before`."""
    page.wait_for_function("before => document.getElementById('picture').src !== before", arg=before)
    return _picture(page)


def _slide(page: Any, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})) }", value
    )


def test_sliders_move_the_picture(page: Any) -> None:
    assert page.locator("#directions input").count() == 10
    first = _picture(page)
    _slide(page, "#move0", 3)
    moved = _changed(page, first)
    assert page.text_content("#out0") == "3.0"
    assert "direction 1 at 3" in page.text_content("#caption")
    page.click("#reset")
    assert _changed(page, moved) == first
    _slide(page, "#truncation", 0.3)
    truncated = _changed(page, first)
    assert page.text_content("#truncation-value") == "0.30"
    _slide(page, "#truncation", 3.05)
    assert _changed(page, truncated) == first


def test_seeds_repeat(page: Any, addresses: dict[str, str]) -> None:
    first = _picture(page)
    page.fill("#seed", "77")
    page.keyboard.press("Enter")
    there = _changed(page, first)
    assert "Seed 77" in page.text_content("#caption")
    page.wait_for_selector("#gallery button[aria-pressed=true] img[alt='Seed 77']")
    page.fill("#seed", "0")
    page.keyboard.press("Enter")
    assert _changed(page, there) == first
    page.fill("#seed", "77")
    page.keyboard.press("Enter")
    assert _changed(page, first) == there
    # the address of the page is a link to the picture
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    _loaded(page)
    assert _picture(page) == there


def test_the_gallery_chooses(page: Any) -> None:
    first = _picture(page)
    page.click("#gallery button:nth-child(6)")
    _changed(page, first)
    assert "Seed 5" in page.text_content("#caption")
    assert page.input_value("#seed") == "5"
    page.click("#later")
    page.wait_for_function("() => document.querySelector('#gallery img').alt === 'Seed 24'")


def test_a_walk_between_two(page: Any) -> None:
    assert page.is_disabled("#play")
    seed0 = _picture(page)
    page.click("#pick")
    page.click("#gallery button:nth-child(4)")
    seed3 = _changed(page, seed0)
    page.click("#pick")
    page.wait_for_selector("#walk-strip button:nth-child(9)")
    strip = [image.get_attribute("src") for image in page.locator("#walk-strip img").all()]
    assert strip[0] == seed0
    assert strip[8] == seed3
    _slide(page, "#along", 0.5)
    middle = _changed(page, seed3)
    assert middle == strip[4]
    assert "Walk between the seeds 0, 3" in page.text_content("#caption")
    assert "--latents walk-0-3-at-" in page.text_content("#command")
    # a direction on top of the walk
    _slide(page, "#move0", 3)
    _changed(page, middle)
    page.click("#play")
    page.wait_for_function("() => document.getElementById('play').textContent === 'Stop'")
    playing = _picture(page)
    _changed(page, playing)
    page.click("#play")
    page.click("#clear")
    page.wait_for_function("src => document.getElementById('picture').src === src", arg=seed0)
    assert page.is_hidden("#path")


def test_a_square_of_four(page: Any) -> None:
    pictures = []
    for number in (1, 5, 9, 14):
        before = _picture(page)
        page.click(f"#gallery button:nth-child({number})")
        pictures.append(before if number == 1 else _changed(page, before))
        page.click("#pick")
    assert page.is_disabled("#pick")
    page.wait_for_selector("#pad img:nth-of-type(25)")
    tiles = [image.get_attribute("src") for image in page.locator("#pad img").all()]
    assert [tiles[0], tiles[4], tiles[20], tiles[24]] == pictures
    page.locator("#pad").click()
    _changed(page, pictures[3])
    assert "Walk between the seeds 0, 4, 8, 13" in page.text_content("#caption")
    _slide(page, "#square-along", 0)
    _slide(page, "#square-across", 1)
    page.wait_for_function("src => document.getElementById('picture').src === src", arg=pictures[2])
    # removing one leaves a path of three
    page.click("#picks button:nth-child(4)")
    page.wait_for_selector("#path:not([hidden])")


def test_the_generator_at_any_moment(page: Any) -> None:
    last = _picture(page)
    assert page.get_attribute("#at", "aria-valuetext").startswith("epoch ")
    _slide(page, "#at", 0)
    earlier = _changed(page, last)
    assert page.locator("#epochs img").first.get_attribute("src") == earlier
    page.locator("#epochs button").last.click()
    assert _changed(page, earlier) == last


def test_files_to_keep(page: Any, tmp_path: Path) -> None:
    assert page.is_hidden("#latents")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "page.png")
    words = shlex.split(page.text_content("#command"))
    assert download.value.suggested_filename == words[-1]
    words[-1] = str(tmp_path / "command.png")
    assert ganzoo(*words[1:]).exit_code == 0
    assert (tmp_path / "command.png").read_bytes() == (tmp_path / "page.png").read_bytes()
    _slide(page, "#move2", 2)
    page.wait_for_selector("#latents:not([hidden])")
    with page.expect_download() as download:
        page.click("#latents")
    assert download.value.suggested_filename in shlex.split(page.text_content("#command"))


def test_neighbours(page: Any) -> None:
    page.click("#find")
    page.wait_for_selector("#neighbours figure:nth-child(8)")
    assert page.locator("#neighbours img").first.get_attribute("alt").startswith("Training image ")
    assert "grey levels" in page.text_content("#neighbours-note")
    before = _picture(page)
    page.click("#random")
    _changed(page, before)
    assert page.get_attribute("#neighbours", "class") == "neighbours stale"


def test_classes(class_page: Any) -> None:
    assert class_page.is_hidden("#truncation-card")
    assert class_page.locator("#classes button").count() == 10
    first = _picture(class_page)
    class_page.click("#classes button:nth-child(8)")
    _changed(class_page, first)
    assert "class 7" in class_page.text_content("#caption")
    assert "--class 7" in class_page.text_content("#command")


def test_keyboard_and_words_for_pictures(page: Any) -> None:
    first = _picture(page)
    page.keyboard.press("n")
    _changed(page, first)
    assert "Seed 1" in page.text_content("#caption")
    page.keyboard.press("p")
    page.wait_for_function("() => document.getElementById('caption').textContent.startsWith('Seed 0')")
    page.keyboard.press("k")
    assert page.locator("#picks .full").count() == 1
    page.focus("#move0")
    before = _picture(page)
    page.keyboard.press("PageUp")
    _changed(page, before)
    assert page.get_attribute("#picture", "alt").startswith("Generated image. Seed 0 · epoch")
    unnamed = """[...document.querySelectorAll('button, input, select, a')].filter(each => !each.hidden
        && !(each.textContent.trim() || each.getAttribute('aria-label') || each.getAttribute('aria-labelledby')
             || each.labels?.length || each.querySelector('img')?.alt)).map(each => each.outerHTML)"""
    assert page.evaluate(unnamed) == []
    missing = '[...document.querySelectorAll(\'img:not([alt]), #gallery img[alt=""], #picture[alt=""]\')].length'
    assert page.evaluate(missing) == 0


def test_hostile_names_stay_text(page: Any) -> None:
    assert page.text_content("#title").endswith("/<b>run & 'co'</b>")
    assert page.locator("#title b").count() == 0


def test_a_phone(browser: Any, addresses: dict[str, str]) -> None:
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
        page = context.new_page()
        page.goto(addresses["cgan"])
        _loaded(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        context.close()
