"""R3GAN, the conditional architectures and BEGAN: sizes, formulas, the effect of the class, recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import ZOO
from small_architectures import NAMES, assert_recipe, draw, parameter_count, small
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo
from ganzoo import Choice
from ganzoo.cli import cli
from ganzoo.engine.step import run_step
from ganzoo.registry.recipes import plan
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo_plugins.architectures import _r3gan_networks as r3gan
from ganzoo_plugins.architectures import began, cgan
from ganzoo_plugins.architectures.began import BEGAN
from ganzoo_plugins.architectures.cgan import CGAN
from ganzoo_plugins.architectures.r3gan import R3GAN
from ganzoo_plugins.architectures.sngan_projection import SNGANProjection
from ganzoo_plugins.layers.pyramid import base_size
from ganzoo_plugins.losses import boundary_equilibrium
from ganzoo_plugins.losses.boundary_equilibrium import BoundaryEquilibrium

CPU = torch.device("cpu")
CONDITIONAL = (CGAN, SNGANProjection)
ALL = (R3GAN, BEGAN, *CONDITIONAL)
MNIST = ganzoo.ImageSpec(1, 28, 28, 10)
FEW = torch.tensor([0, 1, 1, 9])


# --- sizes and counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "smallest", "expected"),
    [
        ((28, 28), 4, (7, 7, 2)),
        ((32, 32), 4, (4, 4, 3)),
        ((64, 64), 4, (4, 4, 4)),
        ((16, 24), 4, (4, 6, 2)),
        ((28, 28), 7, (7, 7, 2)),
        ((32, 32), 7, (8, 8, 2)),
        ((20, 20), 7, (10, 10, 1)),
    ],
)
def test_the_base_of_a_size(size: tuple[int, int], smallest: int, expected: tuple[int, int, int]) -> None:
    assert base_size(ganzoo.ImageSpec(1, *size), "x", smallest) == expected


def test_a_width_that_is_no_multiple_of_a_group_is_refused() -> None:
    with pytest.raises(ganzoo.UsageError, match="multiple of 8"):
        R3GAN(width=12)


#: by hand: a block of R3GAN at width 32 is a 1x1 to 64, a 3x3 of 64 in groups of 16, both with biases, a 1x1 to 32
R3GAN_BLOCK = (32 * 64 + 64) + (64 * 16 * 9 + 64) + 64 * 32
#: 2014, section 4.1; tables in place of linear maps of one-hot codes
CGAN_GENERATOR = (8 * 200 + 200) + 10 * 1000 + (1200 * 1200 + 1200) + (1200 * 784 + 784)
CGAN_DISCRIMINATOR = (784 * 240 * 5 + 240 * 5) + 10 * 50 * 5 + (290 * 240 * 4 + 240 * 4) + (240 + 1)
BEGAN_PAIRS = 3 * 2 * (32 * 32 * 9 + 32)
BEGAN_DECODER = (64 * 32 * 49 + 32 * 49) + BEGAN_PAIRS + (32 * 9 + 1)


@pytest.mark.parametrize(
    ("architecture", "images", "generator", "discriminator"),
    [
        (
            R3GAN(),
            ganzoo.ImageSpec(3, 28, 28),
            32 * 49 + 64 * 32 + 6 * R3GAN_BLOCK + 32 * 3,
            3 * 32 + 6 * R3GAN_BLOCK + 32 * 49 + 32,
        ),
        (R3GAN(), MNIST, 84_288, 82_272),
        (small(CGAN), MNIST, CGAN_GENERATOR, CGAN_DISCRIMINATOR),
        (BEGAN(), MNIST, BEGAN_DECODER, 717_665),
    ],
)
def test_parameter_counts(
    architecture: ganzoo.Architecture, images: ganzoo.ImageSpec, generator: int, discriminator: int
) -> None:
    assert [parameter_count(network) for network in architecture.networks(images)] == [generator, discriminator]


# --- R3GAN ------------------------------------------------------------------------------------------------------


def test_blocks_of_r3gan_are_the_identity_at_first() -> None:
    torch.manual_seed(0)
    for network in R3GAN(width=64).networks(ganzoo.ImageSpec(3, 32, 32)):
        blocks = [module for module in network.modules() if isinstance(module, r3gan.Block)]
        assert len(blocks) == 8  # two at each of 4, 8, 16 and 32 pixels
        features = torch.randn(2, 64, 8, 8)
        gain = math.sqrt(2 / 1.04) * 8**-0.25
        for block in blocks:
            assert torch.equal(block(features), features)
            assert block.conv1.weight.std().item() == pytest.approx(gain / 64**0.5, rel=0.05)
            assert block.conv2.weight.std().item() == pytest.approx(gain / (16 * 9) ** 0.5, rel=0.05)
            assert block.conv2.groups == 8
            assert not block.conv1.bias.any()


def test_a_block_of_r3gan_adds_its_branch() -> None:
    block = r3gan.Block(8, gain=1.0, groups=1)
    nn.init.normal_(block.conv3.weight)
    features = torch.randn(2, 8, 4, 4)
    inner = F.leaky_relu(block.conv2(F.leaky_relu(block.conv1(features), 0.2)), 0.2)
    torch.testing.assert_close(block(features), features + block.conv3(inner))


def test_resampling_is_bilinear_with_zeros_beyond_the_border() -> None:
    features = torch.randn(2, 3, 6, 8)
    halved, doubled = r3gan.Halving(3)(features), r3gan.Doubling(3)(features)
    # inside these are torch's own, which repeat the last pixel at the border
    inside = (..., slice(1, -1), slice(1, -1))
    bilinear = F.interpolate(features, scale_factor=2, mode="bilinear")
    antialiased = F.interpolate(features, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(doubled[inside], bilinear[inside])
    torch.testing.assert_close(halved[inside], antialiased[inside])
    flat = torch.ones(1, 3, 6, 8)
    assert r3gan.Doubling(3)(flat)[0, 0, 0, 0].item() == (3 / 4) ** 2
    assert r3gan.Halving(3)(flat)[0, 0, 0, 0].item() == (7 / 8) ** 2


def test_r3gan_has_no_normalisation() -> None:
    for network in small(R3GAN).networks(MNIST):
        assert not network.state_dict().keys() - dict(network.named_parameters()).keys()
        assert not any("Norm" in type(module).__name__ for module in network.modules())


# --- BEGAN ------------------------------------------------------------------------------------------------------


def test_logits_of_began_are_minus_the_error_of_reconstruction() -> None:
    _, discriminator = small(BEGAN).networks(MNIST)
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    reconstructed = discriminator.autoencoder(images)
    assert reconstructed.shape == images.shape
    logits = discriminator(images, FEW)
    assert logits.shape == (4,)
    for index in range(4):
        error = (images[index] - reconstructed[index]).abs().sum() / 784
        assert logits[index].item() == pytest.approx(-error.item(), rel=1e-5)
    assert (logits < 0).all()
    perfect = began.Discriminator(nn.Identity())
    assert torch.equal(perfect(images, FEW), torch.zeros(4))  # the largest possible logit


def test_the_autoencoder_has_a_bottleneck() -> None:
    _, discriminator = small(BEGAN).networks(ganzoo.ImageSpec(3, 32, 32))
    middle = discriminator.autoencoder[0](torch.rand(4, 3, 32, 32))
    assert middle.shape == (4, 6)
    widths = [layer.out_channels for layer in discriminator.autoencoder[0] if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 4, 4, 4, 8, 8, 8, 12, 12]  # 4 channels more at each smaller size


class FixedRound:
    """A round with given logits."""

    def __init__(self, reals: Tensor, fakes: Tensor) -> None:
        self.real_logits, self.fake_logits = reals, fakes


def test_k_follows_the_formula() -> None:
    loss, k = BoundaryEquilibrium(gamma=0.5, rate=0.1), 0.0
    for real_error, fake_error in [(0.8, 0.1), (0.6, 0.2), (0.4, 0.5), (0.2, 0.3)]:
        reals = torch.tensor([-real_error - 0.1, -real_error + 0.1], requires_grad=True)
        fakes = torch.tensor([-fake_error, -fake_error], requires_grad=True)
        loss_value = loss.discriminator(FixedRound(reals, fakes))
        assert loss_value.item() == pytest.approx(real_error - k * fake_error, abs=1e-6)
        # the gradient is computed after k has changed, with the k of the loss
        slopes = torch.autograd.grad(loss_value, [reals, fakes])
        torch.testing.assert_close(slopes[0], torch.full((2,), -0.5))
        torch.testing.assert_close(slopes[1], torch.full((2,), k / 2))
        k = min(1.0, max(0.0, k + 0.1 * (0.5 * real_error - fake_error)))
        assert loss.k.item() == pytest.approx(k, abs=1e-6)
        before = loss.k.clone()
        assert loss.generator(FixedRound(reals, fakes)).item() == pytest.approx(fake_error, abs=1e-6)
        assert torch.equal(loss.k, before)


@pytest.mark.parametrize(("errors", "end"), [((10.0, 0.0), 1.0), ((0.0, 10.0), 0.0)])
def test_k_stays_between_zero_and_one(errors: tuple[float, float], end: float) -> None:
    loss = BoundaryEquilibrium(rate=0.3)
    loss.k.fill_(0.5)
    memory = loss.k.data_ptr()
    loss.discriminator(FixedRound(*(torch.tensor([-error], requires_grad=True) for error in errors)))
    assert loss.k.item() == end
    assert loss.k.data_ptr() == memory  # in place: a recorded CUDA graph reads this memory
    assert not loss.k.requires_grad


def test_k_is_updated_with_the_means_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank with the errors 0.8 and 0.1, the other with 0.4 and 0.5."""

    class TwoRanks:
        @staticmethod
        def is_initialized() -> bool:
            return True

        @staticmethod
        def get_world_size() -> int:
            return 2

        @staticmethod
        def all_reduce(imbalance: Tensor) -> None:
            assert imbalance.item() == pytest.approx(0.5 * 0.8 - 0.1, abs=1e-6)
            imbalance += 0.5 * 0.4 - 0.5

    monkeypatch.setattr(boundary_equilibrium, "dist", TwoRanks)
    loss = BoundaryEquilibrium(gamma=0.5, rate=1.0)
    loss.k.fill_(0.5)
    loss.discriminator(FixedRound(torch.tensor([-0.8]), torch.tensor([-0.1])))
    assert loss.k.item() == pytest.approx(0.5 + (0.5 * 0.6 - 0.3), abs=1e-6)


