"""Mistakes that the recorded numbers of published programs show, parameter counts, and initial weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from official_programs import first_step, replay
from published import GOLDEN, Mapping64
from torch import nn

import ganzoo
from ganzoo.engine.game import Game
from ganzoo_plugins.architectures import _biggan_networks as biggan
from ganzoo_plugins.architectures.biggan import BigGAN
from ganzoo_plugins.architectures.dcgan_pytorch import DCGANPyTorch
from ganzoo_plugins.architectures.sngan import SNGAN
from ganzoo_plugins.architectures.sngan_projection import SNGANProjection
from ganzoo_plugins.architectures.wgan_gp import WGANGP
from ganzoo_plugins.layers.resnet import ConditionalBatchNorm2d, DiscriminatorBlock, GeneratorBlock
from ganzoo_plugins.layers.spectral import SpectralNorm

# --- mistakes ---------------------------------------------------------------------------------------------------


def modules(network: nn.Module, kind: type) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kind)]


def nearest_doubling(game: Game) -> None:
    for block in modules(game.generator, GeneratorBlock):
        block.doubling = "nearest"


def shortcuts_of_the_features(game: Game) -> None:
    for block in modules(game.discriminator, DiscriminatorBlock):
        block.rectified_shortcut = False


def another_eps(game: Game) -> None:
    for norm in modules(game.generator, nn.BatchNorm2d):
        norm.eps = 2e-5


def another_eps_of_torch(game: Game) -> None:
    for norm in modules(game.generator, nn.BatchNorm2d):
        norm.eps = 1e-5


def shortcuts_of_rectified_features(game: Game) -> None:
    for block in modules(game.discriminator, DiscriminatorBlock)[1:]:
        block.rectified_shortcut = True


def scales_and_shifts_swapped(game: Game) -> None:
    for norm in modules(game.generator, ConditionalBatchNorm2d):
        norm.scale, norm.shift = norm.shift, norm.scale


def frozen_vectors(game: Game) -> None:
    for norm in modules(game.discriminator, SpectralNorm):
        norm.train = lambda mode=True, norm=norm: norm  # type: ignore[assignment]
        norm.training = False


def sum_over_positions(game: Game) -> None:
    game.discriminator.dense.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 64,))


def another_momentum(game: Game) -> None:
    for norm in modules(game.generator, nn.BatchNorm2d):
        norm.momentum = 0.2


def no_tanh(game: Game) -> None:
    game.generator.register_forward_hook(lambda _, __, images: images.atanh())


def another_slope(game: Game) -> None:
    # leaky_relu(x, 0.01) - leaky_relu(x, 0.2) = 0.19 * relu(-x)
    norm = game.discriminator.bns[0]
    norm.register_forward_hook(lambda _, __, x: torch.where(x < 0, 0.05 * x, x))


def half_the_loss(game: Game) -> None:
    game.losses[0].share = 0.5  # type: ignore[assignment]


def wrong_way_through_the_penalty(game: Game) -> None:
    game.losses[1].target = 0.0  # type: ignore[assignment]


def classes_not_around_one(game: Game) -> None:
    for norm in modules(game.generator, biggan.BatchNorm):
        norm.gain.register_forward_hook(lambda _, __, gain: gain - 1)


def mean_over_positions(game: Game) -> None:
    game.discriminator.linear.register_forward_pre_hook(lambda _, inputs: (inputs[0] / 64,))


def two_forwards(game: Game) -> None:
    game._joint_forward = False


def no_attention(game: Game) -> None:
    for module in modules(game.generator, biggan.Attention):
        module.gamma.data.zero_()


def chunks_in_another_order(game: Game) -> None:
    game.generator.register_forward_pre_hook(lambda _, inputs: (inputs[0].roll(5, dims=1), inputs[1]))


def no_orthogonal_gradient(game: Game) -> None:
    game.players["G"].optimizer._optimizer_step_pre_hooks.clear()


def another_adam(game: Game) -> None:
    game.players["G"].optimizer.component.eps = 1e-5  # type: ignore[attr-defined]


def classes_of_the_reals(game: Game) -> None:
    discriminate = game.discriminate
    game.discriminate = lambda images, labels: discriminate(images, labels.roll(1))  # type: ignore[method-assign]


MISTAKES = {
    "biggan/cifar-32": [classes_not_around_one, mean_over_positions, two_forwards, frozen_vectors],
    "biggan/imagenet-options-32": [no_attention, chunks_in_another_order, no_orthogonal_gradient, mean_over_positions],
    "dcgan/pytorch-examples-64": [no_tanh, another_slope, half_the_loss, another_momentum],
    "sngan/mimicry-sngan-32": [nearest_doubling, shortcuts_of_the_features, another_eps, frozen_vectors],
    "sngan/pfnet-32": [frozen_vectors, another_eps_of_torch, another_adam, shortcuts_of_rectified_features],
    "sngan-projection/pfnet-32": [scales_and_shifts_swapped, classes_of_the_reals, another_eps_of_torch],
    "sngan-projection/mimicry-cgan-pd-32": [nearest_doubling, shortcuts_of_the_features, scales_and_shifts_swapped],
    "wgan-gp/mimicry-wgan-gp-32": [
        shortcuts_of_the_features,
        sum_over_positions,
        wrong_way_through_the_penalty,
        another_eps,
    ],
}


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes]
)
def test_a_mistake_is_found(name: str, mistake: Callable[[Game], None]) -> None:
    errors = first_step(replay(name, torch.float64, mistake))
    assert any(not error <= 1e-6 for error in errors.values()), errors


# --- sizes and initial weights ----------------------------------------------------------------------------------


IMAGENET = {"latent_dim": 120, "shared": 128, "hierarchical": True, "attention": 64, "width": 96}


@pytest.mark.parametrize(
    ("architecture", "images", "generator", "discriminator"),
    [
        (BigGAN(), (3, 32, 32, 10), 4_304_387, 4_207_361),
        (BigGAN(**IMAGENET), (3, 128, 128, 1000), 70_433_988, 87_982_370),
        (DCGANPyTorch(), (3, 64, 64, 1), 3_576_704, 2_765_568),
        (SNGAN(program="mimicry"), (3, 32, 32, 1), 4_276_739, 1_053_825),
        (SNGANProjection(program="mimicry"), (3, 32, 32, 10), 4_304_387, 1_055_105),
        (WGANGP(program="mimicry", width=128, generator_width=256), (3, 32, 32, 1), 4_276_739, 1_053_825),
    ],
)
def test_published_parameter_counts(
    architecture: ganzoo.Architecture, images: tuple[int, int, int, int], generator: int, discriminator: int
) -> None:
    with torch.device("meta"):
        made = architecture.networks(ganzoo.ImageSpec(*images))
    assert [sum(p.numel() for p in network.parameters()) for network in made] == [generator, discriminator]


@pytest.mark.parametrize(
    ("program", "fixture", "architecture"),
    [
        ("mimicry", "wgan-gp-32", WGANGP(program="mimicry", width=64, generator_width=64)),
        ("mimicry", "cgan-pd-32", SNGANProjection(program="mimicry", width=64, generator_width=64)),
        ("biggan", "cifar N02", BigGAN(width=16)),
    ],
)
def test_initial_weights_are_spread_as_the_programs_are(
    program: str, fixture: str, architecture: ganzoo.Architecture
) -> None:
    """Standard deviations of large tensors, against those of one construction by the official code."""
    recorded = json.loads((GOLDEN / "init-stats.json").read_text())[program][fixture]
    mapping = Mapping64(type(architecture), {row["name"]: np.zeros(row["shape"]) for row in recorded})
    torch.manual_seed(0)
    made = architecture.networks(ganzoo.ImageSpec(3, 32, 32, 10))
    compared = 0
    for name, network in zip(("generator", "discriminator"), made, strict=True):
        found = mapping.official(name, network.state_dict())
        for row in recorded:
            if row["name"] in found and found[row["name"]].size >= 500:
                assert found[row["name"]].std() == pytest.approx(row["std"], rel=0.15, abs=1e-12), row["name"]
                compared += 1
    assert compared > 10
