"""The zoo finds parts by name, explains a missing name, and works with broken, disabled and clashing plugins."""

from __future__ import annotations

import errno
import inspect
import os
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

import pytest

import ganzoo
from ganzoo import Choice, Component, GanzooError, UsageError
from ganzoo.contract.hooks import KINDS
from ganzoo.contract.paths import is_directory, is_file
from ganzoo.registry import guard
from ganzoo.registry.describe import faults, parts_of_file, summary
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.run import Run

LOSS = '''
"""Losses."""
from typing import Annotated
import click
import ganzoo

class Quadratic(ganzoo.Loss):
    """The square of the logits.

    And more about it.
    """

    def __init__(self, *, weight: Annotated[float, click.FloatRange(min=0)] = 1.0, power: int = 2) -> None:
        super().__init__()
        if power > 9:
            raise {error}
        self.weight, self.power = weight, power

    def discriminator(self, round):
        return self.weight * round.real_logits.pow(self.power).mean()

    def generator(self, round):
        return self.weight * round.fake_logits.pow(self.power).mean()

class Half(ganzoo.Loss):
    def discriminator(self, round):
        return round.real_logits.mean()

class Stranger:
    pass

function = print
'''


class Shelf:
    """A folder of installed distributions, as a package manager would leave them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def install(self, name: str, points: Mapping[str, Mapping[str, str]], version: str = "1.0") -> None:
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group, entries in points.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def module(self, text: str) -> str:
        """A module of a name that nothing else has."""
        self.count += 1
        name = f"shelved_{abs(hash(str(self.path))) % 10**9}_{self.count}"
        (self.path / f"{name}.py").write_text(text)
        return name

    def zoo(self) -> Zoo:
        return Zoo(sources=list(distributions(path=[str(self.path)])))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Shelf(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith(("shelved_", "ganzoo_location_")):
            del sys.modules[name]


def test_a_part_is_imported_and_checked_once(shelf, quadratic, monkeypatch):
    from ganzoo.registry import zoo as module

    imported = []
    for name in ("load_target", "load_location"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *words, real=real: imported.append(words[0]) or real(*words))
    (shelf.path / "mine.py").write_text(LOSS.replace("{error}", "ValueError()"))
    zoo = shelf.zoo()
    for choice in (Choice("quadratic"), Choice("some-extra/quadratic"), Choice(f"{shelf.path}/mine.py:Quadratic")):
        zoo.resolve("losses", choice)
        zoo.build("losses", choice)
        zoo.load("losses", choice)
    assert imported == [f"{quadratic}:Quadratic", f"{shelf.path}/mine.py:Quadratic"]


@pytest.fixture
def quadratic(shelf: Shelf) -> str:
    name = shelf.module(LOSS.replace("{error}", 'ValueError("too high")'))
    shelf.install("Some_Extra", {"ganzoo.losses": {"quadratic": f"{name}:Quadratic"}, "console_scripts": {"x": "y:z"}})
    return name


# --- names ---


def test_the_installed_zoo_has_every_declared_part_and_no_error():
    zoo = Zoo()
    own = zoo.plugins["torch-ganzoo"]
    assert not own.errors
    assert own.version == ganzoo.__version__
    for kind in KINDS:
        assert zoo.names(kind) == sorted(zoo.names(kind))
        for component in zoo.components(kind):
            assert issubclass(zoo.load(kind, Choice(component.id)), getattr(ganzoo, KINDS[kind])), component.id
            assert summary(component), component.id


def test_a_short_name_and_a_full_id_find_the_same_part(shelf, quadratic):
    zoo = shelf.zoo()
    assert zoo.names("losses") == ["quadratic"]
    assert zoo.names("datasets") == []
    (component,) = zoo.components("losses")
    assert component == Component("losses", "quadratic", f"{quadratic}:Quadratic", "some-extra", "1.0")
    assert zoo.find("losses", "quadratic") == zoo.find("losses", "some-extra/quadratic") == component
    assert zoo.provenance("losses", Choice("quadratic")) == {
        "id": "some-extra/quadratic",
        "version": "1.0",
        "target": f"{quadratic}:Quadratic",
    }


def test_listing_and_summaries_import_nothing(shelf, quadratic):
    component = shelf.zoo().find("losses", "quadratic")
    assert summary(component) == "The square of the logits."
    assert quadratic not in sys.modules


@pytest.mark.parametrize("target", ["no_such_module:X", "shelved_none.inner:X", "json:NoSuchClass", "json", "", ":X"])
def test_what_has_no_summary_has_an_empty_one(target):
    assert summary(Component("losses", "x", target)) == ""


def test_a_summary_of_a_class_in_a_package(shelf):
    package = shelf.path / "shelved_package"
    package.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("imported")\nclass Top:\n    """At the top."""\n')
    (package / "inner.py").write_text('class Deep:\n    """Deep down."""\nclass Silent: ...\n')
    (package / "broken.py").write_text("class Deep(:\n")
    found = [summary(Component("losses", "x", f"shelved_package{target}")) for target in (":Top", ".inner:Deep")]
    assert found == ["At the top.", "Deep down."]
    assert not summary(Component("losses", "x", "shelved_package.inner:Silent"))
    assert not summary(Component("losses", "x", "shelved_package.broken:Deep"))


def test_a_miss_names_near_ones_the_kind_and_the_broken_plugin(shelf, quadratic):
    with pytest.raises(UsageError, match=r"There is no loss 'quadratik'\. Did you mean 'quadratic'\? See `ganzoo list"):
        shelf.zoo().find("losses", "quadratik")
    with pytest.raises(UsageError, match=r"There is no dataset 'quadratic'\. It is one of the losses\."):
        shelf.zoo().find("datasets", "quadratic")
    with pytest.raises(UsageError, match=r"There is no loss 'zzz'\. Known: quadratic\."):
        shelf.zoo().find("losses", "zzz")
    shelf.install("broken", {"ganzoo": {"all": shelf.module("import no_such_library")}})
    with pytest.raises(UsageError, match=r"A plugin failed to load: broken: module .*no_such_library"):
        shelf.zoo().find("losses", "zzz")


def test_two_third_parties_of_one_name_need_the_full_id(shelf, quadratic):
    shelf.install("another", {"ganzoo.losses": {"quadratic": f"{quadratic}:Half"}})
    zoo = shelf.zoo()
    with pytest.raises(UsageError, match="write the full id, another/quadratic and some-extra/quadratic"):
        zoo.find("losses", "quadratic")
    assert zoo.find("losses", "another/quadratic").target.endswith("Half")
    assert zoo.find("losses", "some-extra/quadratic").target.endswith("Quadratic")
    assert zoo.names("losses") == ["quadratic"]


def test_a_first_party_name_never_changes_meaning(shelf, quadratic):
    shelf.install("torch-ganzoo", {"ganzoo.losses": {"quadratic": f"{quadratic}:Half"}})
    assert shelf.zoo().find("losses", "quadratic").id == "torch-ganzoo/quadratic"
    assert shelf.zoo().find("losses", "some-extra/quadratic").id == "some-extra/quadratic"


def test_of_two_installations_of_one_distribution_the_first_counts(shelf, quadratic):
    shelf.install("some-extra", {"ganzoo.losses": {"quadratic": f"{quadratic}:Half"}}, version="2.0")
    assert len(shelf.zoo().components("losses")) == 1


def test_invalid_names_and_groups_are_errors_of_the_plugin(shelf, quadratic):
    shelf.install("odd", {"ganzoo.loses": {"a": "b:C"}, "ganzoo.losses": {"Not_A_Name": "b:C", "fine": "b:C"}})
    zoo = shelf.zoo()
    assert zoo.names("losses") == ["fine", "quadratic"]
    assert zoo.plugins["odd"].errors == [
        "the kind 'loses' is unknown. Did you mean 'losses' or 'observers'?",
        "losses: the name 'Not_A_Name' is not made of a-z, 0-9 and single dashes",
    ]


def test_disabled_plugins_are_known_and_left_out(shelf, quadratic, monkeypatch):
    shelf.install("loud", {"ganzoo": {"all": shelf.module("raise RuntimeError('imported')")}})
    monkeypatch.setenv("GANZOO_DISABLE", "Some.Extra, loud")
    zoo = shelf.zoo()
    assert zoo.components("losses") == []
    assert {name: plugin.disabled for name, plugin in zoo.plugins.items()} == {"some-extra": True, "loud": True}
    assert not zoo.plugins["loud"].errors
    assert [component.name for component in zoo.plugins["some-extra"].components] == ["quadratic"]
    with pytest.raises(UsageError, match="Disabled by GANZOO_DISABLE: "):
        zoo.find("losses", "quadratic")


# --- parts computed at run time ---

DYNAMIC = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_components():
    return [ganzoo.Component("losses", name, "{module}:Quadratic") for name in {names}]
"""


