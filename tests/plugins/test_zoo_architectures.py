"""The other published architectures: parameter counts, initial weights, spectral norm, recipes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import ZOO
from small_architectures import NAMES, SMALL, assert_recipe, draw, parameter_count, small
from torch import Tensor, nn

import ganzoo
from ganzoo import Choice
from ganzoo.engine.cuda_graph import StepGraph
from ganzoo.engine.step import graphed, run_step
from ganzoo.registry.recipes import plan
from ganzoo.training.build import build_setup
from ganzoo_plugins.architectures.dcgan import DCGAN
from ganzoo_plugins.architectures.infogan_nets import InfoGANNets
from ganzoo_plugins.architectures.sngan import SNGAN
from ganzoo_plugins.architectures.wgan_gp import WGANGP
from ganzoo_plugins.layers import resnet

CPU = torch.device("cpu")
RESIDUAL = (WGANGP, SNGAN)
ALL = (DCGAN, InfoGANNets, *RESIDUAL)
MNIST, CIFAR = ganzoo.ImageSpec(1, 28, 28), ganzoo.ImageSpec(3, 32, 32)
FEW = torch.zeros(4, dtype=torch.int64)


# --- numbers of the sources -----------------------------------------------------------------------------------

# Newmu/dcgan_code, faces/train_uncond_dcgan.py: its lists gen_params and discrim_params, ngf = ndf = 128, 64 pixels
DCGAN_GENERATOR = (
    *(100 * 1024 * 16, 2 * 1024 * 16),
    *(1024 * 512 * 25, 2 * 512),
    *(512 * 256 * 25, 2 * 256),
    *(256 * 128 * 25, 2 * 128, 128 * 3 * 25),
)
DCGAN_DISCRIMINATOR = (
    *(3 * 128 * 25, 128 * 256 * 25, 2 * 256),
    *(256 * 512 * 25, 2 * 512),
    *(512 * 1024 * 25, 2 * 1024, 1024 * 16),
)
# google/compare_gan, src/gans/abstract_gan.py at 28 pixels
INFOGAN_GENERATOR = (
    *(64 * 1024 + 1024, 2 * 1024),
    *(1024 * 128 * 49 + 128 * 49, 2 * 128 * 49),
    *(128 * 64 * 16 + 64, 2 * 64, 64 * 16 + 1),
)
INFOGAN_DISCRIMINATOR = (
    *(64 * 16 + 64, 64 * 128 * 16 + 128, 2 * 128),
    *(128 * 49 * 1024 + 1024, 2 * 1024, 1024 + 1),
)


def residual_generator(width: int) -> list[int]:
    """pfnet-research/sngan_projection, gen_models/resnet_32.py, and igul222's program: l1, three blocks, b5, c5."""
    block = 2 * (9 * width * width + width) + 2 * 2 * width + width * width + width
    return [128 * 16 * width + 16 * width, 3 * block, 2 * width, width * 3 * 9 + 3]


def residual_features(width: int) -> list[int]:
    """dis_models/snresnet_32.py: OptimizedBlock, a block that halves, two that do not."""
    convolutions = 2 * (9 * width * width + width)
    first = (3 * 9 * width + width) + (9 * width * width + width) + (3 * width + width)
    return [first, convolutions + width * width + width, 2 * convolutions]


@pytest.mark.parametrize(
    ("architecture", "images", "generator", "discriminator"),
    [
        (DCGAN(), ganzoo.ImageSpec(3, 64, 64), DCGAN_GENERATOR, DCGAN_DISCRIMINATOR),
        (InfoGANNets(), MNIST, INFOGAN_GENERATOR, INFOGAN_DISCRIMINATOR),
        (WGANGP(width=128), CIFAR, residual_generator(128), [*residual_features(128), 128 + 1]),
        (SNGAN(), CIFAR, residual_generator(256), [*residual_features(128), 128]),
    ],
)
def test_parameter_counts_are_those_of_the_sources(
    architecture: ganzoo.Architecture, images: ganzoo.ImageSpec, generator: list[int], discriminator: list[int]
) -> None:
    counts = [parameter_count(network) for network in architecture.networks(images)]
    assert counts == [sum(generator), sum(discriminator)]


