"""Plugins behave as a user of pluggy expects. The test packages use only documented features of pluggy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import ganzoo
from ganzoo import Choice, Command, Component, GanzooError, TrainingProgress, UsageError
from ganzoo.cli import cli
from ganzoo.registry import zoo as registry
from ganzoo.registry.observers import Observers
from ganzoo.registry.zoo import Zoo

PLUGIN = '''
import ganzoo

@ganzoo.hookimpl(specname="ganzoo_components", tryfirst=True)
def parts():
    """Under a name of its own."""
    return [ganzoo.Component("losses", "quadratic", "pluggy_parts:Quadratic")]

@ganzoo.hookimpl(trylast=True, specname="ganzoo_components")
def more_parts():
    return (ganzoo.Component("losses", name, "pluggy_parts:Quadratic") for name in ["linear"])

@ganzoo.hookimpl
def ganzoo_commands():
    return [ganzoo.Command("greet", "pluggy_greet:greet", "Print a greeting.")]

@ganzoo.hookimpl(optionalhook=True)
def ganzoo_hook_of_a_later_release():
    return []
'''
PARTS = '''
import ganzoo

class Quadratic(ganzoo.Loss):
    """The square of the logits."""
    def discriminator(self, round): return round.real_logits.pow(2).mean()
    def generator(self, round): return round.fake_logits.pow(2).mean()
'''
GREET = """
import sys
import click

@click.command()
@click.option("--name", default="you")
def greet(name):
    if name == "nobody":
        raise ValueError("a name is needed")
    click.echo(f"hello {name}, torch {'torch' in sys.modules}")
