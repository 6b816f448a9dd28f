"""ganzoo plugins new: the files work without an edit, and no file is overwritten."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ganzoo
from ganzoo import Choice, UsageError
from ganzoo.cli.plugins_new import _class_name, _versions, new
from ganzoo.contract.hooks import KINDS
from ganzoo.registry.describe import summary
from ganzoo.registry.zoo import Zoo

ROOT = Path(__file__).parents[2]
GROUPS = {base.lower(): group for group, base in KINDS.items()}


def generate(name: str, kind: str, *where: Any) -> Result:
    return CliRunner().invoke(new, [name, *map(str, where), "--kind", kind])


@pytest.mark.parametrize("kind", GROUPS)
def test_every_kind_is_a_whole_plugin(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = generate("my-own", kind)
    assert result.exit_code == 0, result.output
    folder = Path("ganzoo-my-own")
    files = ["pyproject.toml", "ganzoo_my_own.py", "test_ganzoo_my_own.py", "README.md"]
    assert result.stdout.splitlines() == [str(folder / file) for file in files]
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    assert "pip install -e ganzoo-my-own" in result.stderr
    assert "ganzoo plugins check my-own" in result.stderr
    for file in files:
        assert "$" not in (folder / file).read_text()

    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {f"ganzoo.{GROUPS[kind]}": {"my-own": "ganzoo_my_own:MyOwn"}}
    assert project["dependencies"] == [f"torch-ganzoo{_versions(ganzoo.__version__)}"]

    notes: list[str] = []
    zoo = Zoo([], notes.append)
    choice = Choice(str(folder / "ganzoo_my_own.py") + ":MyOwn")
    zoo.build(GROUPS[kind], choice)
    assert not notes
    body = ast.parse((folder / "ganzoo_my_own.py").read_text()).body
    assert any(isinstance(node, ast.ClassDef) and ast.get_docstring(node) for node in body)
    assert f"ganzoo_api = {ganzoo.API_VERSION}" in (folder / "ganzoo_my_own.py").read_text()
    test = (folder / "test_ganzoo_my_own.py").read_text().splitlines()
    assert test[-1] == "test_my_own = ganzoo.testing.conformance(MyOwn)"


def test_what_is_written_passes_the_linter(tmp_path: Path) -> None:
    for kind in GROUPS:
        generate(f"my-{kind}", kind, tmp_path / kind)
        for words in (["check", "--select", "E,F,I,B,UP"], ["format", "--check"]):
            command = [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length", "120"]
            done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / kind)
            assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    result = generate("my-own", "loss", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).startswith(f"{tmp_path / 'README.md'} is there already")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_with_other_files_is_fine(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine")
    assert generate("my-own", "loss", tmp_path).exit_code == 0
    again = generate("my-own", "dataset", tmp_path)
    assert "is there already" in str(again.exception)


@pytest.mark.parametrize("name", ["My-Own", "my_own", "-own", "own-", "a--b", "", "a b", "../own", "ö", "plugins"])
def test_a_bad_name_is_refused(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(new, ["--kind", "loss", "--", name, str(tmp_path / "x")])
    assert isinstance(result.exception, UsageError)
    assert repr(name) in str(result.exception)
    assert not (tmp_path / "x").exists()


def test_a_kind_is_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(new, ["own", str(tmp_path)])
    assert result.exit_code == 2
    assert "Missing option '--kind'" in result.output
    unknown = generate("own", "discriminator", tmp_path).exception
    assert isinstance(unknown, UsageError)
    assert "The kinds are: architectures, " in str(unknown)
    assert not list(tmp_path.iterdir())


def test_a_kind_may_be_in_the_plural(tmp_path: Path) -> None:
    for kind in ("loss", "losses"):
        assert generate("own", kind, tmp_path / kind).exit_code == 0
    one, several = (sorted(path.read_bytes() for path in (tmp_path / kind).iterdir()) for kind in ("loss", "losses"))
    assert one == several


def test_a_short_name_that_is_taken_is_said(tmp_path: Path) -> None:
    result = generate("hinge", "loss", tmp_path)
    assert result.exit_code == 0
    assert "torch-ganzoo/hinge has the same short name" in result.stderr
    assert "--loss ganzoo-hinge/hinge" in result.stderr


def test_names_become_classes() -> None:
    names = {"soft-margin": "SoftMargin", "3d": "Loss3d", "none": "LossNone", "r1-x": "R1X"}
    assert {name: _class_name(name, "loss") for name in names} == names


def test_the_range_of_versions_is_the_one_that_holds() -> None:
    versions = {"0.1.0": ">=0.1,<0.2", "0.12.3.dev1": ">=0.12,<0.13", "2.3.1": ">=2.3,<3"}
    assert {version: _versions(version) for version in versions} == versions


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from ganzoo.cli.plugins_new import new; "
        f"new(['x', {str(tmp_path)!r}, '--kind', 'loss'], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- with a real pip ---


class Fresh:
    """A new virtual environment with a real pip. The test below says which packages it shares."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.python = folder / "bin" / "python"
        self.folder = folder
        paths = json.loads(self("-c", "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"))
        outer = sysconfig.get_paths()["purelib"]
        # addsitedir, since projects that are installed editable there are .pth files themselves
        Path(paths["purelib"], "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")

    def __call__(self, *words: Any) -> str:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        command = [str(self.python), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ganzoo(self, *words: Any) -> str:
        return self("-m", "ganzoo", *words)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    fresh = Fresh(tmp_path_factory.mktemp("fresh") / "venv")
    # hatchling builds the plugins, and needs editables for an editable installation
    builders = subprocess.run([fresh.python, "-c", "import editables, hatchling"], capture_output=True)
    if builders.returncode:
        command = [fresh.python, "-m", "pip", "install", "--quiet", "hatchling>=1.26", "editables"]
        builders = subprocess.run(command, capture_output=True)
    if builders.returncode:
        pytest.skip("hatchling and editables, which build the plugins, are not installed and cannot be installed")
    plugins = fresh.folder / "plugins"
    for kind in GROUPS:
        fresh.ganzoo("plugins", "new", f"my-{kind}", plugins / kind, "--kind", kind)
    editable = [word for folder in [*plugins.iterdir(), ROOT / "examples" / "ganzoo-hello"] for word in ("-e", folder)]
    fresh("-m", "pip", "install", "--no-deps", "--no-build-isolation", *editable)
    return fresh


SMALL = ("--steps", "2", "--batch-size", "4", "-q")


@pytest.mark.slow
@pytest.mark.parametrize("kind", GROUPS)
def test_from_new_to_use_with_a_real_pip(kind: str, fresh: Fresh) -> None:
    """Generate, install, list, check, run its own test and use it, without an edit.

    The virtual environment, its pip and everything that pip installs are new. torch-ganzoo and its dependencies come
    from the environment of these tests through a .pth file, since another torch would need gigabytes. So pip fetches no
    dependencies and builds with the hatchling that is installed here.
    """
    name, group = f"my-{kind}", GROUPS[kind]
    listed = json.loads(fresh.ganzoo("list", group, "--json"))["parts"]
    (part,) = [part for part in listed if part["name"] == name]
    assert part["id"] == f"ganzoo-{name}/{name}"
    assert part["version"] == "0.1.0"
    assert part["description"]
    fresh.ganzoo("plugins", "check", name)
    fresh("-m", "pytest", "-q", fresh.folder / "plugins" / kind)
    use(fresh, kind, name)


def use(fresh: Fresh, kind: str, name: str) -> None:
    words = {
        "architecture": (name, "digits"),
        "dataset": ("mlp-vanilla", name),
        "optimizer": ("mlp-vanilla", "digits", "--generator-optimizer", name),
        "extractor": ("mlp-vanilla", "digits"),
        "evaluator": ("mlp-vanilla", "digits"),
    }.get(kind, ("mlp-vanilla", "digits", f"--{kind}", name))
    out = fresh.folder / "runs" / kind
    fresh.ganzoo("train", *words, *SMALL, "--out", out)
    assert len((out / "stats.jsonl").read_text().splitlines()) == 1
    if kind == "evaluator":
        fresh.ganzoo("evaluate", out, "-e", name, "--samples", "20")
        (line,) = map(json.loads, (out / "scores.jsonl").read_text().splitlines())
        assert line["score"] == name
    if kind == "extractor":
        fresh.ganzoo("show", name)
    if kind == "observer":
        assert "drew" in (out / "diary.txt").read_text()


@pytest.mark.slow
def test_the_example_plugin_is_one(fresh: Fresh) -> None:
    fresh("-m", "pytest", "-q", ROOT / "examples" / "ganzoo-hello", "-p", "no:cacheprovider")
    fresh.ganzoo("train", "hello", "digits", *SMALL, "--recipe", "margin", "--out", fresh.folder / "runs" / "hello")
    assert "ganzoo-hello" in fresh.ganzoo("plugins")


def test_the_example_plugin_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "examples" / "ganzoo-hello"
    monkeypatch.syspath_prepend(folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == [f"torch-ganzoo{_versions(ganzoo.__version__)}"]
    for group, parts in project["entry-points"].items():
        for name, target in parts.items():
            assert summary(ganzoo.Component(group.removeprefix("ganzoo."), name, target))