def test_a_module_offers_parts_at_run_time(shelf, quadratic):
    names = ["second", "third"]
    module = shelf.module(DYNAMIC.format(module=quadratic, names=names))
    shelf.install("dynamic", {"ganzoo": {"all": module}, "ganzoo.losses": {"first": f"{quadratic}:Quadratic"}})
    zoo = shelf.zoo()
    ids = [component.id for component in zoo.components("losses")]
    assert ids == ["dynamic/first", "some-extra/quadratic", "dynamic/second", "dynamic/third"]
    assert zoo.build("losses", Choice("third", {"power": "3"})).power == 3


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "x = 3",
            "it has no function ganzoo_components or ganzoo_commands or ganzoo_pretrained marked @ganzoo.hookimpl",
        ),
        (
            "def ganzoo_components(): return []",
            "it has no function ganzoo_components or ganzoo_commands or ganzoo_pretrained marked @ganzoo.hookimpl",
        ),
        (
            "import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_components(): return [3]",
            "ganzoo_components returns int, not ganzoo.Component",
        ),
        (
            "import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_components(): return 3",
            "TypeError: 'int' object is not iterable",
        ),
        ("import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_components(x): return []", "Argument(s) {'x'} are declared"),
        ("import ganzoo\n@ganzoo.hookimpl\ndef on_tick(run): pass", "Only an observer has this hook"),
        ("import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_components(): 1 / 0", "ZeroDivisionError: division by zero"),
        ("import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_component(): return []", "unknown hook 'ganzoo_component'"),
        (DYNAMIC.format(module="x", names=["Bad Name"]), "losses: the name 'Bad Name' is not made of"),
        (DYNAMIC.format(module="x", names=["twice", "twice"]), "losses: the name 'twice' is offered twice"),
        (DYNAMIC.replace('"losses"', '"loses"').format(module="x", names=["x"]), "kind 'loses' is unknown"),
    ],
)
def test_a_broken_module_is_named_with_its_cause_and_all_else_works(shelf, quadratic, text, cause):
    module = shelf.module(text)
    shelf.install("broken", {"ganzoo": {"all": module}, "ganzoo.losses": {"sound": f"{quadratic}:Quadratic"}})
    zoo = shelf.zoo()
    assert {"quadratic", "sound"} <= set(zoo.names("losses"))
    assert zoo.load("losses", Choice("sound")).__name__ == "Quadratic"
    (error,) = zoo.plugins["broken"].errors
    assert error.startswith((f"module {module}: ", "losses: ", "the kind "))
    assert cause in error


