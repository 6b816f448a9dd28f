"""The origin architectures: image sizes, parameter counts, initial weights, recipes."""

from __future__ import annotations

import pytest
import torch
from small_architectures import assert_recipe, draw, small
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures.dcgan_atienza import DCGANAtienza
from ganzoo_plugins.architectures.dcgan_atienza_book import DCGANAtienzaBook
from ganzoo_plugins.architectures.dcgan_tutorial import DCGANTutorial
from ganzoo_plugins.architectures.mlp_keras_gan import MLPKerasGAN
from ganzoo_plugins.architectures.mlp_vanilla import MLPVanilla

CONVOLUTIONAL = (DCGANTutorial, DCGANAtienza, DCGANAtienzaBook)
ALL = (*CONVOLUTIONAL, MLPKerasGAN, MLPVanilla)
MNIST = ganzoo.ImageSpec(1, 28, 28)


def parameters(network: nn.Module, buffers: bool) -> int:
    return sum(t.numel() for t in (*network.parameters(), *(network.buffers() if buffers else ())))


@pytest.mark.parametrize(
    ("architecture", "generator", "trainable", "discriminator"),
    [
        (DCGANTutorial, 2_330_944, 2_305_472, 212_865),
        (DCGANAtienza, 2_394_241, 2_368_705, 4_311_553),
        (DCGANAtienzaBook, 1_301_505, 1_300_801, 1_080_577),
        (MLPKerasGAN, 1_493_520, 1_489_936, 533_505),
        (MLPVanilla, 114_064, 114_064, 100_609),
    ],
)
def test_parameter_counts_are_the_published_ones(
    architecture: type[ganzoo.Architecture], generator: int, trainable: int, discriminator: int
) -> None:
    networks = architecture().networks(MNIST)
    assert parameters(networks[0], buffers=True) == generator
    assert parameters(networks[0], buffers=False) == trainable
    assert parameters(networks[1], buffers=True) == discriminator


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (64, 64), (4, 12)])
@pytest.mark.parametrize("architecture", ALL)
def test_images_reach_the_ends_of_their_range(
    architecture: type[ganzoo.Architecture], size: tuple[int, int], channels: int
) -> None:
    made = small(architecture)
    generator, _ = made.networks(ganzoo.ImageSpec(channels, *size))
    list(generator.children())[-1].weight.data *= 1000
    images = generator(draw(made), torch.zeros(4, dtype=torch.int64))
    low, high = made.value_range
    assert low <= images.min() < low + 0.01
    assert high >= images.max() > high - 0.01


@pytest.mark.parametrize("architecture", [MLPKerasGAN, MLPVanilla])
def test_fully_connected_networks_accept_any_size(architecture: type[ganzoo.Architecture]) -> None:
    generator, _ = small(architecture).networks(ganzoo.ImageSpec(2, 5, 7))
    assert generator(torch.zeros(3, 100), torch.zeros(3, dtype=torch.int64)).shape == (3, 2, 5, 7)


@pytest.mark.parametrize("architecture", [*CONVOLUTIONAL, MLPKerasGAN])
def test_initial_weights_are_glorot_uniform(architecture: type[ganzoo.Architecture]) -> None:
    for network in architecture().networks(MNIST):
        for name, tensor in network.named_parameters():
            if tensor.ndim == 1:
                assert torch.equal(tensor, torch.ones_like(tensor) if "bn" in name and "weight" in name else 0 * tensor)
                continue
            window = tensor[0, 0].numel() if tensor.ndim == 4 else 1
            limit = (6 / (window * (tensor.shape[0] + tensor.shape[1]))) ** 0.5
            assert tensor.abs().max() <= limit
            assert tensor.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)


def test_initial_weights_of_the_vanilla_gan_are_normal() -> None:
    generator, discriminator = MLPVanilla().networks(MNIST)
    assert generator.dense1.weight.std().item() == pytest.approx(0.141421, rel=0.02)
    assert generator.dense2.weight.std().item() == pytest.approx(0.125, rel=0.02)
    assert discriminator.dense1.weight.std().item() == pytest.approx(0.050508, rel=0.02)
    assert discriminator.dense1.weight.abs().max() > 3 * 0.050508  # not truncated
    assert not discriminator.dense1.bias.any()


@pytest.mark.parametrize(
    ("architecture", "shares"), [(DCGANTutorial, (0, 0.3)), (DCGANAtienza, (0.4, 0.4)), (DCGANAtienzaBook, (0, 0))]
)
def test_published_dropout(architecture: type[ganzoo.Architecture], shares: tuple[float, float]) -> None:
    for network, share in zip(architecture().networks(MNIST), shares, strict=True):
        dropouts = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
        assert dropouts == ([share] if share else [])


def masks(network: nn.Module, values: Tensor) -> int:
    """How many dropout masks one forward draws."""
    calls: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_: calls.append(1))
    network(values, torch.zeros(len(values), dtype=torch.int64))
    return len(calls)