def test_without_batch_norm_the_discriminator_has_less() -> None:
    _, discriminator = InfoGANNets(batch_norm=False).networks(MNIST)
    assert parameter_count(discriminator) == sum(INFOGAN_DISCRIMINATOR) - 2 * 128 - 2 * 1024
    _, discriminator = DCGAN(batch_norm=False).networks(ganzoo.ImageSpec(3, 64, 64))
    assert parameter_count(discriminator) == sum(DCGAN_DISCRIMINATOR) - 2 * (256 + 512 + 1024)


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", range(16, 65, 4))
def test_residual_networks_begin_and_end_small(side: int) -> None:
    images = ganzoo.ImageSpec(1, side, side)
    begin, end = side >> resnet.doublings(images, "x"), side >> resnet.halvings(images)
    assert 4 <= begin <= 7 or begin % 2  # an odd size cannot be halved again
    assert 7 <= end <= 12 or end % 2
    assert end << resnet.halvings(images) == side  # every mean over 2x2 has even sides


def test_the_published_size_is_built_as_published() -> None:
    generator, discriminator = SNGAN(width=4).networks(CIFAR)
    assert generator.base == (8, 4, 4)
    assert discriminator.features(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 8, 8)
    generator, _ = DCGAN(width=4).networks(ganzoo.ImageSpec(3, 64, 64))
    assert generator.base == (32, 4, 4)


# --- first weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [DCGAN, InfoGANNets])
def test_initial_weights_are_normal(architecture: type[ganzoo.Architecture]) -> None:
    for network in architecture(width=32).networks(MNIST):  # type: ignore[call-arg]
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 10_000:
                truncated = architecture is InfoGANNets and isinstance(module, nn.Conv2d)
                # a normal distribution truncated at two deviations has 0.88 of its deviation
                assert module.weight.std().item() == pytest.approx(0.0176 if truncated else 0.02, rel=0.05)
                assert (module.weight.abs().max() <= 0.04) == truncated
                assert module.bias is None or not module.bias.any()


def test_scales_of_dcgan_are_normal_around_one() -> None:
    generator, _ = DCGAN(width=64).networks(MNIST)
    assert generator.bn0.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert generator.bn0.weight.mean().item() == pytest.approx(1, abs=0.01)


def test_initial_weights_of_residual_networks_are_glorot_uniform() -> None:
    generator, critic = WGANGP(width=64).networks(CIFAR)
    for network in (generator, critic):
        for name, weight in network.named_parameters():
            if weight.ndim < 2:
                assert torch.equal(weight, torch.ones_like(weight) if "bn" in name and "weight" in name else 0 * weight)
                continue
            window = weight[0, 0].numel() if weight.ndim == 4 else 1
            # He's gain for the convolutions between ReLUs: all 3x3 convolutions inside blocks
            variance = (4 if "blocks" in name and window == 9 else 2) / (window * (weight.shape[0] + weight.shape[1]))
            assert weight.abs().max() <= (3 * variance) ** 0.5
            if weight.numel() > 1000:
                assert weight.std().item() == pytest.approx(variance**0.5, rel=0.1)


@pytest.mark.parametrize("architecture", [DCGAN, InfoGANNets])
def test_a_batch_of_one_is_allowed(architecture: type[ganzoo.Architecture]) -> None:
    made = small(architecture)
    generator, discriminator = made.networks(ganzoo.ImageSpec(1, 8, 8))
    assert discriminator(generator(draw(made, 1), FEW[:1]), FEW[:1]).isfinite().all()


# --- residual layers --------------------------------------------------------------------------------------------


def spectral_layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def test_every_layer_of_the_discriminator_has_spectral_norm_one() -> None:
    torch.manual_seed(0)
    generator, discriminator = SNGAN(width=8).networks(MNIST)
    with torch.no_grad():
        for layer in spectral_layers(discriminator):
            layer.parametrizations.weight.original.mul_(7)
        for _ in range(40):
            discriminator(torch.zeros(1, 1, 28, 28), FEW[:1])
    discriminator.eval()
    layers = spectral_layers(discriminator)
    assert len(layers) == 2 + 1 + 2 + 1 + 4 + 1  # convolutions and shortcuts by block, and the last
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        assert largest.item() == pytest.approx(1, abs=1e-3)
    assert not any(name.endswith("_u") for name, _ in generator.named_buffers())


def test_the_power_iteration_runs_in_training_mode_only() -> None:
    _, discriminator = small(SNGAN).networks(MNIST)
    images = torch.zeros(2, 1, 28, 28)

    def vectors() -> list[Tensor]:
        return [buffer.clone() for buffer in discriminator.buffers()]

    first = vectors()
    discriminator(images, FEW[:2])
    second = vectors()
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    discriminator.eval()(images, FEW[:2])
    assert all(torch.equal(a, b) for a, b in zip(second, vectors(), strict=True))
    assert {name.rpartition(".")[2] for name in discriminator.state_dict()} == {"bias", "original", "_u", "_v"}