# --- distributions that are not whole ---


@pytest.mark.parametrize(
    "files",
    [
        {"entry_points.txt": "[ganzoo.losses]\nx = y:Z\n"},
        {"METADATA": "Name: half\nVersion: 1\n", "entry_points.txt": "[ganzoo.losses]\nno equals sign\n"},
        {"METADATA": "Version: 1\n", "entry_points.txt": "[ganzoo.losses]\nx = y:Z\n"},
        {"METADATA": "Name: half\n", "entry_points.txt": "[ganzoo.losses]\nx = y:Z\n"},
        {},
    ],
    ids=["no metadata", "no entry points", "no name", "no version", "empty"],
)
def test_a_half_removed_distribution_does_no_harm(shelf, quadratic, files):
    """Such folders exist in real environments, and most of them belong to other packages."""
    info = shelf.path / "half-1.dist-info"
    info.mkdir()
    for name, text in files.items():
        (info / name).write_text(text)
    zoo = shelf.zoo()
    assert "quadratic" in zoo.names("losses")
    assert zoo.load("losses", Choice("quadratic")).__name__ == "Quadratic"


# --- loading and building ---


@pytest.mark.parametrize(
    ("text", "attribute", "cause"),
    [
        ("import no_such_library", "X", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = 1\nclass X(:", "X", "cannot be loaded: SyntaxError: invalid syntax"),
        ("import sys; sys.exit('bye')", "X", "cannot be loaded: SystemExit: bye"),
        ("x = 1\n\n1 / 0", "X", "cannot be loaded: ZeroDivisionError: division by zero"),
        (LOSS, "Nothing", "cannot be loaded: AttributeError"),
        (LOSS, "Stranger", "is not a ganzoo.Loss"),
        (LOSS, "function", "is not a ganzoo.Loss"),
        (LOSS, "Half", "is not complete: it does not define generator"),
    ],
)
def test_a_part_that_cannot_be_had_is_named_with_its_cause(shelf, quadratic, text, attribute, cause):
    module = shelf.module(text)
    shelf.install("faulty", {"ganzoo.losses": {"bad": f"{module}:{attribute}"}})
    zoo = shelf.zoo()
    with pytest.raises(GanzooError, match=r"faulty/bad") as error:
        zoo.load("losses", Choice("bad"))
    assert cause in str(error.value)
    assert "\n" not in str(error.value)
    if "cannot" in cause and text != LOSS:
        assert f"{module}.py, line {text.count(chr(10)) + 1})" in str(error.value)
    assert zoo.load("losses", Choice("quadratic")).__name__ == "Quadratic"


def test_a_dataset_is_no_loss():
    zoo = Zoo()
    with pytest.raises(GanzooError, match=r"is not a ganzoo\.Loss"):
        zoo.load("losses", Choice(f"{inspect.getsourcefile(zoo.load('datasets', Choice('digits')))}:Digits"))


def test_options_are_all_written_out(shelf, quadratic):
    zoo = shelf.zoo()
    assert zoo.resolve("losses", Choice("quadratic")) == Choice("quadratic", {"weight": 1.0, "power": 2})
    choice = Choice.parse("quadratic:weight=3")
    assert zoo.resolve("losses", choice) == Choice("quadratic", {"weight": 3.0, "power": 2})
    assert zoo.build("losses", choice).weight == 3.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quadratic:wieght=1", "Loss quadratic has no option 'wieght'. Did you mean 'weight'?"),
        ("quadratic:weight=-1", "Loss quadratic: invalid value for 'weight'"),
        ("quadratic:power=10", "Loss quadratic:power=10: too high"),
    ],
)
def test_bad_options_are_refused(shelf, quadratic, text, words):
    with pytest.raises(UsageError) as error:
        shelf.zoo().build("losses", Choice.parse(text))
    assert words in str(error.value)