def setup_of(name: str, variant: str | None = None, **changes: Any) -> TrainingSetup:
    recipe = plan(ZOO, Choice.parse(name), Choice.parse("digits:size=16"), variant, {"batch_size": 8, **changes})
    return build_setup(recipe, ZOO, CPU)


def run_steps(setup: TrainingSetup, first: int, last: int) -> None:
    for step in range(first, last):
        run_step(setup.game, setup.feed, setup.recipe.seed, step)


def test_began_resumes_with_its_k() -> None:
    whole, halves = setup_of("began:width=4"), setup_of("began:width=4")
    run_steps(whole, 0, 2)
    saved = {name: value.clone() for name, value in whole.game.state().items()}
    assert saved["loss0/k"] > 0
    halves.game.restore(saved)
    for setup in (whole, halves):
        run_steps(setup, 2, 4)
    ended = halves.game.state()
    assert all(torch.equal(value, ended[name]) for name, value in whole.game.state().items())
    assert ended["loss0/k"] != saved["loss0/k"]


# --- conditional ones -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", CONDITIONAL)
def test_both_networks_depend_on_the_class(architecture: type[ganzoo.Architecture]) -> None:
    assert architecture.conditional
    setup = setup_of(
        {CGAN: "cgan", SNGANProjection: "sngan-projection:width=4"}[architecture], turns="D,G", batch_size=64
    )
    run_steps(setup, 0, 2)  # conditional batch norm has equal initial values for all classes
    generator, discriminator = setup.game.generator.eval(), setup.game.discriminator.eval()
    latents = draw(setup.architecture, 1).expand(10, -1)
    labels = torch.arange(10)
    with torch.no_grad():
        images = generator(latents, labels)
        logits = discriminator(images[:1].expand(10, -1, -1, -1), labels).flatten()
    assert len(images.flatten(1).unique(dim=0)) == 10
    assert len(logits.unique()) == 10
    assert torch.equal(generator(latents[:1], labels[7:8]), generator(latents[:1], labels[7:8]))


