"""The report as HTML, Markdown, CSV, JSON and LaTeX; the commands `report` and `compare`; the command of a run."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from helpers import ZOO, ganzoo
from making import make_run, score, three_by_two

import ganzoo as package
from ganzoo import Choice, Recipe, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.reports.again import changes, command, needs_file, own_recipe
from ganzoo.reports.page import content_security_policy, page_data, render
from ganzoo.reports.text import plain_data, visible
from ganzoo.reports.writers import board, latex, long_csv, markdown


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_by_two(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def data(runs: Path) -> dict[str, Any]:
    return page_data([runs])


def test_markdown_ranks_by_the_first_score(data: dict[str, Any]) -> None:
    lines = markdown(data).splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert rows == ["architecture", "---", "dcgan", "mlp-vanilla", "mlp-keras-gan"]
    assert "| dcgan | 5.5 ± 0.5" in "\n".join(lines)


def test_csv_has_a_line_for_each_group_and_score(data: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(long_csv(data))))
    assert (rows[0]["architecture"], rows[0]["seeds"], rows[0]["wins"]) == ("dcgan", "0 1 2", "yes")
    assert float(rows[0]["last_mean"]) == 5.5


def test_csv_starts_no_formula(data: dict[str, Any]) -> None:
    groups = [{**group, "label": "=HYPERLINK(1)"} for group in data["groups"]]
    rows = list(csv.DictReader(io.StringIO(long_csv({**data, "groups": groups}))))
    assert rows[0]["architecture"] == "'=HYPERLINK(1)"


def test_latex_is_bold_only_where_the_spread_allows(data: dict[str, Any]) -> None:
    text = latex(data)
    assert re.findall(r"\\textbf\{([^}]*)\}", text) == [r"5.5 $\pm$ 0.5"]
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    near = {**data, "groups": [group for group in data["groups"] if group["label"] != "dcgan"]}
    assert r"\textbf" not in latex(near)  # no other group wins its column


def test_latex_and_markdown_escape_names(data: dict[str, Any]) -> None:
    groups = [{**group, "label": r"a_b & 50% \input{x} <img src=x> | y"} for group in data["groups"]]
    hostile = {**data, "groups": groups}
    assert r"a\_b \& 50\% \textbackslash{}input\{x\}" in latex(hostile)
    assert "<img" not in markdown(hostile)
    assert r"\|" in markdown(hostile)


def test_two_ways_of_measuring_are_two_columns_in_every_format(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=0, scores=(score(5.0),))
    make_run(tmp_path / "b", seed=1, scores=(score(9.0, fakes=200),))
    data = page_data([tmp_path])
    [table] = board(data)
    assert len(table.columns) == 2
    assert any("2 ways" in note for note in table.notes)
    assert [row["digest"] for row in csv.DictReader(io.StringIO(long_csv(data)))] == [
        column["digest"] for column in data["columns"]
    ]


def test_visible_text_and_plain_data() -> None:
    assert visible("a\u202eb\x00\u2066\ud800") == r"a\u202eb\u0000\u2066\ud800"
    assert visible("dos\nlinhas é 猫") == "dos\nlinhas é 猫"
    assert plain_data({"a": float("nan"), "b": (1, None, True)}) == {"a": "nan", "b": [1, None, True]}


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_allows_only_its_own_scripts(data: dict[str, Any]) -> None:
    page = render(data)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    meant = policy[1].replace("&#39;", "'")
    assert meant == content_security_policy(page)
    assert meant.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "unsafe" not in meant
    assert not re.findall(r'(?:src|href)="(?!#|data:,)', page.partition("<script>")[0])
    assert json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["groups"]  # type: ignore[index]


def test_a_live_page_listens_to_its_server_only(data: dict[str, Any]) -> None:
    page = render(data, live=True)
    assert 'EventSource("/events")' in page
    assert "http-equiv" not in page
    policy = content_security_policy(page, live=True)
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert 'EventSource("/events")' not in render(data)


def test_the_plain_table_stands_in_the_page_for_browsers_without_scripts(data: dict[str, Any]) -> None:
    noscript = re.search(r"<noscript>(.*?)</noscript>", render(data), re.DOTALL)
    assert noscript
    assert "5.5 ± 0.5" in noscript[1]


# --- the command that trains a run again ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("mlp-vanilla", {}),
        ("dcgan:width=8", {"batch_size": 32, "length": "3 epochs", "seed": 7}),
        ("dcgan", {"losses": [Choice("hinge"), Choice("r1", {"gamma": 2.0})], "turns": "D,D,G", "ema_half_life": 500}),
        ("dcgan-tutorial", {"discriminator_optimizer": None, "generator_optimizer": Choice("adam", {"lr": 0.001})}),
        ("mlp-vanilla", {"evaluators": [Choice("fid-domain")], "score_every": "100 steps", "score_samples": 300}),
        ("mlp-vanilla", {"batch_order": "replacement", "subset": "first 500", "precision": "bf16", "grid": "2x2"}),
        ("mlp-vanilla", {"reuse_fakes": True}),
    ],
)
def test_the_command_asks_for_the_same_recipe(tmp_path: Path, architecture: str, fields: dict[str, Any]) -> None:
    recipe = plan(ZOO, Choice.parse(architecture), Choice("digits", {"size": 8}), None, fields)
    own = own_recipe(ZOO, recipe, locations=False)
    words = shlex.split(command(own, recipe))
    if needs_file(own, recipe):
        file = tmp_path / "recipe.toml"
        file.write_text(recipe.to_toml())
        words = [str(file) if word == "recipe.toml" else word for word in words]
    result = ganzoo(*words[1:], "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert Recipe.from_dict(json.loads(result.stdout)["recipe"]) == recipe


def test_changes_name_own_value_and_value_of_the_run() -> None:
    recipe = plan(ZOO, Choice("dcgan", {"width": 8}), Choice("digits"), None, {"batch_size": 32})
    own = own_recipe(ZOO, recipe, locations=False)
    assert own
    assert {one["name"]: (one["own"], one["here"]) for one in changes(own, recipe)} == {
        "architecture.width": ("128", "8"),
        "batch_size": ("128", "32"),
    }


def test_an_architecture_in_a_file_is_not_imported_for_its_recipe(tmp_path: Path) -> None:
    recipe = Recipe(architecture=Choice(f"{tmp_path}/bomb.py:Bomb"), dataset=Choice("digits"))
    (tmp_path / "bomb.py").write_text("raise SystemExit('imported')")
    assert own_recipe(ZOO, recipe, locations=False) is None
    assert needs_file(None, recipe)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_report_writes_a_page_and_says_where(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    result = ganzoo("report", runs, "-o", out, "--no-draw", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["path"] == str(out)
    assert out.read_text().startswith("<!doctype html>")
    assert ganzoo("report", runs, "-o", out, "--no-draw").exit_code == 0  # a report replaces a report


@pytest.mark.parametrize("suffix", [".md", ".csv", ".json", ".tex"])
def test_the_suffix_decides_the_format_and_a_report_replaces_its_like(runs: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"x{suffix}"
    for _ in range(2):
        assert ganzoo("report", runs, "-o", out).exit_code == 0
    assert "dcgan" in out.read_text()


@pytest.mark.parametrize("form", ["md", "csv", "json", "latex"])
def test_other_formats_go_to_stdout(runs: Path, form: str) -> None:
    result = ganzoo("report", runs, "--format", form)
    assert result.exit_code == 0
    assert "dcgan" in result.stdout
    if form == "json":
        assert not any("film" in run for run in json.loads(result.stdout)["runs"])


@pytest.mark.parametrize(
    ("out", "words"),
    [("missing/x.html", "no directory"), ("notes.html", "is no html report"), (".", "directory"), ("x.pdf", "suffix")],
)
def test_report_refuses_to_write(runs: Path, tmp_path: Path, out: str, words: str) -> None:
    (tmp_path / "notes.html").write_text("<p>my own notes</p>")
    result = ganzoo("report", runs, "-o", tmp_path / out, "--no-draw")
    assert result.exit_code == 2
    assert words in result.output
    assert (tmp_path / "notes.html").read_text() == "<p>my own notes</p>"


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    result = ganzoo("report", tmp_path, "-o", tmp_path / "x.html")
    assert result.exit_code == 2
    assert "holds no run" in result.output
    assert not (tmp_path / "x.html").exists()


def test_the_python_function_is_callable_although_a_package_has_its_name(runs: Path, tmp_path: Path) -> None:
    assert package.report(runs, out=tmp_path / "a.html", draw=False) == tmp_path / "a.html"
    with pytest.raises(UsageError, match=r"htlm.*Did you mean 'html'"):
        package.report(runs, out=tmp_path / "a.html", format="htlm")


def test_compare_puts_scores_side_by_side(tmp_path: Path) -> None:
    for name, level in (("a", 7.0), ("b", 20.0)):
        again = [score(level + seed / 10, fakes_seed=seed, training=False) for seed in (1, 2)]
        make_run(tmp_path / name, scores=(score(level), *again))
    result = ganzoo("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert result.exit_code == 0, result.output
    [row] = json.loads(result.stdout)["scores"]
    assert [value["last"] for value in row["values"]] == [7.0, 20.0]
    assert row["values"][0]["interval"][0] < 7.1 < row["values"][0]["interval"][1]
    assert row["differences"][0]["winner"] == "first"
    table = ganzoo("compare", tmp_path / "a", tmp_path / "b", "--format", "md")
    assert "worse" in table.stdout
    assert ganzoo("compare", tmp_path / "a", tmp_path / "b", "--format", "csv").stdout.startswith("score,a,b,b - a")


def test_compare_decides_nothing_from_single_values(tmp_path: Path) -> None:
    for name, level in (("a", 7.0), ("b", 20.0)):
        make_run(tmp_path / name, scores=(score(level),))
    found = package.compare(tmp_path / "a", tmp_path / "b")
    assert found[0]["differences"] == [{"delta": 13.0, "interval": None, "spread": None, "winner": ""}]
    assert found.save(tmp_path / "x.html").read_text().startswith("<!doctype html>")
    assert "<table" in found._repr_html_()


def test_compare_keeps_unlike_cards_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores=(score(7.0),))
    make_run(tmp_path / "b", scores=(score(7.0, fakes=200),))
    found = package.compare(tmp_path / "a", tmp_path / "b")
    assert [[value is None for value in row["values"]] for row in found] == [[False, True], [True, False]]
    assert all(row["differences"] == [None] for row in found)


@pytest.mark.parametrize(("names", "words"), [(["a"], "at least two"), (["a", "a"], "twice"), (["a", "."], "single")])
def test_compare_refuses(tmp_path: Path, names: list[str], words: str) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    result = ganzoo("compare", *(tmp_path / name for name in names))
    assert result.exit_code == 2
    assert words in result.output