def test_a_constructor_that_fails_names_the_part_and_the_line(shelf):
    module = shelf.module(LOSS.replace("{error}", 'RuntimeError("no\\nluck")'))
    shelf.install("extra", {"ganzoo.losses": {"quadratic": f"{module}:Quadratic"}})
    with pytest.raises(GanzooError, match=rf"cannot be made: RuntimeError: no \({shelf.path}/{module}.py, line 16\)"):
        shelf.zoo().build("losses", Choice("quadratic", {"power": 10}))


@pytest.mark.parametrize(
    "signature", ["weight: float = 1.0", "*, weight=1.0", "*, weight: Missing = 1.0", "*, weight: list = 1.0"]
)
def test_a_constructor_that_breaks_the_contract_is_named(shelf, signature):
    head = "from __future__ import annotations\nimport ganzoo\nclass Odd(ganzoo.Augmentation):\n"
    body = f"    def __init__(self, {signature}): super().__init__()\n    def forward(self, images): return images\n"
    module = shelf.module(head + body)
    shelf.install("extra", {"ganzoo.augmentations": {"odd": f"{module}:Odd"}})
    with pytest.raises(
        GanzooError, match=r"^Augmentation extra/odd 1\.0 breaks the contract: .*(weight|Missing).*line 3"
    ):
        shelf.zoo().options("augmentations", Choice("odd"))


def test_the_split_of_a_dataset_is_not_an_option():
    zoo = Zoo()
    assert zoo.options("datasets", Choice("digits", {"size": 8})) == {"size": 8}
    assert len(zoo.build("datasets", Choice("digits"), split="test")) == 299
    with pytest.raises(UsageError, match="Dataset digits has no option 'split'"):
        zoo.options("datasets", Choice("digits", {"split": "test"}))


# --- locations ---


def test_a_location_is_a_class_in_a_file(shelf, monkeypatch):
    (shelf.path / "my loss.py").write_text(LOSS.replace("{error}", "ValueError()"))
    monkeypatch.chdir(shelf.path)
    zoo = shelf.zoo()
    choice = Choice.parse("./my loss.py:Quadratic:weight=2")
    assert zoo.build("losses", choice).weight == 2.0
    # a recipe must work from another working directory
    whole = Choice(f"{shelf.path}/my loss.py:Quadratic", {"weight": 2.0, "power": 2})
    assert zoo.resolve("losses", choice) == zoo.resolve("losses", whole) == whole
    assert zoo.load("losses", choice) is zoo.load("losses", Choice(f"{shelf.path}/my loss.py:Quadratic"))
    provenance = zoo.provenance("losses", choice)
    assert provenance["location"] == "./my loss.py:Quadratic"
    assert len(provenance["sha256"]) == 64


