"""r3gan: mistakes that the recorded numbers show, the published parameter counts and recipes, and bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import ZOO
from official_numbers import by_group
from official_r3gan import measured
from small_architectures import parameter_count
from torch.nn import functional as F

import ganzoo
from ganzoo import Choice, ImageSpec
from ganzoo.engine.step import run_step
from ganzoo.registry.recipes import plan
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo_plugins.architectures import _r3gan_networks as networks
from ganzoo_plugins.architectures.r3gan import R3GAN
from ganzoo_plugins.augmentations._pipe import BLIT, COLOUR, GEOMETRY
from ganzoo_plugins.augmentations.ada import ADA
from ganzoo_plugins.penalties import zero_centred


def gain_after_the_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    original = F.leaky_relu
    monkeypatch.setattr(networks.F, "leaky_relu", lambda values, slope: 2**0.5 * original(values, slope))


def means_in_the_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    original = zero_centred._squared_gradient
    monkeypatch.setattr(
        zero_centred, "_squared_gradient", lambda logits, images: original(logits, images) / images[0].numel()
    )


def doubling_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 1x1 convolution after the halving becomes one before it; with zeros beyond the border it is the same."""
    monkeypatch.setattr(networks, "_bilinear", lambda channels: torch.full((channels, 1, 4, 4), 1 / 16))