@pytest.mark.parametrize("architecture", CONDITIONAL)
def test_one_class_is_allowed(architecture: type[ganzoo.Architecture]) -> None:
    made = small(architecture)
    generator, discriminator = made.networks(ganzoo.ImageSpec(1, 16, 16))
    zeros = torch.zeros(4, dtype=torch.int64)
    logits = discriminator(generator(draw(made), zeros), zeros)
    assert logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("architecture", [R3GAN, BEGAN])
def test_the_others_do_not_use_labels(architecture: type[ganzoo.Architecture]) -> None:
    assert not architecture.conditional
    made = small(architecture)
    generator, discriminator = made.networks(MNIST)
    images = generator(draw(made), FEW)
    assert torch.equal(images, generator(draw(made), 9 - FEW))
    assert torch.equal(discriminator(images, FEW), discriminator(images, 9 - FEW))


def test_the_projection_is_equation_3() -> None:
    torch.manual_seed(0)
    _, discriminator = SNGANProjection(width=4).networks(MNIST)
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    for _ in range(100):
        discriminator(images, FEW)  # the power iteration settles
    discriminator.eval()
    features = discriminator.features(images).sum(dim=(2, 3))  # (4, width)
    row, rows = (layer.parametrizations.weight.original for layer in (discriminator.linear, discriminator.projection))
    row, rows = (weight / torch.linalg.matrix_norm(weight, ord=2) for weight in (row, rows))
    expected = [features[index] @ row[0] + features[index] @ rows[label] for index, label in enumerate(FEW)]
    torch.testing.assert_close(discriminator(images, FEW).flatten(), torch.stack(expected), rtol=1e-3, atol=1e-3)


