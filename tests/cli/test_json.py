"""What --json prints: one object for every command, with one shape. Kinds in both numbers, the overview, the help."""

from __future__ import annotations

import functools
import importlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import tiny
import torch
from click.testing import CliRunner
from helpers import ganzoo

import ganzoo as door
from ganzoo.cli import BUILT_IN, cli
from ganzoo.cli.output import SCHEMA, print_json
from ganzoo.cli.plugin_commands import typed_names
from ganzoo.contract.hooks import KINDS
from ganzoo.registry.zoo import zoo

_KEY = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
#: objects of recipe.json, scores.jsonl and table.json whose keys are names: of options, packages, files, seeds
_NAMED_BY_THE_USER = {"options", "versions", "imports", "reasons", "axes", "params"}
#: words that were printed for a thing that has another name now
_OTHER_WORDS = {"file", "source", "out", "from", "components", "cells", "costs", "help", "data_dir", "played_from"}
_PART = {"name", "id", "kind", "distribution", "version", "target", "description"}
_SCORE = {"score", "value", "better", "card", "step", "images", "epoch", "training"}
_RUN = {"run", "step", "images", "epoch", "stats"}
_SHORT = ("mlp-vanilla", "digits", "--steps", "2", "--checkpoint-every", "1", "-q")
_GRID = ("-a", "mlp-vanilla", "-d", "digits", "--seeds", "0", "--steps", "2", "--samples", "64", "--device", "cpu")
_FAST = ("--seeds", "0", "--steps", "2", "--score-every", "1", "--samples", "64", "-q", "--out", "{tmp}/fast")

