"""StyleGAN2, and the configurations of StyleGAN2-ADA."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import click
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.architectures._stylegan2_files import STYLEGAN2_CLASSES, read_stylegan2
from ganzoo_plugins.architectures._stylegan2_networks import Discriminator, Generator, Sizes

#: steps between two uses of the penalties: path length for the generator, R1 for the discriminator
_PATH_EVERY, _R1_EVERY = 4, 16


def _adam(rate: float, every: int) -> str:
    """Adam whose steps are more by one in `every`: r = every / (every + 1), rate r, beta2 = 0.99^r (appendix B)."""
    share = every / (every + 1)
    return f"adam:lr={rate * share:.12g},beta1=0,beta2={0.99**share:.12g}"


def _settings(
    rate: float, gamma: float, batch: int, half_life: int, images: int, *, paths: bool = True, ramp: float = 0.0
) -> dict[str, Any]:
    """Fields of a recipe: losses, optimisers, batch, EMA and length."""
    lazy = ["path-length"] if paths else []
    return {
        "losses": [
            "nonsaturating",
            f"r1:gamma={gamma:.6g},every={_R1_EVERY}",
            *(f"{name}:every={_PATH_EVERY}" for name in lazy),
        ],
        "turns": "G,G.lazy,D,D.lazy" if paths else "G,D,D.lazy",
        "generator_optimizer": _adam(rate, _PATH_EVERY),
        "discriminator_optimizer": _adam(rate, _R1_EVERY),
        "batch_size": batch,
        "ema_half_life": half_life,
        "ema_buffers": "copied",
        "ema_ramp": ramp,
        "length": f"{images} images",
    }


def _auto(resolution: int) -> dict[str, Any]:
    """The configuration `auto` of the ADA program on one GPU."""
    batch = max(min(4096 // resolution, 32), 1)
    base = 32_768 if resolution >= 512 else 16_384
    rate = 0.002 if resolution >= 1024 else 0.0025
    settings = _settings(rate, 0.0002 * resolution**2 / batch, batch, batch * 10_000 // 32, 25_000_000, ramp=0.05)
    architecture = f"stylegan2:mapping_layers=2,channel_base={base},group={min(batch, 4)}"
    return {"architecture": architecture, "augmentations": ["ada"], **settings}


class StyleGAN2(ganzoo.Architecture):
    """StyleGAN2: a mapped latent modulates every convolution; skip generator, residual discriminator. 8 to 1024 pixels.

    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv:1912.04958), config F;
    Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (arXiv:2006.06676), appendix C, for
    the recipes `paper256`, `paper512`, `paper1024`, `cifar10`, `cifar10-unconditional` and `auto-32` to `auto-1024`
    (one GPU). Numbers of NVlabs/stylegan2-ada-pytorch at d72cc7d; the bare name is config F for 1024 pixels.

    Generator: latents are scaled to length sqrt(Z) and mapped by dense layers to a style w. At each resolution from 4
    pixels on, two 3x3 convolutions whose inputs are scaled by a linear map of w and whose outputs are divided by the
    expected deviation; noise and LeakyReLU after each; a 1x1 convolution to an image, added to the doubled image of the
    resolution below. Images are unbounded. `channel_base` / r channels at r pixels, at most `channel_max`.
    Discriminator: blocks of two 3x3 convolutions with a 1x1 shortcut (`residual`), the deviation over `group` images as
    one more channel at 4 pixels. With `classes` their embedding is appended to the latents, and the logit is the
    product of features and a map of the class. All weights are scaled when they are used.

    In training, two latents are mixed in a batch with probability `style_mixing`, and the noise is random. In inference
    the noise is one stored map, and an image is a group of its own for the discriminator.
    `ganzoo sample --truncation 0.7` pulls styles towards their moving mean.

    Departures: the fakes have the labels of the real minibatch, not labels drawn apart. With `--precision bf16` the
    `low_precision` highest resolutions compute in bfloat16, where the program uses float16 and scales the weights; its
    clamp of activations at 256 is kept. In batches that `group` does not divide, groups are smaller.
    """

    value_range = (-1.0, 1.0)
    bounded = False
    foreign_classes = STYLEGAN2_CLASSES
    recipe: ClassVar[ganzoo.Recipe] = ganzoo.Recipe.from_dict(
        {
            **_settings(0.002, 10, 32, 10_000, 25_000_000),
            "batch_order": "stream",
            "samples_every": "200k images",
            "checkpoint_every": "200k images",
            "tick_every": "50 steps",
            "grid": "4x8",
        }
    )
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper256": {
            "architecture": "stylegan2:channel_base=16384,group=8",
            "augmentations": ["ada"],
            **_settings(0.0025, 1, 64, 20_000, 25_000_000),
        },
        "paper512": {
            "architecture": "stylegan2:group=8",
            "augmentations": ["ada"],
            **_settings(0.0025, 0.5, 64, 20_000, 25_000_000),
        },
        "paper1024": {"augmentations": ["ada"], **_settings(0.002, 2, 32, 10_000, 25_000_000)},
        **{
            name: {
                "architecture": f"stylegan2:mapping_layers=2,residual=false,group=32,style_mixing=0{classes}",
                "dataset": "cifar10",
                "augmentations": ["ada"],
                **_settings(0.0025, 0.01, 64, 500_000, 100_000_000, paths=False, ramp=0.05),
            }
            for name, classes in (("cifar10", ",classes=true"), ("cifar10-unconditional", ""))
        },
        **{f"auto-{resolution}": _auto(resolution) for resolution in (32, 64, 128, 256, 512, 1024)},
        # not published: for the 1,498 training images of scikit-learn's digits, at 16x16, on a CPU
        "digits": {
            "architecture": "stylegan2:channel_base=512,channel_max=32,latent_dim=64,style_dim=64,mapping_layers=2",
            "dataset": "digits",
            **_settings(0.0025, 0.2, 32, 5000, 150_000),
            "samples_every": "15k images",
            "checkpoint_every": "50k images",
            "tick_every": "20 steps",
        },
        # not published: for a few hundred photos of your own, at 64x64, on a CPU
        "photos": {
            "architecture": "stylegan2:channel_base=1024,channel_max=64,latent_dim=64,style_dim=64,mapping_layers=2",
            "augmentations": ["ada:speed=100000"],
            **_settings(0.0025, 0.5, 16, 5000, 200_000),
            "samples_every": "5k images",
            "checkpoint_every": "20k images",
            "tick_every": "20 steps",
        },
    }

    suited: ClassVar[tuple[ganzoo.Suited, ...]] = (
        ganzoo.Suited(
            recipe="digits",
            sides=(8, 47),
            images=(1000, 1_000_000_000),
            device="cpu",
            with_classes={"classes": True},
            merit=6,
            needs=40_000,
            reason="draws sharp small images, at a width that a CPU can train",
        ),
        *(
            ganzoo.Suited(
                recipe="photos",
                sides=sides,
                device="cpu",
                options={"channel_base": 16 * resolution},
                with_classes={"classes": True},
                merit=6,
                needs=40_000,
                reason="learns from few images with adaptive augmentation, at a width that a CPU can train",
            )
            for resolution, sides in ((64, (24, 95)), (128, (96, 191)), (256, (192, 383)))
        ),
        *(
            ganzoo.Suited(
                recipe=f"auto-{resolution}",
                sides=(3 * resolution // 4, 3 * resolution // 2 - 1),
                device="cuda",
                with_classes={"classes": True},
                merit=8,
                needs=500_000,
                reason="draws sharp images, and learns from few of them with adaptive augmentation",
            )
            for resolution in (32, 64, 128, 256, 512, 1024)
        ),
    )

    def __init__(
        self,
        *,
        channel_base: Annotated[int, click.IntRange(min=8), "channels at r pixels are this / r"] = 32_768,
        channel_max: Annotated[int, click.IntRange(min=1), "channels at any resolution, at most"] = 512,
        latent_dim: Annotated[int, click.IntRange(min=1), "numbers in a latent"] = 512,
        style_dim: Annotated[int, click.IntRange(min=1), "numbers in a style"] = 512,
        mapping_layers: Annotated[int, click.IntRange(min=1), "layers from latent to style"] = 8,
        residual: Annotated[bool, "whether the discriminator has shortcuts"] = True,
        group: Annotated[int, click.IntRange(min=1), "images of a group for the deviation channel; 1: none"] = 4,
        classes: Annotated[bool, "whether the networks use the classes of the dataset"] = False,
        style_mixing: Annotated[float, click.FloatRange(0, 1), "probability that a batch mixes two latents"] = 0.9,
        noise: Annotated[
            Literal["random", "constant", "none"], "random: in training only, and in inference one stored map"
        ] = "random",
        clamp: Annotated[float, click.FloatRange(min=0), "largest activation; 0: any"] = 256.0,
        low_precision: Annotated[
            int, click.IntRange(min=0), "highest resolutions that compute in bfloat16 with --precision bf16"
        ] = 4,
    ) -> None:
        self.channel_base, self.channel_max = channel_base, channel_max
        self.latent_dim, self.style_dim, self.mapping_layers = latent_dim, style_dim, mapping_layers
        self.residual, self.group, self.conditional, self.style_mixing = residual, group, classes, style_mixing
        self.noise, self.clamp, self.low_precision = noise, clamp, low_precision

    @classmethod
    def read_foreign(cls, file: ganzoo.ForeignFile) -> ganzoo.ForeignWeights:
        """A .pkl of the program for PyTorch, such as network-snapshot-*.pkl."""
        return read_stylegan2(file)

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for squares of 8, 16, ..., 1024 pixels, with any number of channels."""
        size = images.height
        if size != images.width or size not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ganzoo.RefusedSpec(
                f"stylegan2 draws squares of 8, 16, 32, 64, 128, 256, 512 or 1024 pixels, not {size}x{images.width}; "
                f"give the dataset such a size, for example `mnist:size=32`."
            )
        classes = images.classes if self.conditional else 0
        sizes = Sizes(
            size, images.channels, classes, self.channel_base, self.channel_max, self.clamp, self.low_precision
        )
        generator = Generator(
            sizes, self.latent_dim, self.style_dim, self.mapping_layers, self.style_mixing, self.noise
        )
        return generator, Discriminator(sizes, self.group, self.residual)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent_dim), standard normal."""
        return torch.randn(count, self.latent_dim, generator=generator, device=generator.device)

    def truncated(self, generator: nn.Module, truncation: float) -> nn.Module:
        """The generator with styles pulled towards their mean: w_avg + truncation (w - w_avg)."""
        pulled = copy.copy(generator)
        pulled.truncation = truncation  # type: ignore[assignment]
        return pulled
