"""What every architecture of the zoo does: image sizes, refusals, seeds, latents, evaluation mode, descriptions."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping

import pytest
import torch
from helpers import ZOO
from small_architectures import NAMES, SMALL, draw, small
from torch import Tensor

import ganzoo
from ganzoo_plugins.architectures.began import BEGAN
from ganzoo_plugins.architectures.biggan import BigGAN
from ganzoo_plugins.architectures.cgan import CGAN
from ganzoo_plugins.architectures.dcgan import DCGAN
from ganzoo_plugins.architectures.dcgan_atienza import DCGANAtienza
from ganzoo_plugins.architectures.dcgan_atienza_book import DCGANAtienzaBook
from ganzoo_plugins.architectures.dcgan_pytorch import DCGANPyTorch
from ganzoo_plugins.architectures.dcgan_tutorial import DCGANTutorial
from ganzoo_plugins.architectures.infogan_nets import InfoGANNets
from ganzoo_plugins.architectures.mlp_keras_gan import MLPKerasGAN
from ganzoo_plugins.architectures.mlp_vanilla import MLPVanilla
from ganzoo_plugins.architectures.r3gan import R3GAN
from ganzoo_plugins.architectures.sngan import SNGAN
from ganzoo_plugins.architectures.sngan_projection import SNGANProjection
from ganzoo_plugins.architectures.stylegan2 import StyleGAN2
from ganzoo_plugins.architectures.wgan_gp import WGANGP

ALL = tuple(NAMES)
MNIST = ganzoo.ImageSpec(1, 28, 28, 10)
#: architectures that need a power of two
POWERS_OF_2 = {StyleGAN2}
FEW = torch.tensor([0, 1, 1, 9])


def spec_of(architecture: type[ganzoo.Architecture]) -> ganzoo.ImageSpec:
    """Images that the architecture accepts."""
    return ganzoo.ImageSpec(1, 32, 32, 10) if architecture in POWERS_OF_2 else MNIST


def test_these_are_all_architectures_of_the_zoo() -> None:
    assert set(NAMES.values()) == set(ZOO.names("architectures"))
    assert NAMES.keys() == SMALL.keys()


# --- sizes ------------------------------------------------------------------------------------------------------

ORIGIN_SIZES = [(28, 28), (32, 32), (64, 64), (4, 12)]
SIZES: Mapping[type[ganzoo.Architecture], list[tuple[int, int]]] = {
    DCGANTutorial: ORIGIN_SIZES,
    DCGANAtienza: ORIGIN_SIZES,
    DCGANAtienzaBook: ORIGIN_SIZES,
    MLPKerasGAN: ORIGIN_SIZES,
    MLPVanilla: ORIGIN_SIZES,
    DCGAN: [(8, 8), (16, 16), (28, 28), (32, 32), (45, 31), (64, 64), (100, 16), (128, 128)],
    DCGANPyTorch: [(8, 8), (16, 16), (28, 28), (64, 64), (16, 24)],
    InfoGANNets: [(4, 12), (28, 28), (32, 32), (64, 64)],
    WGANGP: [(16, 16), (20, 28), (28, 28), (32, 32), (36, 60), (48, 48), (64, 64), (16, 64)],
    BigGAN: [(8, 8), (16, 24), (28, 28), (32, 32), (64, 64)],
    SNGAN: [(16, 16), (28, 28), (32, 32), (64, 64)],
    R3GAN: [(4, 4), (16, 16), (28, 28), (32, 32), (64, 64), (16, 24)],
    BEGAN: [(8, 8), (16, 16), (28, 28), (32, 32), (64, 64), (16, 24)],
    CGAN: [(5, 7), (28, 28), (64, 64)],
    SNGANProjection: [(16, 16), (28, 28), (32, 32), (64, 64)],
    StyleGAN2: [(8, 8), (16, 16), (32, 32), (64, 64)],
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("architecture", "size"), [(part, size) for part in ALL for size in SIZES[part]])
def test_any_size_and_channels(architecture: type[ganzoo.Architecture], size: tuple[int, int], channels: int) -> None:
    made = small(architecture)
    generator, discriminator = made.networks(ganzoo.ImageSpec(channels, *size, classes=10))
    low, high = made.value_range
    for latents in (draw(made), 1000 * draw(made)):
        images = generator(latents, FEW)
        assert images.shape == (4, channels, *size)
        assert images.isfinite().all()
        if made.bounded:
            assert low <= images.min() < images.max() <= high
        logits = discriminator(images, FEW)
        assert len(logits) == logits.numel() == 4
        assert logits.isfinite().all()


MULTIPLES_OF_4 = "multiples of 4.*mnist:size=32"


@pytest.mark.parametrize(
    ("architecture", "size", "expected"),
    [
        *(
            (part, size, MULTIPLES_OF_4)
            for part in (DCGANTutorial, DCGANAtienza, DCGANAtienzaBook)
            for size in [(30, 28), (28, 30)]
        ),
        (InfoGANNets, (30, 28), MULTIPLES_OF_4),
        (DCGAN, (7, 28), "from 8 to 128"),
        (DCGAN, (64, 129), "from 8 to 128"),
        *(
            (part, size, "from 16 to 64 that are multiples of 4")
            for part in (WGANGP, SNGAN, SNGANProjection)
            for size in [(12, 28), (28, 68), (30, 28)]
        ),
        *((R3GAN, size, "4 to 7 pixels") for size in [(30, 30), (3, 3), (28, 26)]),
        (DCGANPyTorch, (30, 30), "4 to 7 pixels"),
        (DCGANPyTorch, (5, 5), "at least 8"),
        (BigGAN, (30, 30), "4 to 7 pixels"),
        (BigGAN, (4, 4), "from 8 to 256"),
        (BEGAN, (30, 30), "7 to 13 pixels"),
        *((StyleGAN2, size, "squares of 8") for size in [(28, 28), (32, 64)]),
    ],
)
def test_an_unsupported_size_is_refused(
    architecture: type[ganzoo.Architecture], size: tuple[int, int], expected: str
) -> None:
    with pytest.raises(ganzoo.RefusedSpec, match=expected) as refusal:
        small(architecture).networks(ganzoo.ImageSpec(1, *size))
    assert str(refusal.value).startswith(NAMES[architecture])
    assert f"not {size[0]}x{size[1]}" in str(refusal.value)


# --- seeds and latents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ALL)
def test_the_same_seed_gives_the_same_model(architecture: type[ganzoo.Architecture]) -> None:
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [
            tensor
            for network in small(architecture).networks(spec_of(architecture))
            for tensor in network.state_dict().values()
        ]

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


#: architecture -> whether its latents are uniform in [-1, 1) (else standard normal), and how many numbers a latent has
LATENTS = {
    DCGANTutorial: ("normal", 100),
    DCGANAtienza: ("uniform", 100),
    DCGANAtienzaBook: ("uniform", 100),
    MLPKerasGAN: ("normal", 100),
    MLPVanilla: ("uniform", 100),
    DCGAN: ("uniform", 100),
    DCGANPyTorch: ("normal", 100),
    InfoGANNets: ("uniform", 64),
    WGANGP: ("normal", 128),
    BigGAN: ("normal", 128),
    SNGAN: ("normal", 128),
    R3GAN: ("normal", 64),
    BEGAN: ("uniform", 64),
    CGAN: ("uniform", 100),
    SNGANProjection: ("normal", 128),
    StyleGAN2: ("normal", 512),
}


@pytest.mark.parametrize("architecture", ALL)
def test_latents_come_from_the_generator_given(architecture: type[ganzoo.Architecture]) -> None:
    made = architecture()
    distribution, dimensions = LATENTS[architecture]
    before = torch.get_rng_state()
    latents = draw(made, 1000)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(latents, draw(made, 1000))
    assert not torch.equal(latents, draw(made, 1000, seed=1))
    assert latents.shape == (1000, dimensions)
    assert latents.dtype == torch.float32
    assert latents.mean().item() == pytest.approx(0, abs=0.02)
    assert latents.std().item() == pytest.approx(3**-0.5 if distribution == "uniform" else 1, rel=0.02)
    largest = latents.abs().max()
    assert largest <= 1 if distribution == "uniform" else 3 < largest <= 9


# --- evaluation mode --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ALL)
def test_evaluation_mode_is_deterministic_and_a_copy_is_the_same(architecture: type[ganzoo.Architecture]) -> None:
    made = small(architecture)
    latents = draw(made)
    networks = made.networks(spec_of(architecture))
    images = networks[0](latents, FEW).detach()
    for network, given in zip(networks, (latents, images), strict=True):
        network(given, FEW)  # changes moving statistics and the vectors of power iterations
        network.eval()
        output = network(given, FEW)
        assert torch.equal(output, network(given, FEW))
        # the output for an image does not depend on the other images of the batch
        assert torch.allclose(output[:2], network(given[:2], FEW[:2]), atol=1e-6)
        assert torch.equal(output, copy.deepcopy(network)(given, FEW))
    for network, other, given in zip(networks, made.networks(spec_of(architecture)), (latents, images), strict=True):
        other.load_state_dict(network.state_dict())
        assert torch.equal(other.eval()(given, FEW), network(given, FEW))


# --- descriptions and recipes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ALL)
def test_every_variant_is_valid_and_every_docstring_names_its_source(architecture: type[ganzoo.Architecture]) -> None:
    for changes in architecture.recipes.values():
        architecture.recipe.merged(changes)
    assert "Source:" in (inspect.getdoc(architecture) or "")