def test_a_spectral_step_can_be_differentiated_twice_and_in_two_parts() -> None:
    """Logits of reals and of fakes use different power iterations, and one gradient goes through both."""
    _, discriminator = small(SNGAN).networks(MNIST)
    reals, fakes = (torch.randn(2, 1, 28, 28, requires_grad=True) for _ in range(2))
    cost = discriminator(reals, FEW[:2]).mean() - discriminator(fakes, FEW[:2]).mean()
    (slopes,) = torch.autograd.grad(cost, reals, create_graph=True)
    (cost + slopes.square().sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in discriminator.parameters())


def test_spectral_norm_is_finite_in_bfloat16() -> None:
    _, discriminator = small(SNGAN).networks(MNIST)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        logits = discriminator(torch.randn(2, 1, 28, 28), FEW[:2])
    logits.float().sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in discriminator.parameters())
    assert all(buffer.dtype == torch.float32 for buffer in discriminator.buffers())


def test_a_generator_block_is_the_published_one() -> None:
    """Upsampling before the 1x1 shortcut, as published, and after it, as computed, are the same."""
    block = resnet.GeneratorBlock(3, 5)
    features = torch.randn(2, 3, 4, 4)
    double = nn.Upsample(scale_factor=2, mode="nearest")
    first = block.conv1(double(torch.relu(nn.functional.batch_norm(features, None, None, training=True))))
    second = block.conv2(torch.relu(nn.functional.batch_norm(first, None, None, training=True)))
    expected = second + block.shortcut(double(features))
    torch.testing.assert_close(block(features, FEW[:2]), expected)


@pytest.mark.parametrize("halve", [True, False])
def test_a_discriminator_block_is_the_published_one(halve: bool) -> None:
    block = resnet.DiscriminatorBlock(3, 5, halve=halve)
    features = torch.randn(2, 3, 8, 8)
    pool = nn.AvgPool2d(2) if halve else nn.Identity()
    inner = block.conv2(torch.relu(block.conv1(torch.relu(features))))
    torch.testing.assert_close(block(features), pool(inner) + pool(block.shortcut(features)))
    same = resnet.DiscriminatorBlock(3, 3, halve=False)
    assert isinstance(same.shortcut, nn.Identity)


def test_conditional_batch_norm_uses_the_class() -> None:
    norm = resnet.ConditionalBatchNorm2d(2, classes=3)
    features, labels = torch.randn(4, 2, 5, 5), torch.tensor([0, 1, 2, 1])
    plain = nn.functional.batch_norm(features, None, None, training=True)
    torch.testing.assert_close(norm(features, labels), plain)
    with torch.no_grad():
        norm.scale.weight[1] = torch.tensor([2.0, 3.0])
        norm.shift.weight[2] = torch.tensor([-1.0, 1.0])
    changed = norm(features, labels)
    torch.testing.assert_close(changed[0], plain[0])
    torch.testing.assert_close(changed[1], plain[1] * torch.tensor([2.0, 3.0])[:, None, None])
    torch.testing.assert_close(changed[2], plain[2] + torch.tensor([-1.0, 1.0])[:, None, None])


def test_a_conditional_generator_draws_another_image_for_another_class() -> None:
    generator = resnet.ResNetGenerator(8, 4, MNIST, 2, classes=2)
    with torch.no_grad():
        for block in generator.blocks:
            block.bn1.shift.weight[1] += 1
    latents = torch.randn(1, 8).expand(2, 8)
    first, second = generator.eval()(latents, torch.tensor([0, 1]))
    assert not torch.allclose(first, second)


