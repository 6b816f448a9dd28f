"""Trained generators: drawn from offline, their scores held, found by name, also those of other distributions."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ZOO, ganzoo

import ganzoo as gz
from ganzoo.contract.choice import Choice
from ganzoo.registry.zoo import Zoo
from ganzoo.registry.zoo import zoo as zoo_of_process
from ganzoo.results import pretrained
from ganzoo.results.load import open_run

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from make_pretrained import make  # noqa: E402

MEMBERS = [member.name for member in ZOO.pretrained()]
#: folder below the data folder -> datasets whose images are needed to score a member
_ARCHIVES = ("mnist", "fashion-mnist")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect fails."""

    def refuse(*arguments: object) -> None:
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member made by the maintainer's script: tiny/digits, of a short run."""
    folder = tmp_path_factory.mktemp("made")
    gz.train("mlp-vanilla", "digits:size=8", options={"width": 8}, steps=2, out=folder / "run", quiet=True)
    return make(folder / "run", "tiny/digits", [Choice("sliced-wasserstein")], 40, "apache-2.0", folder / "members")


class Offering:
    """A plugin that offers members."""

    def __init__(self, *members: gz.Pretrained) -> None:
        self.members = members

    @gz.hookimpl
    def ganzoo_pretrained(self) -> Any:
        return self.members


@pytest.fixture
def installed(member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    """The zoo of this process, in which another distribution offers `tiny/digits`."""
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(member, tmp_path / "their_package" / "members" / "tiny")
    (tmp_path / "their_package" / "__init__.py").touch()
    zoo = zoo_of_process()
    zoo.manager.register(Offering(gz.Pretrained("tiny/digits", "their_package:members/tiny")), "their-package")
    yield zoo
    zoo.manager.unregister(name="their-package")
    sys.modules.pop("their_package", None)


def test_members_are_shipped() -> None:
    assert any(name.endswith("/digits") for name in MEMBERS)
    assert len(MEMBERS) == len(set(MEMBERS))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_draws_offline_and_holds_its_score(name: str, offline: None, shared_data: Path | None) -> None:
    run = gz.load(f"pretrained:{name}")
    images = run.sample(32).tensor
    assert images.dtype == torch.uint8
    assert images.float().std() > 20  # no grey tiles
    assert len({image.numpy().tobytes() for image in images}) == 32
    first = next(line for line in run.scores if line["score"] == "fid-domain")
    measure = first["card"]["measure"]
    (again,) = run.evaluate("fid-domain", samples=measure["fakes"], protocol=first["card"]["protocol"])
    assert again["card"]["digest"] == first["card"]["digest"]
    assert again["value"] == pytest.approx(first["value"], rel=0.02)


@pytest.fixture
def shared_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """The real archives, for members of MNIST and Fashion-MNIST; a member of digits needs none."""
    name = request.node.callspec.params.get("name", "")
    if name.rpartition("/")[2] not in _ARCHIVES:
        return None
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "MNIST" / "raw").is_dir():
        pytest.skip(f"no archives in {folder}")
    monkeypatch.setenv("GANZOO_DATA", str(folder))
    return folder


def _with_later_options(trained: Any, again: Any) -> Any:
    """A part of a card with the options that it has been given since, which the command leaves at their defaults."""
    if not isinstance(trained, dict) or not isinstance(again, dict):
        return trained
    return {**trained, "options": {**again.get("options", {}), **trained.get("options", {})}}


@pytest.mark.parametrize("name", MEMBERS)
def test_the_card_of_a_member(name: str) -> None:
    run = open_run(Path(f"pretrained:{name}"), ZOO)
    card = json.loads(ZOO_FOLDER.joinpath(name, "card.json").read_text())
    assert card["dtype"] == "float16"
    assert card["license"] == "apache-2.0"
    assert card["command"].startswith("ganzoo train ")
    assert card["scores"]
    assert run.recipe.architecture is not None
    result = ganzoo(*card["command"].split()[1:], "--dry-run", "--json")
    assert result.exit_code == 0
    again, trained = json.loads(result.output)["recipe"], card["recipe"]
    # what is shown, saved and measured changes no weight, and the command leaves it out
    free = {"observers", "evaluators", "tick_every", "samples_every", "checkpoint_every", "score_every", "grid"}
    later = {name: _with_later_options(trained[name], again[name]) for name in trained}
    assert {name for name in trained if again[name] != later[name]} <= free


ZOO_FOLDER = ROOT / "plugins" / "ganzoo_plugins" / "pretrained"


# --- a member of another distribution ---------------------------------------------------------------------------


