"""Old names of recipe fields are read until version 0.3; new names are written."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
from helpers import ZOO, ganzoo, tiny_recipe

from ganzoo import Choice, Recipe, UsageError
from ganzoo.contract.renamed_fields import RENAMED_FIELDS, renaming_note, with_current_names, with_old_names
from ganzoo.experiments.grid import make_trial
from ganzoo.registry.recipes import plan
from ganzoo.storage.files import digest_of
from ganzoo.storage.run import Run

OLD = {
    "average_half_life": 100,
    "sampling": "stream",
    "discriminator_fakes": "inference",
    "generator_fakes": "replayed",
}
NEW = Recipe(ema_half_life=100, batch_order="stream", generator_mode_for_discriminator="inference", reuse_fakes=True)
TOML = 'batch_size = 3\nsampling = "stream"\ngenerator_fakes = "replayed"\n'


@pytest.mark.parametrize("read", [lambda old: Recipe(**old), Recipe.from_dict, Recipe().merged])
def test_code_that_uses_old_names_is_warned_once_where_it_stands(read):
    with pytest.warns(DeprecationWarning, match="sampling is now called batch_order") as warned:
        assert read(OLD) == NEW
    (warning,) = warned
    assert all(f"{old} is now called {new}" in str(warning.message) for old, new in RENAMED_FIELDS.items())
    assert Path(warning.filename) == Path(__file__)


def test_old_names_can_be_read_as_attributes():
    for name, value in OLD.items():
        with pytest.warns(DeprecationWarning, match=f"{name} is now called {RENAMED_FIELDS[name]}"):
            assert getattr(NEW, name) == value
    with pytest.warns(DeprecationWarning, match="generator_fakes"):
        assert Recipe().generator_fakes == "fresh"
    with pytest.raises(AttributeError, match="has no attribute 'batchsize'"):
        Recipe().batchsize  # noqa: B018


def test_new_names_are_written_and_digests_have_the_old_ones():
    assert not OLD.keys() & NEW.to_dict().keys()
    # these are only written where they are set: recipes without them keep the digests of earlier versions
    newer = {"early_stop", "preprocessing", "ema_buffers", "ema_start", "ema_ramp", "freeze_d", "joint_forward"}
    newer |= {"accumulate", "fake_labels"}
    assert {field.name for field in dataclasses.fields(Recipe)} == {*NEW.to_dict(), *newer}
    assert set(NEW.every_field()) == {*NEW.to_dict(), *newer}
    for recipe in (NEW, Recipe()):
        old = with_old_names(recipe.to_dict())
        assert OLD.keys() < old.keys()
        assert not set(RENAMED_FIELDS.values()) & old.keys()
        assert with_current_names(old) == recipe.to_dict()


@pytest.mark.parametrize("name", OLD)
def test_both_names_of_a_field_are_refused(name):
    fields = {name: OLD[name], RENAMED_FIELDS[name]: getattr(NEW, RENAMED_FIELDS[name])}
    for both in (fields, dict(reversed(fields.items()))):
        with pytest.raises(UsageError, match=f"^{name} is the old name of {RENAMED_FIELDS[name]}: set only one"):
            with_current_names(both)


@pytest.mark.parametrize("value", ["shared", True, [], None])
def test_another_value_of_generator_fakes_is_refused(value):
    with pytest.raises(UsageError, match=r"generator_fakes=.* is not one of: fresh, replayed"):
        with_current_names({"generator_fakes": value})


def test_a_run_with_old_names_opens_in_silence_and_is_written_with_new_ones(tmp_path):
    recipe = tiny_recipe(ema_half_life=30, batch_order="stream", reuse_fakes=True)
    Run.create(tmp_path / "run", recipe, {}).close()
    path = tmp_path / "run" / "recipe.json"
    path.write_text(json.dumps(with_old_names(recipe.to_dict())))
    assert "average_half_life" in path.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Run.open(tmp_path / "run", writes=True)
    assert run.recipe == recipe
    run.change(run.recipe.merged({"length": recipe.length.parse("9 epochs")}))
    run.close()
    assert json.loads(path.read_text())["ema_half_life"] == 30


def test_a_recipe_file_with_old_names_is_read_with_one_note(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(TOML)
    train = ("train", "mlp-vanilla", "digits", "--dry-run", "--json")
    result = ganzoo(*train, "--recipe", file)
    assert result.exit_code == 0, result.output
    recipe = json.loads(result.stdout)["recipe"]
    assert (recipe["batch_size"], recipe["batch_order"], recipe["reuse_fakes"]) == (3, "stream", True)
    assert result.stderr.count("sampling is now called batch_order") == 1
    assert len(result.stderr.splitlines()) == 1
    file.write_text(
        TOML.replace("sampling", "batch_order").replace('generator_fakes = "replayed"', "reuse_fakes = true")
    )
    again = ganzoo(*train, "--recipe", file)
    assert (again.stdout, again.stderr) == (result.stdout, "")


def test_old_options_are_read_and_hidden():
    train = ("train", "mlp-vanilla", "digits", "--dry-run", "--json")
    old = ganzoo(*train, "--average-half-life", 7, "--sampling", "replacement")
    new = ganzoo(*train, "--ema-half-life", 7, "--batch-order", "replacement")
    assert old.exit_code == new.exit_code == 0, old.output
    assert old.stdout == new.stdout
    assert json.loads(new.stdout)["recipe"]["ema_half_life"] == 7
    assert "--average-half-life is now --ema-half-life" in old.stderr
    assert not new.stderr
    both = ganzoo(*train, "--average-half-life", 7, "--ema-half-life", 7)
    assert both.exit_code == 2
    assert "average_half_life is the old name of ema_half_life: set only one of the two." in both.output
    text = ganzoo("train", "--help").output
    assert "--ema-half-life" in text
    assert "--average-half-life" not in text
    assert "--sampling" not in text


def test_a_trial_has_the_name_it_had():
    """The directory of a trial is named after a digest of its recipe, which a benchmark of version 0.1 made."""
    recipe = plan(ZOO, Choice("mlp-vanilla"), Choice("digits"), None, {"seed": 3, "evaluators": "sliced-wasserstein"})
    parts = [
        ("architectures", recipe.architecture),
        ("datasets", recipe.dataset),
        ("losses", *recipe.losses),
        ("optimizers", recipe.generator_optimizer),
        ("optimizers", recipe.discriminator_optimizer),
        ("evaluators", *recipe.evaluators),
    ]
    provenance = [ZOO.provenance(kind, choice) for kind, choice in parts]
    digest = digest_of({"recipe": with_old_names(recipe.to_dict()), "parts": provenance})
    trial = make_trial(ZOO, "mlp-vanilla", "digits", (), recipe)
    assert trial.name == f"mlp-vanilla-digits-seed3-{digest[:8]}"


def test_no_note_where_nothing_was_renamed():
    assert renaming_note(NEW.to_dict()) == ""
