"""Published programs against their own numbers: dcgan-pytorch, and the networks of mimicry; mistakes are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from published import DTYPES, GOLDEN, Mapping64, Published, PublishedReplay, Turn
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
from ganzoo_plugins.losses.hinge import Hinge
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.losses.wasserstein import Wasserstein
from ganzoo_plugins.optimizers._orthogonal import orthogonal_gradient
from ganzoo_plugins.optimizers.adam import Adam
from ganzoo_plugins.penalties.gradient_penalty import GradientPenalty

PARTS: dict[str, type] = {
    "adam": Adam,
    "hinge": Hinge,
    "nonsaturating": NonSaturating,
    "wasserstein": Wasserstein,
    "gradient-penalty": GradientPenalty,
}
ADAM = "adam:lr=2e-4,beta1=0,beta2=0.9"
MIMICRY = {"turns": "D,D,G", "batch_size": 4, "generator_optimizer": ADAM, "discriminator_optimizer": ADAM}
MIMICRY |= {"preprocessing": ""}
#: two updates of the discriminator, then one of the generator
TURNS = (
    Turn("z_d00", "y_d00", "x00", "y_x00", group="grad0:D0", after="after:D0"),
    Turn("z_d01", "y_d01", "x01", "y_x01", group="grad0:D1 is not recorded"),
    Turn("z_g0", "y_g0", group="grad0:G"),
)
PENALISED = tuple(
    Turn(**{**vars(turn), "shares": f"a0{index}" if turn.reals else ""}) for index, turn in enumerate(TURNS)
)
DCGAN_TURNS = (Turn("z0", reals="x0", group="grad0:D"), Turn("z0", group="grad0:G"))
BIGGAN = {"batch_size": 4, "ema_half_life": 0, "ema_start": 0}
#: turns of the discriminator look at fakes first, and at all four images of them with the reals at once
BIGGAN_TURNS = (
    Turn("z_d00", "y_d00", "x00", "y_x00", group="grad0:D"),
    Turn("z_d01", "y_d01", "x01", "y_x01", group="grad0:D1 is not recorded"),
    Turn("z_g0", "y_g0", group="grad0:G"),
)
#: fixture -> architecture, changes of its recipe, turns
CASES: dict[str, tuple[type[ganzoo.Architecture], dict[str, Any], tuple[Turn, ...]]] = {
    "dcgan/pytorch-examples-64": (DCGANPyTorch, {"batch_size": 4}, DCGAN_TURNS),
    "sngan/mimicry-sngan-32": (SNGAN, MIMICRY, TURNS),
    "sngan-projection/mimicry-cgan-pd-32": (SNGANProjection, MIMICRY, TURNS),
    "wgan-gp/mimicry-wgan-gp-32": (WGANGP, MIMICRY, PENALISED),
    "biggan/cifar-32": (BigGAN, {**BIGGAN, "turns": "D,D,G"}, BIGGAN_TURNS),
    "biggan/imagenet-options-32": (
        BigGAN,
        {
            **{**BIGGAN, "turns": "D,G", "discriminator_optimizer": "adam:lr=4e-4,beta1=0,beta2=0.999,eps=1e-6"},
            "generator_optimizer": "adam:lr=1e-4,beta1=0,beta2=0.999,eps=1e-6,orthogonal=1e-4",
        },
        (BIGGAN_TURNS[0], BIGGAN_TURNS[2]),
    ),
}


def replay(name: str, dtype: torch.dtype, mistake: Callable[[Game], None] = lambda game: None) -> PublishedReplay:
    architecture, changes, _ = CASES[name]
    return PublishedReplay(Published(name), architecture, changes, PARTS, dtype, mistake)


def check(made: PublishedReplay, name: str) -> None:
    """Outputs, losses, gradients, weights of the first step."""
    made.compare_outputs()
    made.train_first_step(CASES[name][2])
    made.state("after0:G", "generator")
    made.state("after0:D", "discriminator", ("_u", "_v"))
    # the table of wgan-gp has the critic's loss without the penalty, that of biggan one of two turns; the gradients
    # have both
    made.losses(("discriminator_loss",) if name in ("wgan-gp/mimicry-wgan-gp-32", "biggan/cifar-32") else ())


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_the_first_step(name: str, precision: str) -> None:
    check(replay(name, DTYPES[precision]), name)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", ["sngan/mimicry-sngan-32", "sngan-projection/mimicry-cgan-pd-32"])
def test_the_power_iteration_from_vectors_that_have_not_converged(name: str, precision: str) -> None:
    made = replay(name, DTYPES[precision])
    made.set_weights(made.weights | made.fixture.draw("power_weights"))
    discriminator, latents = made.game.discriminator.train(), made.tensor("x_fixed")
    labels = made.labels("y_fixed", len(latents))
    with torch.no_grad():
        found = {f"power/d_logit_x_forward{n}": discriminator(latents, labels).numpy() for n in range(3)}
    made.compare("power", found)
    after = made.mapping.official("discriminator", discriminator.state_dict())
    vectors = {f"power/after3/{n.partition('/')[2]}": v for n, v in after.items() if n.endswith(("_u", "_v"))}
    assert len(vectors) >= 20
    made.compare("power", vectors)


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


MISTAKES = {
    "biggan/cifar-32": [classes_not_around_one, mean_over_positions, two_forwards, frozen_vectors],
    "biggan/imagenet-options-32": [no_attention, chunks_in_another_order, no_orthogonal_gradient, mean_over_positions],
    "dcgan/pytorch-examples-64": [no_tanh, another_slope, half_the_loss, another_momentum],
    "sngan/mimicry-sngan-32": [nearest_doubling, shortcuts_of_the_features, another_eps, frozen_vectors],
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
    with pytest.raises(AssertionError):
        check(replay(name, torch.float64, mistake), name)


# --- what the fixtures say beside the first step ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["biggan/cifar-32", "biggan/imagenet-options-32"])
def test_the_orthogonal_gradient(name: str) -> None:
    made = replay(name, torch.float64)
    weights = {n: p for n, p in made.game.generator.named_parameters() if p.ndim > 1}
    assert all(getattr(p, "not_orthogonal", False) == (n == "shared.weight") for n, p in weights.items())
    gradients = {n: orthogonal_gradient(p.detach(), 1e-4) for n, p in weights.items() if n != "shared.weight"}
    official = made.mapping.official("generator", gradients)
    assert len(official) == len(gradients)
    made.compare("ortho_modified:G", {f"ortho_modified:G/{n.partition('/')[2]}": v for n, v in official.items()})


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