@pytest.mark.parametrize(
    ("changes", "seen_in"),
    [
        ({"architecture": {"end": "tanh"}}, "images"),
        ({"turns": "D,G"}, "losses"),
        ({"gamma": "4.0 -> 0.4 by 24"}, "losses"),
        ({"beta2": 0.9}, "average"),
        (gain_after_the_slope, "images"),
        (means_in_the_norms, "gradients"),
        (doubling_first, "images"),
    ],
)
def test_a_mistake_is_seen(changes: Any, seen_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if callable(changes):
        changes(monkeypatch)
        changes = {}
    assert by_group(measured("r3gan/cond-16", torch.float64, **changes))[seen_in] > 1e-6


#: the published networks; their numbers of parameters in spec 1.5 were counted on the official networks
COUNTS = {
    "cifar10": (32, 10, 20_781_952, 21_280_512),
    "ffhq-64": (64, 1, 22_429_824, 22_381_440),
    "ffhq-256": (256, 1, 23_057_952, 23_009_568),
    "imagenet-32": (32, 1000, 82_914_304, 86_548_992),
    "imagenet-64": (64, 1000, 103_570_432, 107_205_120),
}


def preset(recipe: str) -> R3GAN:
    made = ZOO.build("architectures", Choice.parse(R3GAN.recipes[recipe]["architecture"]))
    assert isinstance(made, R3GAN)
    return made


@pytest.mark.parametrize("recipe", COUNTS)
def test_the_published_networks_have_the_published_numbers_of_parameters(recipe: str) -> None:
    size, classes, *expected = COUNTS[recipe]
    with torch.device("meta"):
        networks = preset(recipe).networks(ImageSpec(3, size, size, classes))
    assert [parameter_count(network) for network in networks] == expected


def test_cifar10_without_classes() -> None:
    with torch.device("meta"):
        networks = R3GAN(width=768).networks(ImageSpec(3, 32, 32))
    assert [parameter_count(network) for network in networks] == [20_732_160, 20_683_776]


@pytest.mark.parametrize("recipe", COUNTS)
def test_the_published_recipes(recipe: str) -> None:
    fields = ganzoo.Recipe().merged(R3GAN.recipes[recipe])
    assert (fields.turns, fields.preprocessing, fields.ema_buffers) == ("D,G.new", "flip", "copied")
    for choice in (*fields.losses, fields.generator_optimizer):
        ZOO.resolve("losses" if choice in fields.losses else "optimizers", choice)
    gammas = {"cifar10": "0.05 -> 0.005 by 40000000", "ffhq-256": "150.0 -> 15.0 by 40000000"}
    if recipe in gammas:
        assert {choice.options["gamma"] for choice in fields.losses[1:]} == {gammas[recipe]}


#: the probability of the augmentation at the end, and the images after which it is reached
AUGMENTED = {
    "cifar10": (0.55, 40_000_000),
    "ffhq-64": (0.3, 40_000_000),
    "ffhq-256": (0.3, 40_000_000),
    "imagenet-32": (0.5, 400_000_000),
    "imagenet-64": (0.4, 400_000_000),
}


def toy(recipe: str) -> TrainingSetup:
    """A published recipe with narrow networks, small batches and small images."""
    narrow = Choice.parse("r3gan:width=8,widths=,groups=1,blocks=1")
    planned = plan(ZOO, narrow, Choice.parse("digits:size=8"), recipe, {"batch_size": 4})
    return build_setup(planned, ZOO, torch.device("cpu"))


@pytest.mark.parametrize("recipe", COUNTS)
def test_two_steps_of_the_published_recipes(recipe: str) -> None:
    setup = toy(recipe)
    (augmentation,) = setup.game.augmentations
    assert isinstance(augmentation, ADA)
    before = [parameter.clone() for parameter in setup.game.generator.parameters()]
    for step in range(2):
        run_step(setup.game, setup.feed, 0, step)
    assert all(parameter.isfinite().all() for parameter in setup.game.generator.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, setup.game.generator.parameters(), strict=True))
    last, images = AUGMENTED[recipe]
    found = []
    for seen in (0, images // 2, images):
        setup.game.advance(seen, 0)
        found.append(float(augmentation.p))
    assert found == pytest.approx([0, last / 2, last], abs=1e-6)
    shares = augmentation.apply_pipe.shares
    assert {name for name, share in shares.items() if share == 0.5} == {*COLOUR}
    assert {name for name, share in shares.items() if share == 1} == {*BLIT, *GEOMETRY, "cutout"}


def test_bfloat16_at_the_largest_sizes() -> None:
    torch.manual_seed(0)
    exact, rounded = (R3GAN(width=8, bf16_stages=stages).networks(ImageSpec(3, 16, 16)) for stages in (0, 2))
    latents, labels = torch.randn(4, 64), torch.zeros(4, dtype=torch.int64)
    for mine, other in zip(exact, rounded, strict=True):
        for parameter in mine.parameters():
            parameter.data.normal_(std=0.2)
        other.load_state_dict(mine.state_dict())
        assert all(parameter.dtype == torch.float32 for parameter in other.parameters())
    seen: list[torch.dtype] = []
    for network in rounded:
        for block in network.layers:
            if isinstance(block, networks.Block):
                block.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    images, expected = rounded[0](latents, labels), exact[0](latents, labels)
    assert images.dtype == torch.float32
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 4
    torch.testing.assert_close(images, expected, rtol=0.1, atol=0.05 * expected.abs().max().item())
    rounded[1](images, labels).sum().backward()
    assert seen[6:] == [torch.bfloat16] * 4 + [torch.float32] * 2
    assert all(parameter.grad is not None for parameter in rounded[1].parameters())


def test_the_classes_matter_only_with_labels() -> None:
    labelled, plain = R3GAN(width=8, labels=True, groups="2"), R3GAN(width=8)
    assert (labelled.conditional, plain.conditional, R3GAN.conditional) == (True, False, False)
    labels = torch.tensor([0, 1, 2, 3])
    for network in labelled.networks(ImageSpec(3, 16, 16, 4)):
        inputs = torch.randn(4, 64) if isinstance(network, networks.Generator) else torch.randn(4, 3, 16, 16)
        for parameter in network.parameters():
            parameter.data.normal_(std=0.2)
        assert not torch.equal(network(inputs, labels), network(inputs, 3 - labels))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": "8+16"}, "widths has 2 numbers, and images of 16x16 pixels have 3 sizes; give 1 or 3"),
        ({"widths": "8x3+0"}, "is not a list of numbers above 0"),
        ({"blocks": "two"}, "is not a list of numbers above 0"),
        ({"width": 12}, "multiple of 8"),
        ({"width": 8, "groups": "3"}, "16 channels cannot be shared by 3 groups"),
    ],
)
def test_bad_widths_are_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ganzoo.UsageError, ganzoo.RefusedSpec), match=words):
        R3GAN(**options).networks(ImageSpec(3, 16, 16))
