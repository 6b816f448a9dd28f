"""Every field of a recipe has an option of `ganzoo train`, or is known to have none."""

from __future__ import annotations

import dataclasses

import click
import pytest

from ganzoo.cli.train import train
from ganzoo.contract.choice import Choice
from ganzoo.contract.recipe import Recipe
from ganzoo.contract.train_options import ONLY_IN_FILES, option_words

#: they are named by position, or by the unit of the length
_WITHOUT = {"architecture", "dataset", "length"}
OPTIONS = {
    name
    for parameter in train.params
    if isinstance(parameter, click.Option)
    for name in (*parameter.opts, *parameter.secondary_opts)
}


@pytest.mark.parametrize("field", sorted({field.name for field in dataclasses.fields(Recipe)} - _WITHOUT))
def test_a_field_has_the_option_that_is_printed(field: str) -> None:
    values = (True, False) if isinstance(getattr(Recipe(), field), bool) else ("value",)
    found = {option_words(field, value)[0] in OPTIONS for value in values}
    assert found == {field not in ONLY_IN_FILES}


def test_several_parts_and_no_part() -> None:
    assert option_words("losses", (Choice("hinge"), Choice("r1"))) == ["--loss", "hinge", "--loss", "r1"]
    assert option_words("discriminator_optimizer", None) == ["--discriminator-optimizer", "shared"]
    assert option_words("joint_forward", False) == ["--no-joint-forward"]
