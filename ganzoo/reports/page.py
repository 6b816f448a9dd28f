"""The page of a report: its data, the HTML, and its Content-Security-Policy.

`page_data` reads runs, `render` writes one HTML file that needs no network. The data stand in it as JSON, which is no
code; the scripts build everything from text nodes. `render(data, live=True)` is for a page that a server keeps up to
date: it listens to /events, and reads /data.json again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import Recipe
from ganzoo.reports.again import changes, command, needs_file, own_recipe
from ganzoo.reports.collect import collect
from ganzoo.reports.compare import RULE
from ganzoo.reports.leaderboard import columns_of, differences_of, groups_of
from ganzoo.reports.model import Report, RunRecord
from ganzoo.reports.sprites import film, forget_films
from ganzoo.reports.text import plain_data
from ganzoo.results.report.tables import FACTOR

#: the scripts of a page, in this order
_SCRIPTS = (
    "uPlot.iife.min.js",
    "dom.js",
    "pictures.js",
    "calibration.js",
    "board.js",
    "runs.js",
    "compare.js",
    "page.js",
)
_STYLES = ("uPlot.min.css", "page.css")
#: frames of a film, and bytes of all films, of a report of few or of many runs
_FRAMES, _FEW_FRAMES, _MANY_RUNS = 60, 20, 40
_FILM_BYTES = 14 << 20


def page_data(paths: Sequence[Path]) -> dict[str, Any]:
    """The data of the page of all runs and benchmarks below `paths`, as plain JSON values; nothing is drawn anew.

    Raises UsageError for a path below which there is no run.
    """
    return data_of(gather(paths))


def gather(paths: Sequence[Path], locations: bool = False, films: bool = True) -> Report:
    """Everything below `paths`, read. `locations`: also import architectures in files, to know their own recipe.

    Without `films` the sample grids are not read, which takes a third of the time.
    """
    runs, failures, reals = collect(paths)
    _add_recipes(runs, locations)
    if films:
        _add_films(runs)
    columns = columns_of(runs, reals)
    groups = groups_of(runs, failures, columns)
    return Report(runs, groups, columns, failures, differences_of(groups, columns), [str(path) for path in paths])


def data_of(report: Report) -> dict[str, Any]:
    """A report as plain JSON values, in which every text is visible as it is."""
    facts = plain_data(report)
    return {
        "schema": 1,
        "title": "GAN report",
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "ganzoo": version("torch-ganzoo"),
        "rule": RULE,
        "factor": FACTOR,
        **facts,
    }


def _add_recipes(runs: Sequence[RunRecord], locations: bool) -> None:
    """Add to each run how its recipe differs from the architecture's own, and the command that trains it again."""
    from ganzoo.registry.zoo import zoo

    known: dict[tuple[str, str], Recipe | None] = {}
    for run in runs:
        recipe = Recipe.from_dict(run.recipe)
        key = str(recipe.architecture and recipe.architecture.name), str(recipe.dataset)
        if key not in known:
            known[key] = own_recipe(zoo(), recipe, locations)
        own = known[key]
        run.changes = None if own is None else changes(own, recipe)
        run.command = command(own, recipe)
        if needs_file(own, recipe):
            run.toml = recipe.to_toml()


def _add_films(runs: Sequence[RunRecord]) -> None:
    frames = _FRAMES if len(runs) <= _MANY_RUNS else _FEW_FRAMES
    for run in runs:
        if run.shape:
            try:
                shape = Recipe.from_dict(run.recipe).grid_shape
                budget = min(1 << 20, _FILM_BYTES // len(runs))
                run.film = film(_samples(run), run.shape, shape, frames, budget) or None
            except (GanzooError, OSError, ValueError, MemoryError) as error:
                run.notes.append(f"The sample grids cannot be shown: {error}")
    forget_films(but=[_samples(run) for run in runs])


def _samples(run: RunRecord) -> Path:
    return Path(run.path) / "samples"


def render(data: Mapping[str, Any], live: bool = False) -> str:
    """The HTML page of `page_data`, one file that loads nothing.

    With `live` it follows the server that it came from, and the policy is left to the server's header.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_static("page.html"))
    names = [*_SCRIPTS, *(["live.js"] if live else [])]
    scripts = [_script(_static(name)) for name in names]
    style = "\n".join(map(_static, _STYLES))
    return template.render(
        title=data.get("title", "GAN report"),
        policy="" if live else _policy(scripts, [style], live=False),
        style=_Markup(style),
        scripts=[_Markup(script) for script in scripts],
        data=_Markup(_json(data)),
        board=_plain_board(data),
    )


def content_security_policy(page: str, live: bool = False) -> str:
    """The policy of a page that `render` made, as the value of a header: only its own scripts and style may run.

    A live page may also fetch from its own server, and no other page may frame it.
    """
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    return _policy(scripts, styles, live)


def _policy(scripts: Sequence[str], styles: Sequence[str], live: bool) -> str:
    parts = [
        "default-src 'none'",
        "img-src data:",
        f"script-src {' '.join(map(_hash, scripts))}",
        f"style-src {' '.join(map(_hash, styles))}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*parts, "connect-src 'self'", "frame-ancestors 'none'"] if live else parts)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache
def _static(name: str) -> str:
    """A file that comes with the package, with newlines as browsers read them."""
    text = files("ganzoo.reports").joinpath("static", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _script(text: str) -> str:
    return text.replace("</script", "<\\/script")


def _json(data: Mapping[str, Any]) -> str:
    """JSON that can stand between the tags of a script: no tag, comment or entity can begin in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _Markup(text: str) -> Any:
    """Text that Jinja does not escape: our own files, and JSON that `_json` has escaped."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704


def _plain_board(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The leaderboard as texts, for browsers that run no scripts."""
    from ganzoo.reports.writers import board

    return [{"title": table.title, "head": table.head, "rows": table.rows} for table in board(data)]