@pytest.mark.parametrize(("architecture", "expected"), [(DCGANAtienza, (1, 4)), (DCGANTutorial, (0, 2))])
def test_dropout_is_drawn_as_often_as_published(
    architecture: type[ganzoo.Architecture], expected: tuple[int, int]
) -> None:
    generator, discriminator = small(architecture).networks(MNIST)
    assert (masks(generator, torch.rand(4, 100)), masks(discriminator, torch.rand(4, 1, 28, 28))) == expected


#: the published numbers, written again on purpose: taken from the architecture, they would check nothing
RECIPES = {
    DCGANTutorial: {
        "turns": "D+G",
        "generator_mode_for_discriminator": "training",
        "generator_optimizer": "keras-adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7",
        "discriminator_optimizer": "keras-adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7",
        "batch_size": 256,
        "batch_order": "epochs",
        "subset": "all",
        "length": "50 epochs",
        "samples_every": "1 epochs",
        "checkpoint_every": "15 epochs",
        "grid": "4x4",
    },
    DCGANAtienza: {
        "turns": "D,GD",
        "generator_mode_for_discriminator": "inference",
        "generator_optimizer": "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-8",
        "discriminator_optimizer": "keras-rmsprop:lr=2e-4,decay=6e-8,eps=1e-8",
        "batch_size": 256,
        "batch_order": "replacement",
        "subset": "last 55000",
        "length": "10000 steps",
        "samples_every": "500 steps",
    },
    DCGANAtienzaBook: {
        "turns": "D,G",
        "generator_mode_for_discriminator": "inference",
        "generator_optimizer": "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-7",
        "discriminator_optimizer": "keras-rmsprop:lr=2e-4,decay=6e-8,eps=1e-7",
        "batch_size": 64,
        "batch_order": "replacement",
        "subset": "all",
        "length": "40000 steps",
        "samples_every": "500 steps",
    },
    MLPKerasGAN: {
        "turns": "D.reals,D.fakes,G",
        "generator_mode_for_discriminator": "inference",
        "generator_optimizer": "keras-adam:lr=2e-4,beta1=0.5,beta2=0.999,eps=1e-7",
        "discriminator_optimizer": None,
        "batch_size": 256,
        "batch_order": "replacement",
        "length": "3000 steps",
        "tick_every": "10 steps",
        "samples_every": "200 steps",
        "grid": "5x5",
    },
    MLPVanilla: {
        "turns": "D,G",
        "generator_optimizer": "keras-adam:lr=1e-3,beta1=0.9,beta2=0.999,eps=1e-8",
        "discriminator_optimizer": "keras-adam:lr=1e-3,beta1=0.9,beta2=0.999,eps=1e-8",
        "batch_size": 16,
        "batch_order": "stream",
        "subset": "last 55000",
        "length": "100000 steps",
        "samples_every": "1000 steps",
        "grid": "4x4",
    },
}


@pytest.mark.parametrize("architecture", ALL)
def test_recipes_hold_the_published_numbers(architecture: type[ganzoo.Architecture]) -> None:
    assert_recipe(architecture.recipe, RECIPES[architecture])


@pytest.mark.parametrize("architecture", ALL)
def test_only_atienza_averages_over_reals_and_fakes(architecture: type[ganzoo.Architecture]) -> None:
    averages = architecture in (DCGANAtienza, DCGANAtienzaBook)
    (loss,) = architecture.recipe.losses
    assert str(loss) == ("nonsaturating:reduction=mean" if averages else "nonsaturating")


@pytest.mark.parametrize(
    ("architecture", "variant", "field", "value"),
    [
        (DCGANTutorial, "homework-mnist", "length", "75 epochs"),
        (DCGANTutorial, "homework-fashion", "length", "60 epochs"),
        (DCGANAtienza, "frozen", "turns", "D,G"),
        (DCGANAtienza, "keras-2.15", "architecture", "dcgan-atienza:keras=2.15"),
        (DCGANAtienza, "keras-2.15", "generator_optimizer", "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-7"),
        (DCGANAtienza, "march-2017", "generator_optimizer", "keras-rmsprop:lr=4e-4,decay=3e-8,eps=1e-8,clip_value=1.0"),
        (
            DCGANAtienza,
            "march-2017",
            "discriminator_optimizer",
            "keras-rmsprop:lr=8e-4,decay=6e-8,eps=1e-8,clip_value=1.0",
        ),
        (MLPKerasGAN, "week06", "batch_size", "256"),
        (MLPKerasGAN, "rsuresh", "batch_size", "32"),
    ],
)
def test_variants(architecture: type[ganzoo.Architecture], variant: str, field: str, value: str) -> None:
    assert str(getattr(architecture.recipe.merged(architecture.recipes[variant]), field)) == value
