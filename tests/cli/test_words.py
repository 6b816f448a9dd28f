"""What the command line says where something is wrong, and commands that can be copied from what it says."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from helpers import ganzoo

TRAIN = ("train", "dcgan", "digits", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*TRAIN, "--seed", "abc"), "'--seed': 'abc' is not a whole number of at least 0."),
        ((*TRAIN, "--batch-size", "0"), "'--batch-size': '0' is not a whole number of at least 1."),
        ((*TRAIN, "--batch-size", "1.5"), "'--batch-size': '1.5' is not a whole number of at least 1."),
        (("sample", "x", "--at", "abc"), "'--at': 'abc' is not a whole number of at least 0."),
        (("sample", "x", "-n", "0"), "'-n': '0' is not a whole number of at least 1 and at most 1000000."),
        (("evaluate", "x", "--samples", "one"), "'--samples': 'one' is not a whole number of at least 2."),
        (("show", "dcgan", "--size", "big"), "'--size': 'big' is not a whole number of at least 1."),
        (("replay", "x", "--step", "two"), "'--step': 'two' is not a whole number of at least 1."),
    ],
)
def test_a_number_that_is_none(arguments: tuple[str, ...], words: str) -> None:
    result = ganzoo(*arguments)
    assert result.exit_code == 2
    assert words in result.output


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
