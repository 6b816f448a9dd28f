"""Published programs whose first steps were recorded: dcgan-pytorch, the two of sngan, wgan-gp, biggan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from published import Published, PublishedReplay, Turn
from torch import Tensor

import ganzoo
from ganzoo.engine.game import Game
from ganzoo_plugins.architectures.biggan import BigGAN
from ganzoo_plugins.architectures.dcgan_pytorch import DCGANPyTorch
from ganzoo_plugins.architectures.sngan import SNGAN
from ganzoo_plugins.architectures.sngan_projection import SNGANProjection
from ganzoo_plugins.architectures.wgan_gp import WGANGP
from ganzoo_plugins.losses.hinge import Hinge
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.losses.wasserstein import Wasserstein
from ganzoo_plugins.optimizers._orthogonal import orthogonal_gradient
from ganzoo_plugins.optimizers.adam import Adam
from ganzoo_plugins.optimizers.keras import KerasAdam
from ganzoo_plugins.penalties.gradient_penalty import GradientPenalty

PARTS: dict[str, type] = {
    "adam": Adam,
    "hinge": Hinge,
    "keras-adam": KerasAdam,
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
#: the program in Chainer: a turn of the generator on 8 fakes, then two of the discriminator on 4 reals and 4 fakes
CHAINER_ADAM = "keras-adam:lr=2e-4,beta1=0,beta2=0.9,eps=1e-8"
CHAINER = {"turns": "G,D,D", "batch_size": 4, "preprocessing": ""}
CHAINER |= {"generator_optimizer": CHAINER_ADAM, "discriminator_optimizer": CHAINER_ADAM}
CHAINER_TURNS = (TURNS[2], *TURNS[:2])
BIGGAN = {"batch_size": 4, "ema_half_life": 0, "ema_start": 0}
#: turns of the discriminator look at fakes first, and at all four images of them with the reals at once
BIGGAN_TURNS = (
    Turn("z_d00", "y_d00", "x00", "y_x00", group="grad0:D"),
    Turn("z_d01", "y_d01", "x01", "y_x01", group="grad0:D1 is not recorded"),
    Turn("z_g0", "y_g0", group="grad0:G"),
)


def _read_chainer(file: ganzoo.ForeignFile, last: str) -> ganzoo.ForeignWeights:
    """The networks of pfnet-research/sngan_projection under our names; `last` is our name of the last dense layer."""
    layers = {"c1": "conv1", "c2": "conv2", "c_sc": "shortcut", "b1": "bn1", "b2": "bn2"}
    outer = {"l1": "dense", "b5": "bn", "c5": "conv", "l5": last, "l_y": "projection"}
    spectral = {"W": "parametrizations.weight.original", "u": "parametrizations.weight.0._u"}
    spectral |= {"v": "parametrizations.weight.0._v", "b": "bias"}
    plain = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "gammas.W": "scale.weight"}
    plain |= {"betas.W": "shift.weight", "avg_mean": "running_mean", "avg_var": "running_var"}
    tensors, found = file.below(""), {}
    generator = "l1.W" in tensors
    for name, value in tensors.items():
        layer, _, rest = name.partition(".")
        place = outer.get(layer, "")
        if not place:
            part, _, rest = rest.partition(".")
            number = int(layer.removeprefix("block"))
            place = f"blocks.{number - 2}" if generator else f"features.blocks.{number - 1}"
            place += f".{layers[part]}"
            if rest.startswith("avg_") and f"{layer}.{part}.gammas.W" in tensors:
                place += ".norm"
        own = (plain if generator else spectral)[rest]
        found[f"{place}.{own}"] = value.flatten() if own.endswith(("_u", "_v")) else value
        if own == "running_mean":
            found[f"{place}.num_batches_tracked"] = torch.tensor(0)
    if not generator:
        options, images = {"width": len(tensors["block1.c1.W"])}, {"channels": 3, "height": 32, "width": 32}
        return ganzoo.ForeignWeights(options=options, images=images, discriminator=found)
    tables = [value for name, value in tensors.items() if name.endswith("gammas.W")]
    images = {"classes": len(tables[0])} if tables else {}
    width, latents = len(tensors["b5.avg_mean"]), tensors["l1.W"].shape[1]
    options = {"generator_width": width, "latent_dim": latents}
    return ganzoo.ForeignWeights(options=options, images=images, generator=found)


class ChainerSNGAN(SNGAN):
    """`sngan`, read from the recorded weights of its authors' program."""

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        return _read_chainer(file, "dense")