#: command -> every use of it that prints another object: its arguments ({run}, {tmp}: folders), the keys of the object
#: beside `schema` and `command`, and the keys that each element of one of its lists has at least
CASES: dict[str, list[tuple[tuple[str, ...], set[str], str, set[str]]]] = {
    "train": [
        (("train", *_SHORT, "--out", "{tmp}/new"), _RUN, "", set()),
        (("train", "mlp-vanilla", "digits", "--dry-run"), {"recipe"}, "", set()),
    ],
    "resume": [(("resume", "{run}", "--steps", "3", "-q"), _RUN, "", set())],
    "sample": [
        (("sample", "{run}"), {"run", "path", "labels", "standing_statistics"}, "", set()),
        (
            ("sample", "{run}", "-n", "3", "-o", "{tmp}/x.npy"),
            {"run", "path", "labels", "standing_statistics"},
            "",
            set(),
        ),
    ],
    "plot": [(("plot", "{run}", "-o", "{tmp}/x.svg"), {"runs", "path"}, "", set())],
    "replay": [
        (
            ("replay", "{run}", "--step", "2", *more),
            {"run", "step", "images", "from_step", "anomaly", "first_bad", "losses", "parameters", "sha256"}
            | {"same_as_checkpoint", "changes"},
            "parameters",
            {"name", "gradient_norm", "weight_norm"},
        )
        for more in ((), ("--anomaly",))
    ],
    "evaluate": [
        (("evaluate", "{run}", "--samples", "64"), {"run", "scores"}, "scores", _SCORE),
        (
            ("evaluate", "--calibrate", "digits", "-e", "mode-coverage", "-o", "{tmp}/x.png"),
            {"dataset", "scores"},
            "scores",
            {"score", "value", "better", "digest", "images", "damage", "strength"},
        ),
    ],
    "export": [
        (
            ("export", "{run}", "-o", "{tmp}/exported"),
            {"run", "path", "format", "check", "files"},
            "files",
            {"name", "bytes", "sha256"},
        )
    ],
    "benchmark": [
        (
            ("benchmark", *_GRID, "--out", "{tmp}/grid", "--dry-run"),
            {"path", "pairs", "seconds"},
            "pairs",
            {"architecture", "dataset", "trials", "done", "failed", "missing", "recipe", "seconds", "seconds_from"},
        ),
        (
            ("benchmark", *_GRID, "--out", "{tmp}/grid"),
            {"path", "rows"},
            "rows",
            {"architecture", "dataset", "evaluator", "score", "better", "mean", "std", "seeds", "card", "recipe"},
        ),
        (
            ("benchmark", "--verify", "{tmp}/grid/table.json", "--device", "cpu", "--out", "{tmp}/again"),
            {"path", "table", "verdicts"},
            "verdicts",
            {"architecture", "dataset", "evaluator", "score", "then", "now", "holds", "why", "seeds"},
        ),
    ],
    "merge": [
        (
            ("merge", "{tmp}/grid-a", "{tmp}/grid-b", "-o", "{tmp}/merged"),
            {"path", "rows", "refused", "trials"},
            "rows",
            {"architecture", "dataset", "row", "axes", "score", "mean", "seeds"},
        )
    ],
    "tune": [
        (
            ("tune", "{tmp}/study.toml", "--trials", "1", "--device", "cpu", "-o", "{tmp}/tune"),
            {"path", "score", "better", "trials", "best", "winner", "rows"},
            "trials",
            {"number", "state", "value", "params", "run", "reason"},
        )
    ],
    "speedrun": [
        (
            ("speedrun", "digits", "--target", "fid-domain<=1e9", "-a", "mlp-vanilla", *_FAST),
            {"path", "record"},
            "",
            set(),
        )
    ],
    "runs": [
        (
            ("runs", "{tmp}"),
            {"path", "runs"},
            "runs",
            {"run", "state", "reason", "architecture", "dataset", "seed", "length", "step", "images", "epoch", "share"}
            | {"score", "bytes", "modified"},
        )
    ],
    "runs rm": [(("runs", "rm", "{run}", "--yes"), {"runs", "bytes"}, "", set())],
    "runs archive": [
        (
            ("runs", "archive", "{run}", "-o", "{tmp}/x.zip"),
            {"path", "runs", "files", "bytes", "sha256", "light"},
            "",
            set(),
        )
    ],
    "report": [(("report", "{run}", "-o", "{tmp}/x.html", "--no-draw"), {"path", "format", "bytes"}, "", set())],
    "compare": [
        (
            ("compare", "{run}", "{tmp}/other"),
            {"runs", "scores", "path"},
            "runs",
            {"run", "architecture", "dataset", "seed", "state", "epoch", "images"},
        )
    ],
    "list": [
        (("list",), {"parts"}, "parts", _PART),
        (("list", "losses"), {"parts"}, "parts", _PART),
        (
            ("list", "pretrained"),
            {"pretrained"},
            "pretrained",
            {"name", "id", "distribution", "version", "dataset", "conditional", "images_seen", "epoch", "parameters"}
            | {"bytes", "license", "command", "scores"},
        ),
    ],
    "show": [
        (
            ("show", "dcgan-tutorial"),
            _PART | {"path", "options", "value_range", "conditional", "recipe", "recipes", "shape", "networks"},
            "options",
            {"name", "type", "default", "value", "description"},
        ),
        (("show", "adam"), _PART | {"path", "options"}, "options", {"name"}),
    ],
    "plugins": [
        (
            ("plugins",),
            {"plugins"},
            "plugins",
            {"distribution", "version", "disabled", "modules", "parts", "commands", "errors"},
        )
    ],
    "plugins check": [
        (
            ("plugins", "check", "hinge"),
            {"checks"},
            "checks",
            {"part", "kind", "check", "state", "reason", "seconds"},
        )
    ],
    "data prepare": [
        (
            ("data", "prepare", "digits"),
            {"dataset", "splits", "extractor"},
            "splits",
            {"split", "images", "shape", "classes", "class_names", "checked"},
        )
    ],
    "data verify": [
        (("data", "verify", "digits"), {"dataset", "splits"}, "splits", {"split", "images"}),
    ],
    "data convert": [
        (
            ("data", "convert", "digits:size=8", "--to", "npy", "{tmp}/converted"),
            {"path", "dataset", "images", "bytes"},
            "",
            set(),
        )
    ],
    "data list": [(("data", "list"), {"path", "folders", "parts"}, "parts", _PART)],
    "demo": [
        (
            ("demo", "--out", "{tmp}/demo", "--device", "cpu"),
            {"runs"},
            "runs",
            {"run", "architecture", "dataset", "seed", "step", "images", "epoch", "training_seconds", "samples", "gif"}
            | {"scores"},
        )
    ],
    "import-checkpoint": [
        (
            ("import-checkpoint", "{tmp}/foreign.pt", "{tmp}/taken.safetensors"),
            {"path", "sha256", "tensors", "bytes", "left_out"},
            "",
            set(),
        )
    ],
    "recommend": [
        (
            ("recommend", "digits:size=8", "--minutes", "0.05", "--device", "cpu", "-o", "{tmp}/recommended.toml"),
            {"dataset", "images", "shape", "classes", "device", "architecture", "variant", "train_command", "recipe"}
            | {"parameters", "batch_size", "seconds_per_step", "memory_bytes", "steps", "seconds", "reasons", "others"}
            | {"path"},
            "",
            set(),
        )
    ],
    "doctor": [(("doctor",), {"findings"}, "findings", {"topic", "found", "problem"})],
}


