"""What the command line says where something is wrong, and commands that can be copied from what it says."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
import torch
from helpers import ganzoo

from ganzoo.cli import cli
from ganzoo.cli.plugins import _parts
from ganzoo.contract.choice import Amount, Choice, amount_in_words
from ganzoo.contract.errors import UsageError, counted, sentence

TRAIN = ("train", "dcgan", "digits", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*TRAIN, "--seed", "abc"), "'--seed': 'abc' is not a whole number of at least 0."),
        ((*TRAIN, "--batch-size", "0"), "'--batch-size': '0' is not a whole number of at least 1."),
        ((*TRAIN, "--batch-size", "1.5"), "'--batch-size': '1.5' is not a whole number of at least 1."),
        (("sample", "x", "--at", "abc"), "'--at': 'abc' names no saved generator"),
        (("sample", "x", "-n", "0"), "'-n' / '--count': '0' is not a whole number of at least 1 and at most 1000000."),
        (("evaluate", "x", "--samples", "one"), "'--samples': 'one' is not a whole number of at least 2."),
        (("show", "dcgan", "--size", "big"), "'--size': 'big' is not a whole number of at least 1."),
        (("replay", "x", "--step", "two"), "'--step': 'two' is not a whole number of at least 1."),
    ],
)
def test_a_number_that_is_none(arguments: tuple[str, ...], words: str) -> None:
    result = ganzoo(*arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (counted(1, "earlier score was", "earlier scores were"), "1 earlier score was"),
        (counted(2, "earlier score was", "earlier scores were"), "2 earlier scores were"),
        (counted(0, "step"), "0 steps"),
        (counted(3000, "step"), "3,000 steps"),
        (amount_in_words(Amount(1, "epochs")), "1 epoch"),
        (amount_in_words(Amount(50, "epochs")), "50 epochs"),
    ],
)
def test_one_is_singular(text: str, words: str) -> None:
    assert text == words


def test_a_file_is_checked_with_the_kind_and_the_options_that_are_given(tmp_path: Path) -> None:
    file = tmp_path / "both.py"
    file.write_text("import ganzoo\n\nclass A(ganzoo.Loss):\n    pass\n\nclass B(ganzoo.Observer):\n    pass\n")
    found = _parts(Choice.parse(f"{file}:width=8"), "losses")
    assert [(str(choice), kind) for choice, kind in found] == [(f"{file}:A:width=8", "losses")]
    assert len(_parts(Choice.parse(str(file)), None)) == 2
    with pytest.raises(UsageError, match="defines none of the datasets: leave --kind out"):
        _parts(Choice.parse(str(file)), "datasets")


def test_an_option_of_a_part_that_is_no_number() -> None:
    result = ganzoo(*TRAIN, "-o", "width=abc")
    assert result.exit_code == 2
    assert "valid" not in result.output.replace("invalid", "")
    assert "'abc' is not a whole number" in result.output


SHARED = ("--discriminator-optimizer", "shared")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SHARED, "-o", "discriminator_optimizer.lr=1"), "The optimizer is shared: the generator's trains the"),
        (("--generator-optimizer", "shared"), "only the discriminator's optimizer can be shared"),
        (("--discriminator-optimizer", "Shared"), "only the discriminator's optimizer can be shared"),
        (("--discriminator-optimizer", "shared:lr=3"), "only the discriminator's optimizer can be shared"),
    ],
)
def test_a_shared_optimizer(arguments: tuple[str, ...], words: str) -> None:
    result = ganzoo(*TRAIN, *arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert ganzoo(*TRAIN, *SHARED, "-o", "generator_optimizer.lr=0.1").exit_code == 0


def test_commands_that_are_recommended_can_be_pasted(tmp_path: Path) -> None:
    out = tmp_path / "my runs" / "it's $HOME"
    small = ("train", "dcgan-tutorial", "digits:size=32", "-o", "width=4", "--steps", "2", "--batch-size", "8")
    trained = ganzoo(*small, "--out", out)
    assert trained.exit_code == 0, trained.output
    for verb in ("draw: ganzoo sample ", "score: ganzoo evaluate "):
        command = trained.output.partition(verb)[2].splitlines()[0]
        assert shlex.split(command)[0] == str(out)
    again = ganzoo(*small, "--out", out)
    assert f"`ganzoo resume {shlex.quote(str(out))}`" in again.output
    longer = ganzoo("resume", out)
    assert f"`ganzoo resume {shlex.quote(str(out))} --steps 3`" in longer.output


def test_every_option_has_a_long_name_and_so_a_variable() -> None:
    """`-e` of `evaluate` would otherwise be set by the name that it has in the code, GANZOO_EVALUATE_EVALUATORS."""

    def check(command: click.Command, context: click.Context, path: list[str]) -> None:
        for option in command.params:
            if isinstance(option, click.Option):
                assert any(text.startswith("--") for text in option.opts), (path, option.opts)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                check(inner, context, [*path, name])

    with click.Context(cli) as context:
        check(cli, context, [])


def test_variables_of_options_that_had_a_letter_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_TRAIN_OPTION", "width=5")
    assert '"width": 5' in ganzoo("train", "dcgan", "digits", "--dry-run", "--json").stdout
    monkeypatch.setenv("GANZOO_EVALUATE_EVALUATOR", "no-such-score")
    assert "There is no evaluator 'no-such-score'" in ganzoo("evaluate", "--calibrate", "digits").output
    monkeypatch.setenv("GANZOO_BENCHMARK_ARCHITECTURE", "dcgan")
    monkeypatch.setenv("GANZOO_BENCHMARK_DATASET", "digits")
    monkeypatch.setenv("GANZOO_BENCHMARK_EVALUATOR", "sliced-wasserstein")
    planned = ganzoo("benchmark", "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output


@pytest.mark.parametrize("text", ["abc", "0", "-1", "nan", "inf"])
def test_a_number_of_hours_that_is_none(text: str) -> None:
    result = ganzoo("benchmark", "-a", "dcgan", "-d", "digits", "--patience", text)
    assert result.exit_code == 2
    assert f"'--patience': '{text}' is not a number above 0." in result.output


def test_a_folder_of_downloads_that_holds_no_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    assert f"Data folder {tmp_path}: empty" in ganzoo("data", "list", "--data-dir", tmp_path).output
    (tmp_path / "MNIST" / "raw" / "a").touch()
    assert f"Data folder {tmp_path}: MNIST" in ganzoo("data", "list", "--data-dir", tmp_path).output


def test_a_folder_written_without_a_slash_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my photos").mkdir()
    monkeypatch.chdir(tmp_path)
    result = ganzoo("train", "dcgan", "my photos")
    assert result.exit_code == 2
    assert (
        "There is no dataset 'my photos'. It is a folder: write './my photos' to train on its pictures."
        in result.output
    )


def test_a_sentence_has_one_full_stop() -> None:
    assert [sentence(text) for text in ("so it is", "so it is.", "is it so?")] == [
        "so it is.",
        "so it is.",
        "is it so?",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_named_as_it_was_given() -> None:
    result = ganzoo("train", "mlp-vanilla", "digits:size=8", "--device", "cuda:99", "--steps", "1")
    assert result.exit_code == 1
    assert "--device cuda:99: torch sees no CUDA device here" in result.output