# --- recipes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "variant", "expected"),
    [
        (
            DCGAN,
            None,
            {
                "losses": "nonsaturating",
                "turns": "D,G",
                "generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999",
                "batch_size": 128,
            },
        ),
        (
            DCGAN,
            "wgan",
            {
                "turns": "D,D,D,D,D,G",
                "generator_optimizer": "rmsprop:lr=5e-5",
                "discriminator_optimizer": "rmsprop:lr=5e-5,clip=0.01",
                "batch_size": 64,
            },
        ),
        (DCGAN, "wgan-gp", {"losses": "wasserstein gradient-penalty:weight=10", "turns": "D,D,D,D,D,G"}),
        (DCGAN, "r3gan", {"losses": "relativistic r1:gamma=0.1 r2:gamma=0.1", "turns": "D,G.new"}),
        (
            WGANGP,
            None,
            {
                "losses": "wasserstein gradient-penalty:weight=10",
                "turns": "D,D,D,D,D,G",
                "generator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.9",
                "discriminator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.9",
                "batch_size": 64,
                "length": "100000 steps",
            },
        ),
        (
            SNGAN,
            None,
            {
                "losses": "hinge",
                "turns": "D,D,D,D,D,G",
                "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
                "batch_size": 64,
                "length": "50000 steps",
            },
        ),
        (InfoGANNets, "nonsaturating", {"losses": "nonsaturating", "turns": "D,G"}),
        (
            InfoGANNets,
            "minimax",
            {"losses": "minimax", "generator_optimizer": "adam:lr=5e-5,beta1=0,beta2=0.999", "batch_size": 64},
        ),
        (InfoGANNets, "least-squares", {"generator_optimizer": "adam:lr=2e-4,beta1=0.5,beta2=0.999"}),
        (
            InfoGANNets,
            "wasserstein",
            {
                "turns": "D,D,D,D,D,G",
                "generator_optimizer": "adam:lr=5e-5,beta1=0.5,beta2=0.999",
                "discriminator_optimizer": "adam:lr=5e-5,beta1=0.5,beta2=0.999,clip=0.01",
            },
        ),
        (
            InfoGANNets,
            "wgan-gp",
            {
                "architecture": "infogan-nets:batch_norm=false",
                "losses": "wasserstein gradient-penalty:weight=10,eps=1e-4",
            },
        ),
        (InfoGANNets, "dragan", {"losses": "nonsaturating dragan:weight=10,eps=1e-4", "turns": "D,G"}),
    ],
)
def test_recipes_hold_the_published_numbers(
    architecture: type[ganzoo.Architecture], variant: str | None, expected: dict[str, Any]
) -> None:
    assert_recipe(architecture.recipe.merged(architecture.recipes[variant] if variant else {}), expected)


def test_every_variant_of_infogan_nets_runs_twenty_epochs() -> None:
    for changes in InfoGANNets.recipes.values():
        assert str(InfoGANNets.recipe.merged(changes).length) == "20 epochs"


@pytest.mark.parametrize(
    ("architecture", "variant"), [(part, variant) for part in ALL for variant in (None, *part.recipes)]
)
def test_every_recipe_runs_two_finite_steps(architecture: type[ganzoo.Architecture], variant: str | None) -> None:
    """On the digits, with narrow networks and a small batch; everything else is as in the recipe."""
    chosen = Choice(NAMES[architecture], SMALL[architecture])
    recipe = plan(ZOO, chosen, Choice("digits"), variant, {"batch_size": 4, "subset": "first 64"})
    setup = build_setup(recipe, ZOO, CPU)
    game, feed = setup.game, setup.feed
    players = (game.generator, game.discriminator)
    before = [[weight.clone() for weight in network.parameters()] for network in players]
    for step in range(2):
        run_step(game, feed, recipe.seed, step)
    assert all(value.isfinite().all() for value in game.state().values())
    for network, weights in zip(players, before, strict=True):
        pairs = zip(weights, network.parameters(), strict=True)
        assert any(not torch.equal(old, new) for old, new in pairs if new.ndim > 1)


def after_six_steps(name: str, variant: str, device: torch.device, capture: bool) -> tuple[dict[str, Tensor], str]:
    """The state of a game after six steps, and why its steps were not recorded (empty where they were)."""
    recipe = plan(ZOO, Choice(name, {"width": 8}), Choice("digits"), variant, {"batch_size": 8, "subset": "first 64"})
    setup = build_setup(recipe, ZOO, device)
    game, feed = setup.game, setup.feed
    graph = StepGraph(device, game.random, capture)
    for step in range(6):
        run_step(game, feed, recipe.seed, step, graphed(graph))
    return {key: value.detach().cpu().clone() for key, value in game.state().items()}, graph.reason


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("sngan", "digits"),
        ("wgan-gp", "digits"),
        ("infogan-nets", "dragan"),
        ("infogan-nets", "wasserstein"),
        ("dcgan", "wgan"),
    ],
)
def test_recorded_steps_are_eager_steps(name: str, variant: str) -> None:
    """Power iterations, perturbations of reals, weight clipping and rmsprop, all inside a CUDA graph."""
    device = torch.device("cuda")
    recorded, reason = after_six_steps(name, variant, device, capture=True)
    assert not reason
    eager, _ = after_six_steps(name, variant, device, capture=False)
    for key, value in eager.items():
        torch.testing.assert_close(recorded[key], value, rtol=1e-3, atol=1e-5, msg=key)
