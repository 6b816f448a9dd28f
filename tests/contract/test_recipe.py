"""Recipes are plain data: what they say survives text, JSON and TOML, and what no run could mean is refused."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganzoo import Amount, Choice, Recipe, UsageError
from ganzoo.contract.recipe import parse_subset, parse_turns

#: a busy machine is no bug
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)
PRINTABLE = st.text(st.characters(min_codepoint=32, codec="utf-8"))
VALUES = st.one_of(
    PRINTABLE, st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)
)
CHOICES = st.builds(Choice, NAMES, st.dictionaries(KEYS, VALUES, max_size=3))

RICH = Recipe(
    architecture="dcgan-tutorial:width=32",
    dataset=Choice("digits", {"size": 8}),
    losses=["hinge", {"name": "r1", "options": {"gamma": 0.1}}],
    augmentations="diffaugment:policy=color",
    observers=["csv"],
    turns="D,D,G",
    generator_mode_for_discriminator="inference",
    reuse_fakes=True,
    generator_optimizer={"name": "adam", "options": {"lr": 1e-8, "beta1": 0}},
    discriminator_optimizer="shared",
    batch_size=16,
    batch_order="stream",
    subset="last 100",
    ema_half_life=1000,
    precision="bf16",
    seed=2**40,
    length="3M images",
    tick_every="2 steps",
    samples_every="1 epoch",
    checkpoint_every="10k images",
    grid="2x8",
)


# --- a part by name ---


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("r1", "r1", {}),
        (" r1 : gamma = 1 , every=4", "r1", {"gamma": "1", "every": "4"}),
        ("ganzoo-extra/r1:gamma=1", "ganzoo-extra/r1", {"gamma": "1"}),
        ("image-folder:path=/a=b/c", "image-folder", {"path": "/a=b/c"}),
        ("image-folder:path=holidays, 2024,size=8", "image-folder", {"path": "holidays, 2024", "size": "8"}),
        ("r1:", "r1", {}),
        ("./my_gan.py:MyGAN", "./my_gan.py:MyGAN", {}),
        ("./my_gan.py:MyGAN:width=32,depth=2", "./my_gan.py:MyGAN", {"width": "32", "depth": "2"}),
        ("/a:b/my gan.py:MyGAN", "/a:b/my gan.py:MyGAN", {}),
        ("grey:extractor=./cells.py:Cells", "grey", {"extractor": "./cells.py:Cells"}),
        ("./my_grey.py:Grey:extractor=./cells.py:Cells", "./my_grey.py:Grey", {"extractor": "./cells.py:Cells"}),
    ],
)
def test_a_part_is_a_name_with_options(text, name, options):
    choice = Choice.parse(text)
    assert (choice.name, choice.options) == (name, options)
    assert choice.is_location == ("my" in text)
    assert Choice.parse(str(choice)) == choice
    assert Choice.parse(choice) is choice


def test_options_are_written_as_a_person_would():
    options = {"a": True, "b": False, "c": None, "d": 1, "e": 1.0, "f": 1e-08, "g": "x y"}
    assert str(Choice("part", options)) == "part:a=true,b=false,c=none,d=1,e=1.0,f=1e-08,g=x y"


@patient
@given(CHOICES)
def test_a_part_survives_json(choice):
    (kept,) = Recipe.from_dict(json.loads(json.dumps(Recipe(losses=[choice]).to_dict()))).losses
    assert kept == choice
    assert [type(value) for value in kept.options.values()] == [type(value) for value in choice.options.values()]


@pytest.mark.parametrize(
    "value",
    [
        *("", "  ", ":gamma=1", "r1:gamma", "r1:=1", "r1:gamma=1,gamma=2", 5, None, {"options": {}}, {"name": 5}),
        *({"name": "r1", "option": {}}, {"name": "r1", "options": 5}, {"name": "r1", "options": [1]}, {"name": " "}),
    ],
)
def test_what_is_no_part_is_refused(value):
    with pytest.raises(UsageError):
        Choice.parse(value)


# --- amounts, turns, subsets ---


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("50 epochs", "", Amount(50, "epochs")),
        ("3M images", "", Amount(3_000_000, "images")),
        ("8.2M images", "", Amount(8_200_000, "images")),
        ("1.005k images", "", Amount(1005, "images")),
        (" 2.5k steps ", "", Amount(2500, "steps")),
        ("1 epoch", "", Amount(1, "epochs")),
        ("7s", "", Amount(7, "steps")),
        ("7", "steps", Amount(7, "steps")),
        (7, "images", Amount(7, "images")),
        ("7 epochs", "images", Amount(7, "epochs")),
        (Amount(7, "epochs"), "images", Amount(7, "epochs")),
    ],
)
def test_amounts(value, unit, expected):
    assert Amount.parse(value, unit) == expected
    assert Amount.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", "50", 50, "50 weeks", "-1 steps", "1.5 epochs", "1e3 steps", "3m images", "epochs", "1 2 steps"),
        *(None, True, "0.0001k steps", "5 M epochs more", "inf steps"),
    ],
)
def test_what_is_no_amount_is_refused(value):
    with pytest.raises(UsageError):
        Amount.parse(value)


@patient
@given(st.integers(1, 10**9), st.sampled_from(["", "k", "M"]), st.integers(0, 3))
def test_amounts_are_exact(count, factor, decimals):
    """Whatever the decimal point does, a whole number of images is that number."""
    images = count * {"": 1, "k": 1_000, "M": 1_000_000}[factor]
    shift = {"": 0, "k": 3, "M": 6}[factor]
    text = f"{count // 10**decimals}.{count % 10**decimals:0{decimals}}" if decimals else str(count)
    if decimals <= shift:
        assert Amount.parse(f"{text}{factor} images").count == images // 10**decimals


def test_a_number_of_a_thousand_digits_is_a_number():
    assert Amount.parse("1" + 1000 * "0" + " steps").count == 10**1000


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("D,G", [["D"], ["G"]]),
        ("D+G", [["D", "G"]]),
        (" D , D ,G ", [["D"], ["D"], ["G"]]),
        ("D.reals,D.fakes,G", [["D.reals"], ["D.fakes"], ["G"]]),
        ("D.reals+G", [["D.reals", "G"]]),
        ("D,GD", [["D"], ["GD"]]),
        ("G", [["G"]]),
    ],
)
def test_turns(text, turns):
    assert parse_turns(text) == turns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "D",
        "d,g",
        "D,,G",
        "D;G",
        "D.reals,D",
        "X,G",
        "D+D,G",
        "G+GD",
        "D+D.reals,G",
        "D.reals+D.fakes,G",
        "D+GD",
        "GD+D.reals",
    ],
)
def test_impossible_turns_are_refused(text):
    with pytest.raises(UsageError, match="turns="):
        Recipe(turns=text)


def test_subsets():
    assert parse_subset("all", 10) == range(10)
    assert parse_subset("first 3", 10) == range(3)
    assert parse_subset("last 3", 10) == range(7, 10)
    assert parse_subset("last 30", 10) == parse_subset("first 30", 10) == range(10)


@pytest.mark.parametrize("text", ["", "first", "first 0", "first -1", "last 1.5", "some 3", "first 3 images"])
def test_what_is_no_subset_is_refused(text):
    with pytest.raises(UsageError, match="subset="):
        Recipe(subset=text)


# --- the recipe as a whole ---


def test_fields_are_converted_where_they_are_given():
    assert RICH.architecture == Choice("dcgan-tutorial", {"width": "32"})
    assert RICH.losses == (Choice("hinge"), Choice("r1", {"gamma": 0.1}))
    assert RICH.augmentations == (Choice("diffaugment", {"policy": "color"}),)
    assert RICH.discriminator_optimizer is None
    assert RICH.length == Amount(3_000_000, "images")
    assert RICH.grid_shape == (2, 8)


@pytest.mark.parametrize("recipe", [Recipe(), RICH])
def test_json_and_toml_give_the_recipe_back(recipe, tmp_path):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe().merged(Recipe.read_toml(file)) == recipe
    assert RICH.merged(Recipe.read_toml(file)).discriminator_optimizer == recipe.discriminator_optimizer


@patient
@given(CHOICES, CHOICES)
def test_toml_is_toml_whatever_the_options_say(first, second):
    recipe = Recipe(architecture=first, losses=[first, second])
    assert Recipe.from_dict(tomllib.loads(recipe.to_toml())) == recipe


def test_none_survives_toml():
    """TOML knows no null; an option that is none must not become its default."""
    recipe = Recipe(generator_optimizer=Choice("keras-adam", {"lr": 0.1, "clip_value": None}))
    kept = Recipe.from_dict(tomllib.loads(recipe.to_toml()))
    assert kept.generator_optimizer.options == {"lr": 0.1, "clip_value": "none"}
    assert str(kept.generator_optimizer) == str(recipe.generator_optimizer)


def test_later_wins():
    merged = RICH.merged({"turns": "D+G", "losses": ["wasserstein"], "seed": 3})
    assert (merged.turns, merged.losses, merged.seed) == ("D+G", (Choice("wasserstein"),), 3)
    assert merged.merged({"turns": RICH.turns, "losses": RICH.losses, "seed": RICH.seed}) == RICH
    assert RICH.merged({}) == RICH


def test_a_bare_interval_is_counted_in_the_unit_of_the_length():
    assert RICH.merged({"samples_every": 5}).samples_every == Amount(5, "images")
    assert RICH.merged({"samples_every": "5", "length": "9 epochs"}).samples_every == Amount(5, "epochs")
    assert RICH.merged({"samples_every": "5 steps", "length": "9 epochs"}).samples_every == Amount(5, "steps")


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_order": "random"},
        {"precision": "fp16"},
        {"generator_mode_for_discriminator": "train"},
        {"reuse_fakes": "shared"},
        {"batch_size": 0},
        {"batch_size": "64"},
        {"batch_size": 64.0},
        {"batch_size": True},
        {"ema_half_life": -1},
        {"seed": -1},
        {"length": "0 epochs"},
        {"length": 50},
        {"tick_every": "0 steps"},
        {"samples_every": "sometimes"},
        {"grid": "4"},
        {"grid": "0x4"},
        {"grid": 16},
        {"losses": []},
        {"losses": 5},
        {"losses": None},
        {"augmentations": [5]},
        {"dataset": 5},
        {"turns": 5},
        {"generator_optimizer": None},
        {"generator_optimizer": "shared:x"},
    ],
    ids=str,
)
def test_what_no_run_could_mean_is_refused(changes):
    with pytest.raises(UsageError) as error:
        Recipe().merged(changes)
    assert "\n" not in str(error.value)


def test_a_misspelt_field_names_the_near_one():
    with pytest.raises(UsageError, match=r"no field 'batchsize'\. Did you mean 'batch_size'"):
        Recipe.from_dict({"batchsize": 3})


@pytest.mark.parametrize("text", [b"turns = D,G", b"turns = 'D", b"\xff"])
def test_what_is_no_toml_is_refused(text, tmp_path):
    (tmp_path / "recipe.toml").write_bytes(text)
    with pytest.raises(UsageError, match=r"recipe\.toml is not a recipe file in TOML"):
        Recipe.read_toml(tmp_path / "recipe.toml")