def test_a_member_is_used_like_a_run(
    installed: Zoo, member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ganzoo("sample", "pretrained:tiny/digits", "-n", 4)
    assert result.exit_code == 0, result.output
    picture = Path("pretrained/tiny-digits/sample-0-4.png")
    assert result.output.strip() == str(picture)
    assert picture.is_file()
    result = ganzoo("evaluate", "pretrained:tiny/digits", "-e", "sliced-wasserstein", "--samples", 40, "--json")
    assert result.exit_code == 0, result.output
    assert "are not kept" in result.output
    found = json.loads(result.stdout)["scores"][0]
    assert found["value"] == json.loads((member / "card.json").read_text())["scores"][0]["value"]
    out = gz.export("pretrained:their-package/tiny/digits", tmp_path / "out")
    assert torch.equal(gz.load(out).sample(4).tensor, gz.load("pretrained:tiny/digits").sample(4).tensor)


def test_the_list_has_scores_and_commands(installed: Zoo) -> None:
    result = ganzoo("list", "pretrained", "tiny*")
    assert result.exit_code == 0, result.output
    for words in ("pretrained:tiny/digits", "sliced-wasserstein", "ganzoo train mlp-vanilla digits:size=8 -o width=8"):
        assert words in result.output
    assert "tiny/digits" in ganzoo("list").output
    (found,) = gz.list("pretrained", "tiny*")
    assert found["id"] == "their-package/tiny/digits"
    assert found["scores"][0]["card"]["measure"]["fakes"] == 40
    assert "No trained generator matches" in ganzoo("list", "pretrained", "nothing").output
    assert ganzoo("list", "pretraned").exit_code == 2
    assert "Did you mean 'pretrained'" in ganzoo("list", "pretraned").output


@pytest.mark.parametrize("command", ["sample", "evaluate", "export", "resume"])
def test_a_misspelt_name_says_what_was_meant(command: str, installed: Zoo) -> None:
    result = ganzoo(command, "pretrained:tiny/digts")
    assert result.exit_code == 2
    assert "Did you mean 'tiny/digits'" in result.output


def test_a_member_cannot_be_resumed_or_replayed(installed: Zoo) -> None:
    for command in (("resume",), ("replay", "--step", 1)):
        result = ganzoo(*command, "pretrained:tiny/digits")
        assert result.exit_code == 2
        assert "`ganzoo list pretrained`" in result.output


def test_an_installation_as_a_zip_archive(member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "their.zip", "w") as archive:
        archive.writestr("zipped_package/__init__.py", "")
        for name in ("card.json", "generator.safetensors"):
            archive.write(member / name, f"zipped_package/members/{name}")
    monkeypatch.syspath_prepend(tmp_path / "their.zip")
    zoo = Zoo([])
    zoo.manager.register(Offering(gz.Pretrained("a/b", "zipped_package:members")), "zipped")
    assert pretrained.open_pretrained(zoo, "a/b").card["dtype"] == "float16"
    zoo.manager.register(Offering(gz.Pretrained("c/d", "no_such_package_here:x")), "missing")
    with pytest.raises(gz.GanzooError, match="reinstall missing"):
        pretrained.open_pretrained(zoo, "c/d")


def test_names_of_two_distributions_need_the_whole_id() -> None:
    zoo = Zoo([])
    for owner in ("one", "two"):
        zoo.manager.register(Offering(gz.Pretrained("a/b", f"{owner}:members")), owner)
    with pytest.raises(gz.UsageError, match="write the full name, pretrained:one/a/b and pretrained:two/a/b"):
        pretrained.find(zoo, "a/b")
    assert pretrained.find(zoo, "two/a/b").distribution == "two"


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (gz.Pretrained("a", "p:f"), "is not architecture/dataset"),
        (gz.Pretrained("A/b", "p:f"), "is not architecture/dataset"),
        (gz.Pretrained("a/b", "p"), "is not package.module:folder"),
        (1, "ganzoo_pretrained returns int, not ganzoo.Pretrained"),
    ],
)
def test_what_a_plugin_offers_is_checked(offered: Any, expected: str) -> None:
    zoo = Zoo([])
    zoo.manager.register(Offering(offered), "bad")
    assert not zoo.pretrained()
    (error,) = zoo.plugins["bad"].errors
    assert expected in error


def test_an_edited_member_is_refused(installed: Zoo, tmp_path: Path) -> None:
    file = tmp_path / "their_package" / "members" / "tiny" / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    result = ganzoo("sample", "pretrained:tiny/digits", "-o", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "is not the file that its card names" in result.output
    assert ganzoo("sample", "pretrained:tiny/digits", "--at", 3, "-o", tmp_path / "x.png").exit_code == 2