"""


def install(folder: Path, name: str, module: str, points: str = "") -> None:
    """A distribution of one module with hooks."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ganzoo]\nplugin = pluggy_{name.replace('-', '_')}\n{points}")
    (folder / f"pluggy_{name.replace('-', '_')}.py").write_text(module)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path with the distribution `extra`, which the zoo of this process has."""
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "extra", PLUGIN)
    (tmp_path / "pluggy_parts.py").write_text(PARTS)
    (tmp_path / "pluggy_greet.py").write_text(GREET)
    registry.zoo.cache_clear()
    yield tmp_path
    registry.zoo.cache_clear()
    for name in [name for name in sys.modules if name.startswith("pluggy_")]:
        del sys.modules[name]


def zoo_of(folder: Path) -> Zoo:
    return Zoo(list(distributions(path=[str(folder)])))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


# --- registration ---


def test_a_module_with_hookimpls_is_registered_under_its_distribution(folder: Path) -> None:
    zoo = zoo_of(folder)
    assert zoo.manager.get_plugin("extra") is sys.modules["pluggy_extra"]
    assert zoo.names("losses") == ["linear", "quadratic"]
    assert zoo.find("losses", "extra/quadratic").version == "1.0"
    assert "pluggy_parts" not in sys.modules
    assert zoo.load("losses", Choice("quadratic")).__name__ == "Quadratic"
    assert [command.id for command in zoo.commands()] == ["extra/greet"]


def test_the_parts_of_ganzoo_come_from_hookimpls_too() -> None:
    import ganzoo_plugins

    zoo = Zoo()
    assert zoo.manager.get_plugin("torch-ganzoo") is ganzoo_plugins
    assert zoo.plugins["torch-ganzoo"].hooks == {"torch-ganzoo": ["ganzoo_components", "ganzoo_pretrained"]}


def test_our_own_plugin_module_imports_no_torch() -> None:
    code = "import sys, ganzoo_plugins; list(ganzoo_plugins.ganzoo_components()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_entry_points_and_a_module_are_two_plugins_of_one_distribution(folder: Path) -> None:
    install(folder, "both", PLUGIN.replace("greet", "wave"), "[ganzoo.losses]\ndeclared = pluggy_parts:Quadratic\n")
    zoo = zoo_of(folder)
    assert [c.name for c in zoo.plugins["both"].components] == ["quadratic", "linear", "declared"]  # tryfirst
    assert set(zoo.plugins["both"].hooks) == {"both", "both:pluggy_both"}
    zoo.manager.unregister(name="both")
    assert not zoo.plugins["both"].components
    assert zoo.names("losses") == ["linear", "quadratic"]


def test_tryfirst_and_trylast_order_the_calls(folder: Path) -> None:
    order: list[str] = []
    zoo = zoo_of(folder)

    def plugin(name: str, **options: bool) -> SimpleNamespace:
        def ganzoo_components() -> list[Component]:
            order.append(name)
            return []

        return type(name, (), {"ganzoo_components": staticmethod(ganzoo.hookimpl(**options)(ganzoo_components))})()

    for name, options in (("last", {"trylast": True}), ("first", {"tryfirst": True}), ("middle", {})):
        zoo.manager.register(plugin(name, **options), name)
    assert list(zoo.plugins)
    assert order == ["first", "middle", "last"]


def test_a_wrapper_changes_no_part_of_another_plugin(folder: Path) -> None:
    text = "import ganzoo\n@ganzoo.hookimpl(wrapper=True)\ndef ganzoo_components():\n    yield\n    return []\n"
    install(folder, "wrapper", text)
    assert zoo_of(folder).names("losses") == ["linear", "quadratic"]


def test_a_plugin_may_be_registered_and_unregistered_at_run_time(folder: Path) -> None:
    class Extra:
        @ganzoo.hookimpl
        def ganzoo_components(self) -> list[Component]:
            return [Component("losses", "late", "pluggy_parts:Quadratic")]

    zoo, plugin = zoo_of(folder), Extra()
    assert "late" not in zoo.names("losses")
    zoo.manager.register(plugin, "mine")
    assert zoo.find("losses", "late").id == "mine/late"
    assert zoo.title("losses", Choice("late")) == "Loss mine/late"
    assert zoo.load("losses", Choice("late")).__name__ == "Quadratic"
    zoo.manager.unregister(plugin)
    zoo.manager.unregister(name="extra")
    assert not zoo.names("losses")
    assert not zoo.commands()
    with pytest.raises(UsageError, match="There is no loss 'late'"):
        zoo.load("losses", Choice("late"))


def test_a_plugin_may_be_blocked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = zoo_of(folder)
    zoo.manager.set_blocked("extra")
    assert not zoo.names("losses")
    assert zoo.plugins["extra"].disabled
    with pytest.raises(UsageError, match="Disabled by GANZOO_DISABLE: extra"):
        zoo.find("losses", "quadratic")
    monkeypatch.setenv("GANZOO_DISABLE", "extra")
    del sys.modules["pluggy_extra"]
    assert zoo_of(folder).manager.is_blocked("extra")
    assert "pluggy_extra" not in sys.modules


def test_calls_can_be_traced(folder: Path) -> None:
    zoo, calls = zoo_of(folder), []
    zoo.manager.add_hookcall_monitoring(
        lambda hook, implementations, arguments: calls.append((hook, [i.plugin_name for i in implementations])),
        lambda outcome, hook, implementations, arguments: calls.append((hook, len(outcome.get_result()))),
    )
    assert zoo.names("losses")
    assert calls == [
        ("ganzoo_components", ["extra", "extra"]),
        ("ganzoo_components", 2),
        ("ganzoo_commands", ["extra"]),
        ("ganzoo_commands", 1),
        ("ganzoo_pretrained", []),
        ("ganzoo_pretrained", 0),
    ]


def test_debug_prints_every_call_on_stderr(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(ganzoo.Observer):
        @ganzoo.hookimpl
        def on_run_start(self, run: object) -> None:
            raise ValueError("no")

    monkeypatch.setenv("GANZOO_DEBUG", "1")
    assert zoo_of(folder).names("losses")
    with pytest.raises(GanzooError, match="Observer mine failed in on_run_start"):
        Observers({"mine": Broken()}).tell("on_run_start", run=None)
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.splitlines() == [
        "hook ganzoo_components: calls extra, extra",
        "hook ganzoo_commands: calls extra",
        "hook on_run_start: calls mine",
        "hook on_run_start: mine raised ValueError: no",
    ]


# --- observers ---


def test_observers_are_checked_by_specification_and_specname_works() -> None:
    received = []

    class Renamed(ganzoo.Observer):
        @ganzoo.hookimpl(specname="on_tick", tryfirst=True)
        def note_the_loss(self, scalars: dict[str, float]) -> None:
            received.append(scalars)

        @ganzoo.hookimpl(optionalhook=True)
        def on_something_new(self) -> None: ...

    class Misspelt(ganzoo.Observer):
        @ganzoo.hookimpl(specname="on_tik")
        def on_tick(self) -> None: ...

    progress = TrainingProgress(1, 2, 3.0)
    Observers({"renamed": Renamed()}).tell("on_tick", run=None, progress=progress, scalars={"loss": 1.0})
    assert received == [{"loss": 1.0}]
    with pytest.raises(GanzooError, match=r"^Observer bad: unknown hook 'on_tik' \(.*\)\. Did you mean 'on_tick'"):
        Observers({"bad": Misspelt()})


def test_the_old_argument_moment_still_works_and_warns() -> None:
    received = []

    class Old(ganzoo.Observer):
        @ganzoo.hookimpl
        def on_tick(self, moment: TrainingProgress, progress: TrainingProgress) -> None:
            received.append((moment, progress))

    with pytest.warns(DeprecationWarning, match="`moment` is now called `progress`"):
        observers = Observers({"old": Old()})
    progress = TrainingProgress(1, 2, 3.0)
    observers.tell("on_tick", run=None, progress=progress, scalars={})
    assert received == [(progress, progress)]


# --- commands ---


def test_a_command_is_listed_runs_and_is_imported_only_then(folder: Path) -> None:
    listed = call("--help")
    assert "Commands of extra:\n  greet  Print a greeting.\n" in listed.stdout
    assert "pluggy_greet" not in sys.modules
    done = call("greet", "--name", "zoo")
    assert (done.exit_code, done.stdout[:9]) == (0, "hello zoo")
    assert "Did you mean 'greet'" in call("gret").stderr


def test_a_command_needs_no_torch(folder: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ganzoo.cli import main; main()"
    command = [sys.executable, "-c", code, str(folder), "greet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "hello you, torch False\n", done.stderr


def test_an_error_in_a_command_names_its_plugin(folder: Path) -> None:
    done = call("greet", "--name", "nobody")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: The command extra/greet 1.0 failed: ValueError: a name is needed (")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import no_such_library", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_library' ("),
        ("raise SystemExit(0)", "cannot be loaded: SystemExit: 0 ("),
        ("", "cannot be loaded: AttributeError: module 'pluggy_greet' has no attribute 'greet'"),
        ("def greet(): ...", "cannot be run: pluggy_greet:greet is function, not a click command."),
        ("ganzoo_api = 99", "was written for version 99 of the contract"),
    ],
)
def test_a_broken_command_is_named_in_one_sentence(folder: Path, text: str, cause: str) -> None:
    (folder / "pluggy_greet.py").write_text(text)
    done = call("greet")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: The command extra/greet 1.0 {cause}")
    assert len(done.stderr.splitlines()) == 1
    assert call("--help").exit_code == call("list", "losses").exit_code == 0


def test_a_taken_name_is_noted_and_the_full_id_works(folder: Path) -> None:
    text = "import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_commands():\n    return [{}]\n"
    offered = [f"ganzoo.Command({name!r}, 'pluggy_greet:greet', 'From {{}}.')" for name in ("greet", "train")]
    install(folder, "other", text.format(", ".join(offered)))
    listed = " ".join(call("--help").stdout.split())
    for line in (
        "Commands of extra: extra/greet Print a greeting.",
        "Note: commands: 'train' is a command of ganzoo itself: write `ganzoo other/train`.",
        "Note: commands: 'greet' is a command of another plugin too: write `ganzoo extra/greet`.",
    ):
        assert line in listed
    clash = call("greet")
    assert clash.exit_code == 2
    assert "write the full id, " in clash.stderr
    assert call("other/greet").stdout.startswith("hello you")
    assert call("other/train").stdout.startswith("hello you")
    assert "ARCHITECTURE" in call("train", "--help").stdout
    plugins = {plugin["distribution"]: plugin for plugin in json.loads(call("plugins", "--json").stdout)["plugins"]}
    assert any("write `ganzoo other/train`" in error for error in plugins["other"]["errors"])


def test_a_command_of_ganzoo_itself_keeps_its_name(folder: Path) -> None:
    install(folder, "torch-ganzoo", PLUGIN)
    from ganzoo.cli.plugin_commands import typed_names

    zoo = zoo_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "zoo", lambda: zoo)
        assert sorted(typed_names([])) == ["extra/greet", "greet"]


def test_what_cannot_be_a_command_is_an_error_of_the_plugin(folder: Path) -> None:
    commands = [Command("Bad Name", "a:b"), Command("fine", "a"), Command("ok", "a:b"), Command("ok", "a:b"), 3]

    class Odd:
        @ganzoo.hookimpl
        def ganzoo_commands(self) -> list[object]:
            return commands

    zoo = zoo_of(folder)
    zoo.manager.register(Odd(), "odd")
    assert [command.name for command in zoo.plugins["odd"].commands] == ["ok"]
    assert [error.partition(": ")[2] for error in zoo.plugins["odd"].errors] == [
        "ganzoo_commands returns int, not ganzoo.Command",
        "the name 'Bad Name' is not made of a-z, 0-9 and single dashes",
        "the target 'a' of fine is not package.module:attribute",
        "the name 'ok' is offered twice",
    ]


def test_plugins_as_json_shows_what_the_manager_knows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {plugin["distribution"]: plugin for plugin in json.loads(call("plugins", "--json").stdout)["plugins"]}
    assert found["extra"] == {
        "distribution": "extra",
        "version": "1.0",
        "disabled": False,
        "modules": [
            {"name": "extra", "hooks": ["ganzoo_commands", "ganzoo_components", "ganzoo_hook_of_a_later_release"]}
        ],
        "parts": [
            {
                "name": name,
                "id": f"extra/{name}",
                "kind": "losses",
                "distribution": "extra",
                "version": "1.0",
                "target": "pluggy_parts:Quadratic",
                "description": "The square of the logits.",
            }
            for name in ("quadratic", "linear")
        ],
        "commands": [
            {
                "name": "greet",
                "id": "extra/greet",
                "target": "pluggy_greet:greet",
                "description": "Print a greeting.",
            }
        ],
        "errors": [],
    }
    (folder / "pluggy_greet.py").write_text("def f(:")
    assert any("SyntaxError" in e for p in json.loads(call("plugins", "--json").stdout)["plugins"] for e in p["errors"])
    monkeypatch.setenv("GANZOO_DISABLE", "extra")
    registry.zoo.cache_clear()
    found = {plugin["distribution"]: plugin for plugin in json.loads(call("plugins", "--json").stdout)["plugins"]}
    assert found["extra"]["disabled"]
    assert not found["extra"]["modules"]
