"""Silent differences of members from their programs: defaults are the programs', old runs keep theirs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import ZOO
from silent_differences import DIFFERENCES, difference_lines
from torch import nn
from torch.nn import functional as F

import ganzoo
from ganzoo import Choice, ImageSpec, Recipe, UsageError
from ganzoo.engine.feed import Batch
from ganzoo.engine.preprocessing import preprocessed
from ganzoo.registry.recipes import plan
from ganzoo.registry.recorded import recorded_zoo
from ganzoo_plugins.architectures import began
from ganzoo_plugins.augmentations.diffaugment import DiffAugment
from ganzoo_plugins.layers.keras import BatchNorm
from ganzoo_plugins.penalties.dragan import DRAGAN
from ganzoo_plugins.penalties.gradient_penalty import GradientPenalty

IMAGES = ImageSpec(3, 32, 32, 10)
ROOT = Path(__file__).parents[2]


def build(name: str, **options: Any) -> Any:
    return ZOO.build("architectures", Choice(name, options))


def eps_of(architecture: Any) -> set[float]:
    kinds = (nn.BatchNorm2d, BatchNorm)
    return {m.eps for network in architecture.networks(IMAGES) for m in network.modules() if isinstance(m, kinds)}


@pytest.mark.parametrize(("name", "eps"), [("sngan", 2e-5), ("sngan-projection", 2e-5), ("dcgan", 1e-8)])
def test_the_eps_of_batch_norm(name: str, eps: float) -> None:
    assert eps_of(build(name, width=4)) == {eps}
    assert eps_of(build(name, width=4, batch_norm_eps=1e-5)) == {1e-5}


def recorded_before(folder: Path) -> Path:
    """The directory of a run of sngan from before its new option and the field `preprocessing`."""
    recipe = plan(ZOO, Choice("sngan"), Choice("cifar10"), None, {"preprocessing": ""}).to_dict()
    del recipe["architecture"]["options"]["batch_norm_eps"]
    assert "preprocessing" not in recipe
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


@pytest.mark.parametrize("named", ["old", "old/recipe.json"])
def test_the_recipe_of_an_old_run_means_what_it_meant(named: str, tmp_path: Path) -> None:
    recorded_before(tmp_path / "old")
    recipe = plan(ZOO, Choice("sngan"), Choice("cifar10"), str(tmp_path / named))
    assert recipe.preprocessing == ""
    assert recipe.architecture is not None
    assert recipe.architecture.options["batch_norm_eps"] == 1e-5
    assert plan(ZOO, Choice("sngan"), Choice("cifar10")).preprocessing == "dequantise"


def test_a_whole_recipe_replaces_every_field(tmp_path: Path) -> None:
    """Also the fields that a recipe.json leaves out: the recipe of sngan has a preprocessing of its own."""
    parts = Choice("sngan"), Choice("cifar10")
    plain = plan(ZOO, *parts, None, {"preprocessing": ""})
    (tmp_path / "plain.toml").write_text(plain.to_toml())
    assert plan(ZOO, *parts, str(tmp_path / "plain.toml")) == plain
    assert plan(ZOO, *parts, plain) == plain
    assert plan(ZOO, *parts, "dcgan").preprocessing == ""


@pytest.mark.parametrize(
    ("kind", "name", "option", "now", "before"),
    [
        ("architectures", "sngan", "batch_norm_eps", 0.0, 1e-5),
        ("architectures", "sngan-projection", "batch_norm_eps", 0.0, 1e-5),
        ("architectures", "sngan", "power_iteration", "program", "pytorch"),
        ("architectures", "sngan-projection", "power_iteration", "program", "pytorch"),
        ("architectures", "dcgan", "batch_norm_eps", 1e-8, 1e-5),
        ("architectures", "began", "start", "program", "pytorch"),
        ("architectures", "r3gan", "end", "none", "tanh"),
        ("augmentations", "diffaugment", "saturation", "drawn", "skipped"),
    ],
)
def test_a_run_that_was_recorded_without_an_option_keeps_its_meaning(
    kind: str, name: str, option: str, now: Any, before: Any
) -> None:
    run: Any = SimpleNamespace(path=Path("old"), recipe=Recipe(), environment={})
    options = dict(ZOO.resolve(kind, Choice(name)).options)
    assert options.pop(option) == now
    old = recorded_zoo(run, ZOO)
    assert old.resolve(kind, Choice(name, options)).options[option] == before
    assert old.resolve(kind, Choice(name, {**options, option: now})).options[option] == now
    assert getattr(old.build(kind, Choice(name, options)), option) == before
    assert getattr(ZOO.build(kind, Choice(name, options)), option) == now


def test_dequantised_reals_are_those_of_the_programs() -> None:
    levels = torch.arange(256, dtype=torch.float64).view(1, 1, 16, 16).repeat(50, 1, 1, 1)
    reals = levels / 127.5 - 1
    (batch,) = preprocessed([Batch(reals, torch.zeros(50))], ["dequantise"], (-1.0, 1.0))
    noise = batch.reals - (levels / 128 - 1)
    assert 0 <= noise.min() < 1e-4
    assert 1 / 128 - 1e-4 < noise.max() < 1 / 128
    assert torch.equal(reals, levels / 127.5 - 1)  # the tensors of the feed stay


def test_flips_mirror_half_of_the_reals() -> None:
    torch.manual_seed(0)
    reals = torch.rand(400, 3, 4, 4)
    (batch,) = preprocessed([Batch(reals, torch.zeros(400))], ["flip"], (-1.0, 1.0))
    same = (batch.reals == reals).flatten(1).all(1)
    assert torch.equal(batch.reals[~same], reals[~same].flip(3))
    assert 150 < same.sum() < 250


@pytest.mark.parametrize("name", ["sngan", "sngan-projection"])
def test_the_recipes_dequantise(name: str) -> None:
    recipe = plan(ZOO, Choice(name), Choice("cifar10"))
    assert recipe.preprocessing == "dequantise"
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert "preprocessing" not in Recipe().to_dict()
    assert plan(ZOO, Choice("wgan-gp"), Choice("cifar10"), "cifar10").preprocessing == "dequantise"


def test_an_unknown_preprocessing_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="must name some of flip, dequantise, each once, joined by a plus"):
        Recipe(preprocessing="flip+flip")


def test_began_starts_as_the_program() -> None:
    for network in build("began", width=4).networks(ImageSpec(1, 28, 28)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                receptive = module.weight[0][0].numel()
                bound = (6 / (receptive * (module.weight.shape[0] + module.weight.shape[1]))) ** 0.5
                assert 0.8 * bound < module.weight.abs().max() <= bound
                assert not module.bias.any()


def test_the_strided_convolutions_of_began_pad_bottom_and_right() -> None:
    discriminator = build("began", width=4).networks(ImageSpec(1, 28, 28))[1]
    halving = next(module for module in discriminator.modules() if isinstance(module, began.Halving))
    features = torch.randn(2, 4, 8, 8)
    expected = F.conv2d(F.pad(features, (0, 1, 0, 1)), halving.weight, halving.bias, stride=2)
    assert torch.equal(halving(features), expected)
    halving.padding = (1, 1)
    assert torch.equal(halving(features), F.conv2d(features, halving.weight, halving.bias, stride=2, padding=1))


def test_diffaugment_draws_as_the_program_for_one_channel() -> None:
    grey = torch.rand(4, 1, 8, 8)
    torch.manual_seed(0)
    drawn = DiffAugment(policy="color")(grey)
    torch.manual_seed(0)
    brightness, _, contrast = (torch.rand(4, 1, 1, 1) for _ in range(3))
    moved = grey + brightness - 0.5
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(drawn, (moved - mean) * (0.5 + contrast) + mean)
    torch.manual_seed(0)
    assert not torch.equal(DiffAugment(policy="color", saturation="skipped")(grey), drawn)


@pytest.mark.parametrize("penalty", [GradientPenalty, DRAGAN])
def test_eps_under_the_root(penalty: Any) -> None:
    """With D(x) = the sum of 12 pixels, the norm is the root of 12 + eps."""
    labels = torch.zeros(5, dtype=torch.int64)
    reals = torch.rand(5, 3, 2, 2)
    round = ganzoo.Round(reals, labels, labels, lambda *_: reals - 1, lambda images, _: images.flatten(1).sum(1))
    assert penalty(weight=2, eps=4.0).discriminator(round).item() == pytest.approx(2 * (16**0.5 - 1) ** 2, rel=1e-5)
    assert penalty(weight=2).discriminator(round).item() == pytest.approx(2 * (12**0.5 - 1) ** 2, rel=1e-5)


def test_the_recipes_of_infogan_have_it() -> None:
    recipes = build("infogan-nets").recipes
    assert {loss for recipe in recipes.values() for loss in recipe.get("losses", ()) if "weight=10" in loss} == {
        "gradient-penalty:weight=10,eps=1e-4",
        "dragan:weight=10,eps=1e-4",
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sngan", "begins with a generator's turn"),
        ("sngan", "updates the generator with batches of 128"),
        ("sngan", "in Chainer beside the other"),
        ("sngan", "dis_models/snresnet_32.py (e84b1a5)"),
        ("wgan-gp", "in the program beside the other one"),
        ("infogan-nets", "after the 1st, the 2nd, the 7th, the 12th"),
        ("infogan-nets", "in the program beside the other one"),
        ("began", "1e-4 and not 8e-5"),
        ("r3gan", "the program adds a mirrored copy of each"),
    ],
)
def test_what_is_not_mended_is_stated(name: str, words: str) -> None:
    assert words in " ".join((type(build(name)).__doc__ or "").split())


@pytest.mark.parametrize("test", sorted({difference.test for difference in DIFFERENCES}))
def test_the_test_of_a_difference_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_the_page_has_every_difference() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    assert [line for line in difference_lines() if line not in page] == [], "run `make fidelity`"


def test_the_power_iteration_of_version_0_1() -> None:
    """u = W v first, from vectors that 15 iterations have moved; the program has v = W^T u first, from a random u."""
    for name in ("sngan", "sngan-projection"):
        torch.manual_seed(0)
        kinds = {
            option: {
                type(module).__name__
                for module in build(name, width=4, power_iteration=option).networks(IMAGES)[1].modules()
                if "SpectralNorm" in type(module).__name__
            }
            for option in ("program", "pytorch")
        }
        assert kinds == {"program": {"SpectralNorm"}, "pytorch": {"_SpectralNorm"}}