class ChainerSNGANProjection(SNGANProjection):
    """`sngan-projection`, read from the recorded weights of its authors' program."""

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        return _read_chainer(file, "linear")


#: fixture -> architecture, changes of its recipe, turns
CASES: dict[str, tuple[type[ganzoo.Architecture], dict[str, Any], tuple[Turn, ...]]] = {
    "dcgan/pytorch-examples-64": (DCGANPyTorch, {"batch_size": 4}, DCGAN_TURNS),
    "sngan/mimicry-sngan-32": (SNGAN, MIMICRY, TURNS),
    "sngan/pfnet-32": (ChainerSNGAN, CHAINER, CHAINER_TURNS),
    "sngan-projection/pfnet-32": (ChainerSNGANProjection, CHAINER, CHAINER_TURNS),
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
#: the tables of the manifests have the loss of wgan-gp without its penalty, and that of biggan of one turn alone; the
#: gradients are those of both
_OTHER_LOSSES = ("wgan-gp/mimicry-wgan-gp-32", "biggan/cifar-32")


def replay(name: str, dtype: torch.dtype, mistake: Callable[[Game], None] = lambda game: None) -> PublishedReplay:
    """The game of a fixture before its first step, with its recorded weights."""
    architecture, changes, _ = CASES[name]
    return PublishedReplay(Published(name), architecture, changes, PARTS, dtype, mistake)


def first_step(made: PublishedReplay) -> dict[str, float]:
    """The errors of outputs, losses, gradients and weights of the first step, by group of the recorded names."""
    name = made.fixture.name
    made.compare_outputs()
    made.train_first_step(CASES[name][2])
    made.state("after0:G", "generator")
    made.state("after0:D", "discriminator", ("_u", "_v"))
    made.losses(("discriminator_loss",) if name in _OTHER_LOSSES else ())
    return made.errors


def power_iteration(made: PublishedReplay) -> None:
    """Three forwards of the discriminator from vectors that have not converged: its logits and the vectors."""
    made.set_weights(made.weights | made.fixture.draw("power_weights"))
    discriminator, images = made.game.discriminator.train(), made.tensor("x_fixed")
    labels = made.labels("y_fixed", len(images))
    with torch.no_grad():
        found = {f"power/d_logit_x_forward{n}": discriminator(images, labels).numpy() for n in range(3)}
    made.compare("power", {name: logits.reshape(made.fixture.numbers[name].shape) for name, logits in found.items()})
    after = made.mapping.official("discriminator", discriminator.state_dict())
    vectors = {
        f"power/after3/{name if name.endswith('/u') else name.partition('/')[2]}": value
        for name, value in after.items()
        if name.endswith(("_u", "_v", "/u"))
    }
    assert len(vectors) >= 10
    made.compare("power", vectors)


def orthogonal(made: PublishedReplay) -> None:
    """The orthogonal gradient of all weights of the generator that have one."""
    weights: Mapping[str, Tensor] = {n: p for n, p in made.game.generator.named_parameters() if p.ndim > 1}
    assert all(getattr(p, "not_orthogonal", False) == (n == "shared.weight") for n, p in weights.items())
    gradients = {n: orthogonal_gradient(p.detach(), 1e-4) for n, p in weights.items() if n != "shared.weight"}
    official = made.mapping.official("generator", gradients)
    assert len(official) == len(gradients)
    made.compare("ortho_modified:G", {f"ortho_modified:G/{n.partition('/')[2]}": v for n, v in official.items()})


def measured(name: str, dtype: torch.dtype) -> dict[str, float]:
    """The errors of everything that was recorded of the first step, by group of the recorded names."""
    made = replay(name, dtype)
    if name.startswith("biggan/"):
        orthogonal(made)
    first_step(made)
    if "power_weights" in made.fixture.manifest:
        power_iteration(made)
    return made.errors
