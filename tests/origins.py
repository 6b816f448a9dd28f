"""The five origin systems: the seeds of their weights and inputs, and the names of their recorded numbers.

`tests/golden/README.md` explains the recorded numbers. Names and layouts are those of Keras.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ganzoo
from ganzoo_plugins.architectures.dcgan_atienza import DCGANAtienza
from ganzoo_plugins.architectures.dcgan_atienza_book import DCGANAtienzaBook
from ganzoo_plugins.architectures.dcgan_tutorial import DCGANTutorial
from ganzoo_plugins.architectures.mlp_keras_gan import MLPKerasGAN
from ganzoo_plugins.architectures.mlp_vanilla import MLPVanilla

GOLDEN = Path(__file__).parent / "golden"


@dataclasses.dataclass(frozen=True)
class Origin:
    """One system: the seed of its weights, and the names of its recorded numbers."""

    name: str
    architecture: Callable[[], ganzoo.Architecture]
    seed: int
    init_sha256: str
    inputs_sha256: str
    #: names of the updates of a step, and of the weights after each
    updates: tuple[str, ...]
    after: tuple[str, ...]
    #: the recorded latents of each turn of a step; `-` for a turn that does not use them
    latents: tuple[str, ...]
    #: name of a running mean of the engine -> the recorded values of which it is the mean
    scalars: Mapping[str, tuple[str, ...]]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prefix: str = ""
    #: drift of float32 by rounding in five steps: largest and mean difference of weights, largest of losses
    drift: tuple[float, float, float] = (2e-6, 2e-7, 1e-5)
    #: biases that a batch norm cancels: their gradients are rounding noise
    cancelled: tuple[str, ...] = ()
    normal_latents: bool = False
    normal_kernels: bool = False

    @functools.cached_property
    def golden(self) -> dict[str, np.ndarray]:
        """The recorded numbers."""
        with np.load(GOLDEN / f"{self.name}.npz") as file:
            return dict(file)


_ATIENZA = Origin(
    name="dcgan-atienza",
    architecture=lambda: DCGANAtienza(dropout=0.0, keras="2.15"),
    seed=20170,
    init_sha256="6ffbb342431d900c30269cf2bcf67ab533e57c7c8971d03a49681279afab438c",
    inputs_sha256="d6039f4a0d1430cb923944d40c19c86fafe64cfcdbe0171f92628d21ac140e34",
    updates=("d_step", "a_step"),
    after=("after_d_1", "step1"),
    latents=("z_d", "z_g"),
    scalars={"discriminator_loss": ("d",), "discriminator_accuracy": ("d_acc",), "generator_loss": ("a",)},
    changes=DCGANAtienza.recipes["keras-2.15"],
    # rounding can switch a ReLU on or off, which changes all later values; TensorFlow's float32 drifts as far from
    # float64
    drift=(5e-4, 4e-5, 1e-2),
    cancelled=("G/dense/bias", "G/convt1/bias", "G/convt2/bias", "G/convt3/bias"),
)

ORIGINS = {
    "dcgan-tutorial": Origin(
        name="dcgan-tutorial",
        architecture=lambda: DCGANTutorial(dropout=0.0),
        seed=20191,
        init_sha256="60fe22a0ebce57e3b0f1305c15ff939074cdc512d4935da6f2fbd7e92231c3df",
        inputs_sha256="be4e3494ab1d8ef4370c858e9b3b3b47d067a6b52db9c87f339f1f223d898db0",
        updates=("d_step", "g_step"),
        after=("", "step1"),
        latents=("z_g",),
        scalars={"discriminator_loss": ("disc",), "generator_loss": ("gen",)},
        drift=(1e-5, 2e-6, 1e-5),
        normal_latents=True,
    ),
    "dcgan-atienza, Keras 2.15": _ATIENZA,
    "dcgan-atienza, Keras 2.0.4": dataclasses.replace(
        _ATIENZA, architecture=lambda: DCGANAtienza(dropout=0.0), prefix="k204_", changes={}
    ),
    "dcgan-atienza-book": Origin(
        name="dcgan-atienza-book",
        architecture=DCGANAtienzaBook,
        seed=20180,
        init_sha256="e56086a99cfcd6090d839d0542154c336aec8d6e87da25e2a1b334d46a60c00a",
        inputs_sha256="203c01e13ffdccfd4516dc3c5284ef018b9f0a076178ba815c485843ce03db06",
        updates=("d_step", "a_step"),
        after=("after_d_1", "step1"),
        latents=("z_d", "z_g"),
        scalars=_ATIENZA.scalars,
        drift=(2e-4, 1e-5, 1e-4),
        cancelled=("G/convt1/bias", "G/convt2/bias", "G/convt3/bias"),
    ),
    "mlp-keras-gan": Origin(
        name="mlp-keras-gan",
        architecture=MLPKerasGAN,
        seed=20182,
        init_sha256="96bf2d34a0982019347f4f12730efc2bda9aed3c8ca7bd53280e2bfef5ae77f1",
        inputs_sha256="e34cce6bcc46baac7d9421ec1a79588bf6b03b5b7a0bbf1e3e3a8239195d1f50",
        updates=("d_real_step", "d_fake_step", "g_step"),
        after=("after_d_real_1", "after_d_fake_1", "step1"),
        latents=("-", "z_d", "z_g"),
        scalars={
            "discriminator_loss": ("d_real", "d_fake"),
            "discriminator_accuracy": ("d_real_acc", "d_fake_acc"),
            "generator_loss": ("g",),
        },
        normal_latents=True,
    ),
    "mlp-vanilla": Origin(
        name="mlp-vanilla",
        architecture=MLPVanilla,
        seed=20172,
        init_sha256="4b3e24185aa05a583a0ea25474e589a8cde5e39546096961ceec9fb15979cc4a",
        inputs_sha256="55758bef3d629246500a9864cca59adcb79db835836bf162c5b4e7cd4030c72a",
        updates=("d_step", "g_step"),
        after=("after_d_1", "step1"),
        latents=("z_d", "z_g"),
        scalars={"discriminator_loss": ("d",), "generator_loss": ("g",)},
        normal_kernels=True,
    ),
}