def test_maxout_takes_the_largest_piece() -> None:
    values = torch.tensor([[1.0, 5.0, 2.0, -3.0, -1.0, -2.0]])
    assert cgan.maxout(values, 3).tolist() == [[5.0, -1.0]]
    assert cgan.maxout(values, 2).tolist() == [[5.0, 2.0, -1.0]]


@pytest.mark.parametrize("name", ["cgan", "sngan-projection"])
def test_a_class_can_be_sampled(name: str, tmp_path: Path) -> None:
    def command(*arguments: str) -> None:
        result = CliRunner().invoke(cli, arguments, prog_name="ganzoo")
        assert result.exit_code == 0, result.output

    run = str(tmp_path / "run")
    command("train", name, "digits", "--recipe", "digits", "--steps", "3", "--batch-size", "8", "--out", run, "-q")
    drawn = {}
    for label in ("3", "7", "again 7"):
        out = tmp_path / f"{label}.npy"
        command("sample", run, "--class", label[-1], "-n", "6", "-o", str(out))
        drawn[label] = np.load(out)
    assert drawn["7"].shape == (6, 1, 16, 16)
    assert np.array_equal(drawn["7"], drawn["again 7"])
    assert not np.array_equal(drawn["7"], drawn["3"])
    command("sample", run, "-o", str(tmp_path / "grid.png"))
    assert (tmp_path / "grid.png").exists()


# --- recipes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [None, "digits"])
@pytest.mark.parametrize("name", [NAMES[part] for part in ALL])
def test_every_one_trains_with_its_own_recipe(name: str, variant: str | None) -> None:
    """Two finite steps; then every parameter of both networks has a gradient from its own loss."""
    narrow = {"r3gan": ":width=8", "began": ":width=4", "sngan-projection": ":width=4", "cgan": ""}[name]
    setup = setup_of(name + narrow, variant)
    before = {key: value.clone() for key, value in setup.game.state().items()}
    run_steps(setup, 0, 2)
    for key, value in setup.game.state().items():
        assert value.isfinite().all(), key
        if key.startswith(("generator/", "discriminator/")) and key.endswith(("weight", "original")):
            assert not torch.equal(value, before[key]), key
    (batch,) = setup.feed.fill(2)[:1]
    for player, network in (("D", setup.game.discriminator), ("G", setup.game.generator)):
        turn = next(turn for turn in setup.game.turns if setup.game.players[player] in turn.players)
        loss = setup.game.players[player].loss(setup.game.round(turn, batch))
        for parameter, gradient in zip(
            network.parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
        ):
            assert gradient.isfinite().all()
            # a bias of the logit has no gradient in a loss of differences between logits
            assert gradient.any() or parameter.numel() == 1, (player, parameter.shape)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (
            R3GAN,
            {
                "losses": "relativistic r1:gamma=0.1 r2:gamma=0.1",
                "turns": "D,G.new",
                "generator_optimizer": "adam:lr=2e-4,beta1=0.0,beta2=0.99",
            },
        ),
        (CGAN, {"losses": "nonsaturating", "batch_size": "100"}),
        (
            BEGAN,
            {"losses": "boundary-equilibrium:gamma=0.5,rate=1e-3", "turns": "D+G", "batch_size": "16"},
        ),
        (
            SNGANProjection,
            {
                "losses": "hinge",
                "turns": "D,D,D,D,D,G",
                "discriminator_optimizer": "adam:lr=2e-4,beta1=0,beta2=0.9,decay=linear",
                "batch_size": "64",
                "length": "50000 steps",
            },
        ),
    ],
)
def test_recipes_hold_the_published_numbers(
    architecture: type[ganzoo.Architecture], expected: Mapping[str, str]
) -> None:
    assert_recipe(architecture.recipe, expected)
    assert R3GAN.recipe.ema_half_life > 0