def test_a_location_in_the_home_folder(shelf, monkeypatch):
    (shelf.path / "mine.py").write_text(LOSS.replace("{error}", "ValueError()"))
    monkeypatch.setenv("HOME", str(shelf.path))
    zoo = shelf.zoo()
    assert zoo.build("losses", Choice("~/mine.py:Quadratic")).weight == 1.0
    assert len(zoo.provenance("losses", Choice("~/mine.py:Quadratic"))["sha256"]) == 64


@pytest.mark.parametrize("text", ["~no-such-user/x.py", "~\0/x.py", "a\0/x.py", "\ud800/x.py", "~\ud800/x.py"])
def test_what_can_be_no_path_is_a_sentence(shelf, text):
    for ask in (shelf.zoo().load, shelf.zoo().build, shelf.zoo().resolve, shelf.zoo().options):
        with pytest.raises(UsageError, match=r"There is no file ~no-such-user/x\.py;|cannot be a path: ") as error:
            ask("losses", Choice(f"{text}:Quadratic"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "attribute", "cause"),
    [
        (None, "Quadratic", "There is no file"),
        (LOSS, "Kwadratic", "has no class 'Kwadratic'. Did you mean 'Quadratic'?"),
        (LOSS, "Half", "is not complete: it does not define generator"),
        (LOSS, "Stranger", "is not a ganzoo.Loss"),
        ("1 / 0", "X", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("def f(:", "X", "cannot be loaded: SyntaxError: invalid syntax"),
        ("raise SystemExit", "X", "cannot be loaded: SystemExit"),
    ],
)
def test_a_bad_location_is_refused_and_can_be_mended(shelf, text, attribute, cause):
    file = shelf.path / "mine.py"
    if text is not None:
        file.write_text(text)
    zoo, choice = shelf.zoo(), Choice(f"{file}:{attribute}")
    with pytest.raises(GanzooError) as error:
        zoo.load("losses", choice)
    assert cause in str(error.value)
    assert "mine.py" in str(error.value)
    if "cannot be loaded" in cause:
        file.write_text(LOSS)
        assert zoo.load("losses", Choice(f"{file}:Quadratic")).__name__ == "Quadratic"


def test_a_file_that_misses_its_neighbour_is_told_where_python_looks(shelf):
    file = shelf.path / "my own" / "mine.py"
    file.parent.mkdir()
    file.write_text("import neighbouring")
    with pytest.raises(GanzooError) as error:
        shelf.zoo().load("losses", Choice(f"{file}:X"))
    assert "PYTHONPATH" not in str(error.value)
    file.with_name("neighbouring.py").touch()
    with pytest.raises(GanzooError) as error:
        shelf.zoo().load("losses", Choice(f"{file}:X"))
    assert "No module named 'neighbouring'" in str(error.value)
    assert str(error.value).endswith(
        f"; neighbouring lies beside it: set PYTHONPATH='{file.parent}' for Python to find it."
    )


def test_a_file_without_a_class_is_told_apart_from_a_misspelt_name():
    with pytest.raises(
        UsageError, match=r"'\./mine\.py' is a file: a part in it is named by its class, \./mine\.py:Class"
    ):
        Zoo().find("architectures", "./mine.py")


# --- metadata as packaging tools write it ---


def test_an_entry_point_with_extras_is_found_and_imported(shelf):
    module = shelf.module(LOSS.replace("{error}", "ValueError()"))
    shelf.install("extras", {"ganzoo.losses": {"quadratic": f"{module}:Quadratic [cuda]"}})
    zoo = shelf.zoo()
    assert zoo.find("losses", "quadratic").target == f"{module}:Quadratic"
    assert not faults(zoo.plugins["extras"])
    zoo.build("losses", Choice("quadratic"))


def test_the_summary_of_a_part_that_is_imported_from_another_module(shelf):
    package = shelf.path / "shelved_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import Quadratic as Soft\n")
    (package / "inner" / "__init__.py").write_text("from shelved_package.inner.losses import Quadratic\n")
    (package / "inner" / "losses.py").write_text(LOSS.replace("{error}", "ValueError()"))
    (package / "loop.py").write_text("from .loop import Loop\n")
    points = {"soft": "shelved_package:Soft", "loop": "shelved_package.loop:Loop"}
    shelf.install("packaged", {"ganzoo.losses": points})
    zoo = shelf.zoo()
    assert summary(zoo.find("losses", "soft")) == "The square of the logits."
    assert summary(zoo.find("losses", "loop")) == ""
    zoo.build("losses", Choice("soft"))