def _commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below this one, by the words that call it; those that plugins add too."""
    if words:
        yield " ".join(words), command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            names = command.list_commands(context) if words else [*BUILT_IN, *typed_names(BUILT_IN)]
            for name in names:
                inner = command.get_command(context, name)
                assert inner is not None
                yield from _commands(inner, (*words, name))


def test_every_command_with_json_is_in_the_table() -> None:
    found = {words for words, command in _commands(cli) for option in command.params if "--json" in option.opts}
    elsewhere = {"push", "pull", "import"}  # tests/results/test_hub.py, tests/training/test_import.py
    assert found - elsewhere == set(CASES)


def test_the_document_names_every_key_of_every_command() -> None:
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z].*?) \| (.*) \|$", text, flags=re.MULTILINE)
    documented = {
        command: set(re.findall(r"`([a-z0-9_]+)`", keys)) for commands, keys in rows for command in commands.split(", ")
    }
    for words, uses in CASES.items():
        for arguments, keys, _, _ in uses:
            option = next(
                (f" {flag}" for flag in ("--dry-run", "--calibrate", "--verify", "pretrained") if flag in arguments), ""
            )
            assert keys <= documented[f"`{words}{option}`"], words
    assert f'"schema": {SCHEMA},' in text


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, a copy of it, and a checkpoint of another program."""
    folder = tmp_path_factory.mktemp("json")
    result = ganzoo("train", *_SHORT, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    shutil.copytree(folder / "run", folder / "other")
    torch.save({"weight": torch.zeros(3), "epoch": 4}, folder / "foreign.pt")
    return folder


def _train_briefly(train: Callable[..., Any]) -> Callable[..., Any]:
    """`train` with two steps, for the demo, whose trainings take minutes."""

    @functools.wraps(train)
    def brief(architecture: str, dataset: str, *, out: Path, device: str, recipe: str) -> Any:
        return train("mlp-vanilla", dataset, steps=2, out=out, device=device, quiet=True)

    return brief


@pytest.mark.parametrize("words", CASES)
def test_json_is_one_object_of_one_shape(words: str, folders: Path, tmp_path: Path, monkeypatch: Any) -> None:
    if words == "demo":
        trainings = importlib.import_module("ganzoo.api.train")
        monkeypatch.setattr(trainings, "train", _train_briefly(trainings.train))
    shutil.copytree(folders, tmp_path / "own")
    _prepare(words, tmp_path / "own")
    for arguments, keys, things, keys_of_each in CASES[words]:
        filled = [text.format(run=tmp_path / "own" / "run", tmp=tmp_path / "own") for text in arguments]
        if "--verify" in filled:  # the trials are there already, so that none is trained again
            shutil.copytree(tmp_path / "own" / "grid", tmp_path / "own" / "again")
        result = ganzoo(*filled, "--json")
        assert result.exit_code == 0 or words == "doctor", result.output
        printed = json.loads(result.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
        assert (printed.pop("schema"), printed.pop("command")) == (SCHEMA, words)
        assert set(printed) == keys
        if things:
            assert printed[things], things
            for one in printed[things]:
                assert keys_of_each <= set(one)
        _check_keys(printed, words)
        _check_values(printed)


def _prepare(words: str, folder: Path) -> None:
    """Write what a command reads beside runs: two benchmarks, or a study."""
    if words == "merge":
        assert ganzoo("benchmark", *_GRID, "--out", folder / "grid-a").exit_code == 0
        shutil.copytree(folder / "grid-a", folder / "grid-b")
    if words == "tune":
        pytest.importorskip("optuna", reason="the extra [tune] is not installed")
        study = 'architecture = "mlp-vanilla"\ndataset = "digits"\nsteps = 2\nsamples = 64\n'
        (folder / "study.toml").write_text(f"{study}[space]\nbatch_size = [16, 32]\n")


def _check_keys(value: Any, where: str) -> None:
    """Every key is a word in snake_case, and no other word for a thing that has a name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if where.rpartition(".")[2] not in _NAMED_BY_THE_USER:
                assert _KEY.fullmatch(key), f"{where}.{key}"
                assert key not in _OTHER_WORDS, f"{where}.{key}"
            _check_keys(inner, f"{where}.{key}")
    if isinstance(value, list):
        for inner in value:
            _check_keys(inner, f"{where}[]")


def _check_values(value: Any) -> None:
    """A kind is written as in the entry points, an id is that of its distribution and name."""
    if isinstance(value, dict):
        assert value.get("kind", "losses") in KINDS
        if value.get("distribution") and value.get("name"):
            assert value["id"] == f"{value['distribution']}/{value['name']}"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_values(inner)


def test_numbers_that_are_not_finite_are_text() -> None:
    @click.command()
    def numbers() -> None:
        print_json(values=[math.nan, (math.inf, 1.5)], nested={"value": -math.inf})

    printed = CliRunner().invoke(numbers, standalone_mode=False).stdout
    assert json.loads(printed, parse_constant=lambda text: pytest.fail(text)) == {
        "schema": SCHEMA,
        "command": "",
        "values": ["nan", ["inf", 1.5]],
        "nested": {"value": "-inf"},
    }


def test_a_step_that_is_not_finite_has_the_same_shape(tmp_path: Path) -> None:
    run, loss = tmp_path / "run", f"{tiny.__file__}:Souring:after=10"
    result = ganzoo("train", *_SHORT, "--loss", "nonsaturating", "--loss", loss, "--out", run)
    assert "The training has diverged" in result.stderr
    step = json.loads((run / "diagnosis.json").read_text())["step"]
    for more in ((), ("--anomaly",)):
        result = ganzoo("replay", run, "--step", step, *more, "--json")
        assert result.exit_code == 0, result.output
        printed = json.loads(result.stdout)
        _check_keys(printed, "replay")
        assert set(printed) == {"schema", "command"} | CASES["replay"][0][1]
        bad = printed["first_bad"]
        assert bad is not None or "nan" in printed["anomaly"]
        if not more:
            assert set(bad) == {"quantity", "name", "type", "value"}
            assert (bad["quantity"], bad["value"]) == ("loss", "nan")


def test_the_words_of_an_object_and_of_its_file_are_the_same(folders: Path, tmp_path: Path) -> None:
    """`recipe`, `stats` and `scores` are the objects that the files of the run have."""
    run = shutil.copytree(folders / "run", tmp_path / "run")
    printed = json.loads(ganzoo("evaluate", run, "--samples", "64", "--json").stdout)["scores"]
    assert printed == door.load(run).scores[-len(printed) :]
    resumed = json.loads(ganzoo("resume", run, "--steps", "3", "-q", "--json").stdout)
    assert resumed["stats"] == door.load(run).stats[-1]
    shown = json.loads(ganzoo("show", "mlp-vanilla", "--json").stdout)
    assert door.Recipe.from_dict(shown["recipe"]) == zoo().load("architectures", door.Choice("mlp-vanilla")).recipe


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "base"), KINDS.items())
def test_a_kind_may_be_in_the_singular(kind: str, base: str) -> None:
    one = base.lower()
    name = zoo().names(kind)[0]
    assert ganzoo("list", one).stdout == ganzoo("list", kind).stdout
    assert door.list(one) == door.list(kind)
    for number in (one, kind):
        result = ganzoo("show", name, "--kind", number, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["kind"] == kind
    assert {part["kind"] for part in json.loads(ganzoo("list", one, "--json").stdout)["parts"]} == {kind}


def test_check_takes_a_kind_in_both_numbers() -> None:
    for kind in ("loss", "losses"):
        result = ganzoo("plugins", "check", "hinge", "--kind", kind, "--json")
        assert {check["kind"] for check in json.loads(result.stdout)["checks"]} == {"losses"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "optimisers"),
        ("show", "adam", "--kind", "optimisers"),
        ("plugins", "check", "adam", "--kind", "optimisers"),
        ("plugins", "new", "my-adam", "--kind", "optimisers"),
    ],
    ids=lambda words: words[0] + words[1],
)
def test_an_unknown_kind_is_one_sentence_with_all_kinds(arguments: tuple[str, ...]) -> None:
    result = ganzoo(*arguments)
    assert result.exit_code == 2
    assert not result.stdout
    assert result.stderr == (
        f"Error: There is no kind 'optimisers'. Did you mean 'optimizers'? The kinds are: {', '.join(KINDS)}.\n"
    )


def test_list_alone_is_an_overview_of_80_columns() -> None:
    result = ganzoo("list")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    sections = re.findall(r"^(\w+) \((\d+)\)\n((?:  .*\n)+)", result.stdout, flags=re.MULTILINE)
    assert [kind for kind, _, _ in sections] == [*KINDS, "pretrained"]
    *sections, (_, count, text) = sections
    names = [member.name for member in zoo().pretrained()]
    assert (int(count), re.split(r",?\s+", text.strip())) == (len(names), names)
    for kind, count, text in sections:
        names = re.split(r",?\s+", text.strip())
        assert int(count) == len(zoo().components(kind))
        assert names == list(dict.fromkeys(part.name for part in zoo().components(kind)))


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("plugins",), ("data",)], ids=" ".join)
def test_no_line_of_a_list_of_commands_is_cut(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = ganzoo(*words, "--help").stdout
    # at the root the commands are in groups
    sections = re.findall(r"^(?!Options)[A-Z][\w ]*:\n((?:  \S.*\n)+)", text, flags=re.MULTILINE)
    lines = "".join(sections).splitlines()
    assert lines
    assert not [line for line in lines if "..." in line or not line.endswith(".") or len(line) > 80]
    below = [name for name, _ in _commands(cli) if name.split()[:-1] == list(words) and name.split()[-1] in text]
    commands = {line.split()[0] for line in lines}
    assert commands == ({name.split()[-1] for name in below} - set(typed_names(BUILT_IN)) if words else set(BUILT_IN))