@pytest.mark.parametrize(
    ("requires", "unmet"),
    [
        ("torch-ganzoo>=99", True),
        ("Torch_Ganzoo (<0.0.1)", True),
        ("torch-ganzoo>=0.0.1", False),
        ("torch-ganzoo>=99; python_version < '3'", False),
        ("torch>=99", False),
        ("no requirement at all", False),
    ],
)
def test_a_plugin_for_another_release_is_named(shelf, quadratic, requires, unmet):
    with next(shelf.path.glob("*.dist-info/METADATA")).open("a") as file:
        file.write(f"Requires-Dist: {requires}\n")
    found = faults(shelf.zoo().plugins["some-extra"])
    assert [text for text in found if "it requires torch-ganzoo" in text] == found
    assert bool(found) == unmet


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_file_name_that_is_not_utf_8(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.py")
    file.write_text(LOSS.replace("{error}", "ValueError()"))
    choice = Choice(f"{file}:Quadratic")
    assert Zoo([]).load("losses", choice).__name__ == "Quadratic"
    assert len(Zoo([]).provenance("losses", choice)["sha256"]) == 64


# --- folders that may not be entered ---


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A folder that may not be entered: system calls about a path in it fail, as for a user who is not root."""
    folder = tmp_path / "closed"
    folder.mkdir()
    for name in ("stat", "open", "scandir", "listdir"):
        real = getattr(os, name)

        def refuse(path=".", *more, real=real, **keywords):
            if isinstance(path, str | os.PathLike) and str(path).startswith(f"{folder}/"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *more, **keywords)

        monkeypatch.setattr(os, name, refuse)
    return folder


def test_a_path_in_a_folder_that_may_not_be_entered_is_a_sentence(closed):
    choice = Choice(f"{closed}/x.py:X")
    for use in (
        lambda: Zoo([]).load("losses", choice),
        lambda: Zoo([]).resolve("losses", choice),
        lambda: Zoo([]).kind_of(choice),
        lambda: parts_of_file(f"{closed}/x.py"),
        lambda: plan(Zoo(), Choice("mlp-vanilla"), Choice("digits"), f"{closed}/recipe.toml"),
        lambda: Run.open(closed / "run"),
        lambda: Run.refuse_taken(closed / "run"),
        lambda: is_directory(closed / "out"),
    ):
        with pytest.raises(UsageError, match=r"closed/.* cannot be read \(Permission denied\)"):
            use()


def test_what_is_no_path_is_no_file(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"aaa cannot be read \(File name too long\): give a shorter path"):
        is_file(tmp_path / ("a" * 400))
    for path in (tmp_path / "no", tmp_path / "circle", Path("a\0b"), tmp_path / "file" / "x"):
        assert not is_file(path)
        assert not is_directory(path)
    assert is_file(tmp_path / "file")
    assert is_directory(tmp_path)


def test_turns_that_never_train_the_discriminator_are_refused():
    for turns in ("G", "G,G"):
        with pytest.raises(UsageError, match="never trains the discriminator"):
            plan(Zoo(), Choice("mlp-vanilla"), Choice("digits"), None, {"turns": turns})
    for turns in ("D,G", "GD", "D.reals,D.fakes,G"):
        plan(Zoo(), Choice("mlp-vanilla"), Choice("digits"), None, {"turns": turns})


def test_only_another_plugins_import_is_ever_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time counts, since a busy machine is no fault of a plugin; for parts of this project nothing does."""
    notes: list[str] = []
    with guard.guarded_import("Loss other/slow 1.0", notes.append, guard.patience_with("other.slow:Slow", 0.05)):
        time.sleep(0.2)
    assert not notes
    for target in ("ganzoo_plugins.evaluators.frechet:FrechetDomain", "ganzoo_plugins", "ganzoo.testing.kit:X"):
        with guard.guarded_import("Evaluator torch-ganzoo/fid-domain", notes.append, guard.patience_with(target, 0.0)):
            sum(range(200_000))
    assert not notes
    with guard.guarded_import("Loss other/slow 1.0", notes.append, guard.patience_with("ganzoo_other.slow:Slow", 0.0)):
        sum(range(200_000))
    assert "CPU time to import" in notes[0]
